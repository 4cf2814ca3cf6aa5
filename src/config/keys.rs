//! The journal's keys as they are written: 32 bytes each in base64, newest first.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, ExposeSecretMut, SecretBox, SecretString};
use serde::{Deserialize, Deserializer};
use std::sync::Arc;

pub type JournalKey = Arc<SecretBox<[u8; 32]>>;

pub(super) fn read<'de, D: Deserializer<'de>>(given: D) -> Result<Vec<JournalKey>, D::Error> {
    let text = SecretString::deserialize(given)?;
    let keys: Option<Vec<JournalKey>> = text.expose_secret().split_whitespace().map(key).collect();
    keys.filter(|keys| !keys.is_empty()).ok_or_else(|| {
        serde::de::Error::custom(
            "expected 32 bytes in base64, as `journal new-key` prints them; newest first, if several",
        )
    })
}

fn key(word: &str) -> Option<JournalKey> {
    let bytes = Zeroizing::new(STANDARD.decode(word).ok()?);
    let mut key = SecretBox::new(Box::new([0; 32]));
    (bytes.len() == 32).then(|| key.expose_secret_mut().copy_from_slice(&bytes))?;
    Some(Arc::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<JournalKey>, serde_json::Error> {
        read(serde_json::Value::from(text))
    }

    #[test]
    fn several_keys_stand_one_a_line() {
        let (new, old) = (STANDARD.encode([1; 32]), STANDARD.encode([2; 32]));
        let keys = of(&format!("{new}\n{old}\n")).expect("two keys");
        let first: Vec<u8> = keys.iter().map(|key| key.expose_secret()[0]).collect();
        assert_eq!(first, [1, 2]);
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_quoted() {
        let short = STANDARD.encode([7; 31]);
        for wrong in ["", " ", "hunter2", short.as_str()] {
            let told = of(wrong).map(|_| ()).expect_err("no key").to_string();
            assert!(told.contains("journal new-key") && !told.contains("hunter2"), "{told}");
        }
    }
}
