//! The folder of a demo: made, claimed, and removed again when nobody asked to keep it.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::DESCRIPTION;
use crate::crypto;
use crate::failure::{Failure, OrFail};
use crate::files;

const LOCK: &str = "lock";

/// Where a demo keeps everything.
pub(crate) struct Folder {
    path: PathBuf,
    /// We made it, so we remove it.
    ours: bool,
    lock: Option<File>,
}

impl Folder {
    /// Takes the given folder, or makes one. A folder with anything in it that is not an earlier demo's is
    /// left alone.
    pub(crate) fn prepare(given: Option<&Path>) -> Result<Self, Failure> {
        let path = match given {
            Some(path) => std::path::absolute(path).or_fail("not a folder", path.display(), "give another")?,
            None => std::env::temp_dir().join(format!("fapi-demo-{}", crypto::uuid()?)),
        };
        files::private_folder(&path)?;
        let remedy = "give an empty folder, or one of an earlier demo";
        let entries = fs::read_dir(&path).or_fail("cannot look into the folder", path.display(), remedy)?;
        let empty = entries.count() == 0;
        if !empty && !path.join(DESCRIPTION).is_file() && !path.join(LOCK).is_file() {
            return Err(Failure::new("the folder is not empty, and not a demo's", path.display(), remedy));
        }
        let lock = lock(&path)?;
        if !empty {
            clear(&path)?;
        }
        Ok(Self { path, ours: given.is_none(), lock: Some(lock) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The claim on the folder, held while the mesh runs.
    pub(crate) fn lock(&self) -> Result<File, Failure> {
        let lock = self.lock.as_ref().and_then(|lock| lock.try_clone().ok());
        lock.or_fail("the claim on the folder is lost", self.path.display(), "run the demo again")
    }

    /// The demo is over. A temporary folder stays when something went wrong: its logs say what.
    pub(crate) fn done(&mut self, well: bool) {
        self.lock = None;
        if self.ours && well {
            // What cannot be removed lies in a temporary folder, where others clean up.
            let _ = fs::remove_dir_all(&self.path);
        } else if self.ours {
            eprintln!("everything the demo wrote is in {}", self.path.display());
        }
    }
}

fn lock(path: &Path) -> Result<File, Failure> {
    let file = File::options().create(true).append(true).open(path.join(LOCK));
    let file = file.or_fail("cannot claim the folder", path.display(), "give a folder that you may write")?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Failure::new("another demo runs in this folder", path.display(), "end it, or give another folder"))
        }
        Err(TryLockError::Error(error)) => {
            Err(Failure::new(error, path.display(), "give a folder on another file system"))
        }
    }
}

/// Empties the folder of an earlier demo, all but the lock that we hold.
fn clear(path: &Path) -> Result<(), Failure> {
    let remedy = "remove the folder yourself, or give another";
    for entry in fs::read_dir(path).or_fail("cannot look into the folder", path.display(), remedy)? {
        let entry = entry.or_fail("cannot look into the folder", path.display(), remedy)?;
        if entry.file_name() == LOCK {
            continue;
        }
        let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if folder { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        removed.or_fail("cannot empty the folder", entry.path().display(), remedy)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    fn fresh(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("fapictl-folder-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn a_folder_with_other_things_in_it_is_left_alone() {
        let path = fresh("other");
        files::private_folder(&path).unwrap();
        fs::write(path.join("thesis.txt"), "all my work").unwrap();
        assert!(Folder::prepare(Some(&path)).is_err());
        assert!(path.join("thesis.txt").exists());
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn an_earlier_demo_is_emptied_unless_it_still_runs() {
        let path = fresh("earlier");
        let first = Folder::prepare(Some(&path)).unwrap();
        fs::write(path.join(DESCRIPTION), "{}").unwrap();
        assert!(Folder::prepare(Some(&path)).is_err(), "it still runs");
        drop(first);
        let again = Folder::prepare(Some(&path)).unwrap();
        assert!(!again.path().join(DESCRIPTION).exists());
        fs::remove_dir_all(path).unwrap();
    }
}
