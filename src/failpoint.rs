//! Places where the crash test kills the process, as `kill -9` would: `MEDIATOR_FAILPOINT=name`, or
//! `name:n` for the n-th time. `name:panic WORDS` panics there, once, as a bug might that has a message in
//! its hands. Compiled to nothing without the feature `failpoints`.

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
pub fn reach(place: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    static WANTED: OnceLock<Option<(String, String)>> = OnceLock::new();
    static REACHED: AtomicU32 = AtomicU32::new(0);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("MEDIATOR_FAILPOINT").ok()?;
        let (name, nth) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_string(), nth.to_string()))
    });
    if let Some((name, nth)) = wanted
        && name == place
        && REACHED.fetch_add(1, SeqCst) + 1 == nth.parse().unwrap_or(1)
    {
        if let Some(words) = nth.strip_prefix("panic ") {
            panic!("{words}");
        }
        // SIGKILL: nothing is flushed, nothing is said.
        let _ = std::process::Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
        std::thread::park();
    }
}

#[cfg(not(feature = "failpoints"))]
pub fn reach(_place: &str) {}
