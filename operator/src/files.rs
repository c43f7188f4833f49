//! How the operator keeps state on disk: whole files, replaced in one step, secrets readable by it alone.
//!
//! Writing flushes to the disk and renames; reading a secret demands that nobody else can. Errors carry remedies.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Mode of a file that holds a secret.
pub(crate) const PRIVATE: u32 = 0o600;
/// Mode of a file that anyone may read.
pub(crate) const PUBLIC: u32 = 0o644;

/// What went wrong with a state file; the message names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}; the operator's user must own the state folder and its disk must have room", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The answer of the operating system.
        source: io::Error,
    },
    /// A secret that others may read is no secret.
    #[error(
        "{} is open to others (mode {mode:03o}): run `chmod go-rwx` on it, and replace what it holds if anyone else could have read it",
        path.display()
    )]
    TooOpen {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The API server did not do it.
    #[error("cannot {action} {object}: {detail}; the operator's Role must allow it, and the API server must answer")]
    Cluster {
        /// What was tried, as a verb.
        action: &'static str,
        /// Kind, namespace and name.
        object: String,
        /// What was answered.
        detail: String,
    },
    /// Another operator was faster, and nothing was written.
    #[error("{object} was changed by another operator, again and again; see why two of them write so often")]
    Changed {
        /// Kind, namespace and name.
        object: String,
    },
    /// It was made once, and is gone.
    #[error(
        "{object} is missing or another, but this mesh has had it: restore it from a backup. It is never made anew silently; \
         to go on without what was in it, remove its line from {record} and start again"
    )]
    Lost {
        /// Kind, namespace and name.
        object: String,
        /// Where it is recorded.
        record: String,
    },
}

impl FileError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// True when the file simply is not there.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// True when another operator has written since it was read: read it again.
    pub(crate) fn is_changed(&self) -> bool {
        matches!(self, Self::Changed { .. })
    }
}

/// How often something is read, changed and written, where other operators write it too.
pub(crate) const TRIES: usize = 10;

/// Replaces `path` by `bytes` in one step and makes the change durable. The folder must exist.
///
/// A reader sees the old content or the new one, never half of either, also after a crash.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let temporary = temporary_name(path);
    let written = write_new(&temporary, bytes, mode)
        .and_then(|()| fs::rename(&temporary, path).map_err(FileError::io("replace", path)));
    if written.is_err() {
        // What is left of a failed attempt may hold a secret: never leave it behind.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_parent(path)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    // A leftover of a crash may have another mode, and a mode counts only for a file that is created.
    remove_if_there(path)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let mut file = options.open(path).map_err(FileError::io("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(FileError::io("write", path))
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

/// Removes a file; one that is gone already is fine.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Makes a rename in the folder of `path` durable.
fn sync_parent(path: &Path) -> Result<(), FileError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(FileError::io("flush", parent))
}

/// Makes the folder (and those above it) with mode 0700; one that exists must be closed to others.
pub(crate) fn private_folder(path: &Path) -> Result<(), FileError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(path).map_err(FileError::io("create", path))?;
    refuse_open(path)
}

/// Makes a private folder that appears with all its content in one step, or not at all.
pub(crate) fn appear<E: From<FileError>>(folder: &Path, fill: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    let beside = temporary_name(folder);
    // Left by a start that was cut short: nobody has ever used what is in it.
    if beside.exists() {
        fs::remove_dir_all(&beside).map_err(FileError::io("remove", &beside))?;
    }
    private_folder(&beside)?;
    fill(&beside)?;
    fs::rename(&beside, folder).map_err(FileError::io("create", folder))?;
    Ok(sync_parent(folder)?)
}

/// Reads a secret, unless others may read it too.
pub(crate) fn read_private(path: &Path) -> Result<Vec<u8>, FileError> {
    refuse_open(path)?;
    fs::read(path).map_err(FileError::io("read", path))
}

/// Fails when `path` is open to the group or to others.
pub(crate) fn refuse_open(path: &Path) -> Result<(), FileError> {
    let mode = fs::metadata(path).map_err(FileError::io("read", path))?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(FileError::TooOpen { path: path.to_owned(), mode }) }
}

/// Reads a file that anyone may read; `None` when it is not there.
pub(crate) fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::io("read", path)(error)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn replaces_whole_files_and_leaves_nothing_else() {
        let dir = TempDir::new();
        let path = dir.path().join("secret");
        replace(&path, b"one", PRIVATE).unwrap();
        replace(&path, b"two", PRIVATE).unwrap();
        assert_eq!(read_private(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_secret_open_to_others_is_refused() {
        let dir = TempDir::new();
        let path = dir.path().join("secret");
        replace(&path, b"one", 0o640).unwrap();
        let error = read_private(&path).unwrap_err();
        assert!(matches!(error, FileError::TooOpen { mode: 0o640, .. }));
        assert!(error.to_string().contains("chmod"), "{error}");
    }

    #[test]
    fn a_missing_file_is_told_apart() {
        let dir = TempDir::new();
        let path = dir.path().join("absent");
        assert!(read_private(&path).unwrap_err().is_missing());
        assert_eq!(read_optional(&path).unwrap(), None);
    }

    #[test]
    fn folders_are_closed_to_others() {
        let dir = TempDir::new();
        let path = dir.path().join("a/b");
        private_folder(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
