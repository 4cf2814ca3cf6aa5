//! Places where the crash test kills the process, as `kill -9` would: `MEDIATOR_FAILPOINT=name`, or
//! `name:n` for the n-th time. `name:panic WORDS` panics there, once, as a bug might that has a message in
//! its hands. `name:4ms` is no death but so long a pause each time, as of a slow disk. Compiled to nothing
//! without the feature `failpoints`.

/// Every place, in the order of the corridor.
pub const PLACES: &[&str] = &[
    "received",
    "journal-before-commit",
    "journaled",
    "translated",
    "planned",
    "before-delivery",
    "after-delivery",
    "delivered",
    "marked",
    "answered",
];

#[cfg(feature = "failpoints")]
enum Act {
    Die { nth: u32 },
    Panic { words: String },
    Pause(std::time::Duration),
}

#[cfg(feature = "failpoints")]
impl Act {
    fn parse(text: &str) -> Self {
        if let Some(words) = text.strip_prefix("panic ") {
            return Self::Panic { words: words.into() };
        }
        match text.strip_suffix("ms").and_then(|ms| ms.parse().ok()) {
            Some(ms) => Self::Pause(std::time::Duration::from_millis(ms)),
            None => Self::Die { nth: text.parse().unwrap_or(1) },
        }
    }
}

#[cfg(feature = "failpoints")]
pub fn reach(place: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    static WANTED: OnceLock<Option<(String, Act)>> = OnceLock::new();
    static REACHED: AtomicU32 = AtomicU32::new(0);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("MEDIATOR_FAILPOINT").ok()?;
        let (name, act) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_string(), Act::parse(act)))
    });
    match wanted {
        Some((name, Act::Pause(time))) if name == place => std::thread::sleep(*time),
        Some((name, Act::Die { nth })) if name == place && REACHED.fetch_add(1, SeqCst) + 1 == *nth => {
            // SIGKILL: nothing is flushed, nothing is said.
            let _ = std::process::Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
            std::thread::park();
        }
        Some((name, Act::Panic { words })) if name == place && REACHED.fetch_add(1, SeqCst) == 0 => {
            panic!("{words}")
        }
        _ => {}
    }
}

#[cfg(not(feature = "failpoints"))]
pub fn reach(_place: &str) {}
