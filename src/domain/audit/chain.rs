//! The chain of hashes through the trail: each is the SHA-256 of the one before it (32 bytes, zeros before
//! the first) and of the record's bytes as they are kept.
use super::{Act, Record};
use sha2::{Digest, Sha256};
use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Of the record that comes after the one of this hash.
    pub fn of_next(&self, record: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(record.as_bytes());
        Self(hash.finalize().into())
    }

    /// 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let mut hash = Self::default();
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (byte, digits) in hash.0.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(hash)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A record as it stands in the trail, with what binds it there.
#[derive(Clone, PartialEq, Debug)]
pub struct Link {
    /// As it is kept, to the byte.
    pub text: String,
    pub record: Record,
    /// Of the record before it.
    pub previous: Hash,
    pub hash: Hash,
}

/// Where a trail is not what it was.
#[derive(Clone, PartialEq, Debug)]
pub struct Break {
    pub seq: u64,
    /// Milliseconds since 1970; of the record that is wrong, or of the last right one.
    pub at: i64,
    pub why: String,
}

/// Walks a trail from its oldest record.
#[derive(Default)]
pub struct Walk {
    pub count: u64,
    /// Milliseconds since 1970.
    pub first: i64,
    pub last: i64,
    pub seq: u64,
    pub head: Hash,
    /// What was removed before the oldest record, until a record says that it was removed for its age.
    unsigned: Option<(u64, Hash)>,
}

impl Walk {
    /// `previous` is what the record itself says of the one before it, where it says so.
    pub fn step(&mut self, seq: u64, text: &str, hash: Hash, previous: Option<Hash>) -> Result<(), Break> {
        let at = self.last;
        let wrong = |at: i64, why: String| Err(Break { seq, at, why });
        if self.count == 0 {
            if seq > 1 && previous.is_none() {
                return wrong(at, format!("records 1 to {} before it are missing", seq - 1));
            }
            self.begin(seq, previous.unwrap_or_default());
        } else if seq <= self.seq {
            return wrong(
                at,
                format!("it comes after record {}: records were put in another order", self.seq),
            );
        } else if seq > self.seq + 1 {
            let missing = format!("records {} to {} before it are missing", self.seq + 1, seq - 1);
            return wrong(at, missing);
        }
        let Ok(record) = serde_json::from_str::<Record>(text) else {
            return wrong(at, "it is no record of this trail".into());
        };
        let at = record.event.at;
        if record.seq != seq {
            let why = format!("record {} stands in its place: records were put in another order", record.seq);
            return wrong(at, why);
        }
        if previous.is_some_and(|previous| previous != self.head) || self.head.of_next(text) != hash {
            return wrong(at, "its hash is not that of its content after the record before it: one of them was changed, or it was written by somebody else".into());
        }
        if let Act::Cut { through, hash } = &record.event.act
            && self.unsigned.is_some_and(|(seq, last)| seq == *through && last.to_string() == *hash)
        {
            self.unsigned = None;
        }
        if self.count == 0 {
            self.first = at;
        }
        (self.count, self.seq, self.last, self.head) = (self.count + 1, seq, at, hash);
        Ok(())
    }

    fn begin(&mut self, seq: u64, previous: Hash) {
        self.head = previous;
        self.unsigned = (seq > 1).then_some((seq - 1, previous));
    }

    /// What is missing before the oldest record that no record accounts for.
    pub fn unsigned(&self) -> Option<Break> {
        let (seq, _) = self.unsigned?;
        let why = format!(
            "records 1 to {seq} are missing, and no record says that they were removed for their age"
        );
        Some(Break { seq: seq + 1, at: self.first, why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::{Agent, Event};

    fn trail(n: u64) -> Vec<(u64, String, Hash)> {
        let mut head = Hash::default();
        (1..=n)
            .map(|seq| {
                let event = Event {
                    at: 1_000 + seq as i64,
                    by: Agent::mediator(),
                    act: Act::Stopped,
                    transaction: None,
                    patients: vec![],
                };
                let text = serde_json::to_string(&Record { seq, node: "n".into(), event }).expect("JSON");
                head = head.of_next(&text);
                (seq, text, head)
            })
            .collect()
    }

    fn walk(trail: &[(u64, String, Hash)]) -> Result<Walk, Break> {
        let mut walk = Walk::default();
        trail.iter().try_for_each(|(seq, text, hash)| walk.step(*seq, text, *hash, None))?;
        Ok(walk)
    }

    #[test]
    fn a_whole_trail_is_told_by_number_times_and_head() {
        let trail = trail(5);
        let walked = walk(&trail).map_err(|b| b.why).expect("whole");
        assert_eq!((walked.count, walked.seq, walked.first, walked.last), (5, 5, 1_001, 1_005));
        assert!(walked.head == trail[4].2 && walked.unsigned().is_none());
        assert_eq!(Hash::parse(&walked.head.to_string()), Some(walked.head));
    }

    #[test]
    fn each_way_to_break_it_is_named_where_it_is() {
        let broken = |change: fn(&mut Vec<(u64, String, Hash)>)| {
            let mut trail = trail(5);
            change(&mut trail);
            walk(&trail).err().map(|broken| (broken.seq, broken.why))
        };
        let (seq, why) = broken(|t| t[2].1 = t[2].1.replace("1003", "1004")).expect("edited");
        assert!(seq == 3 && why.contains("was changed"), "{why}");
        let (seq, why) = broken(|t| drop(t.remove(2))).expect("removed");
        assert!(seq == 4 && why.contains("records 3 to 3 before it are missing"), "{why}");
        let (seq, why) = broken(|t| {
            let (a, b) = (t[1].1.clone(), t[2].1.clone());
            (t[1].1, t[2].1) = (b, a);
        })
        .expect("reordered");
        assert!(seq == 2 && why.contains("record 3 stands in its place"), "{why}");
        let (seq, why) = broken(|t| t.swap(1, 2)).expect("reordered");
        assert!(seq == 3 && why.contains("records 2 to 2 before it are missing"), "{why}");
        let (seq, why) = broken(|t| {
            let text = t[4].1.replace("\"seq\":5", "\"seq\":6");
            t.push((6, text, Hash::default()));
        })
        .expect("appended");
        assert!(seq == 6 && why.contains("written by somebody else"), "{why}");
        let (seq, why) = broken(|t| t[0].1 = "{}".into()).expect("no record");
        assert!(seq == 1 && why.contains("no record of this trail"), "{why}");
    }

    #[test]
    fn a_missing_beginning_is_named_unless_a_record_signs_it_off() {
        let whole = trail(5);
        let mut walk = Walk::default();
        for (seq, text, hash) in &whole[2..] {
            walk.step(*seq, text, *hash, (walk.count == 0).then_some(whole[1].2))
                .map_err(|b| b.why)
                .expect("fits");
        }
        assert!(walk.unsigned().is_some_and(|missing| missing.why.contains("records 1 to 2 are missing")));
        let event = Event {
            at: 9,
            by: Agent::mediator(),
            act: Act::Cut { through: 2, hash: whole[1].2.to_string() },
            transaction: None,
            patients: vec![],
        };
        let text = serde_json::to_string(&Record { seq: 6, node: "n".into(), event }).expect("JSON");
        walk.step(6, &text, walk.head.of_next(&text), None).map_err(|b| b.why).expect("fits");
        assert!(walk.unsigned().is_none());
    }
}
