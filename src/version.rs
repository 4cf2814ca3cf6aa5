//! What is running: version, commit, and the date of a build that can be made again.
use jiff::Timestamp;
use std::sync::LazyLock;

pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// `GIT_COMMIT` of the build, or what git said; else `unknown`.
pub const COMMIT: &str = env!("GIT_COMMIT");

/// `0.1.0 (8590bdcc1f02)`, with the date of `SOURCE_DATE_EPOCH` (https://reproducible-builds.org) if there was one:
/// any other would make each build a different one.
pub fn full() -> &'static str {
    static FULL: LazyLock<String> = LazyLock::new(|| {
        let date = option_env!("SOURCE_DATE_EPOCH")
            .and_then(|seconds| seconds.parse().ok())
            .and_then(|seconds| Timestamp::from_second(seconds).ok());
        match date {
            Some(date) => format!("{VERSION} ({COMMIT}, {})", date.strftime("%Y-%m-%d")),
            None => format!("{VERSION} ({COMMIT})"),
        }
    });
    &FULL
}
