//! One process at a time carries out what a journal holds: two would do everything twice.
use super::backup::beside;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

/// Held for as long as it lives; the system lets go of it when the process dies.
pub struct Claim {
    _file: File,
}

impl Claim {
    pub fn on(journal: &Path) -> Result<Self, String> {
        let path = beside(journal, ".lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|e| {
            format!("journal.url: {}: {e}; its folder must be there, and writable", path.display())
        })?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(format!(
                "{}: another mediator works on this journal; stop it first, or give this one its own",
                journal.display()
            )),
            Err(TryLockError::Error(e)) => Err(format!("{}: {e}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = folder.path().join("journal.db");
        let first = Claim::on(&journal).expect("the first");
        assert!(Claim::on(&journal).err().is_some_and(|e| e.contains("another mediator")));
        drop(first);
        assert!(Claim::on(&journal).is_ok());
    }
}
