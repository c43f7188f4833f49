//! Files with a mode. A key is never on disk with a wider one, not even for a moment.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::failure::{Failure, OrFail};

/// Who may read a file.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    /// The owner alone: 0600.
    Secret,
    /// Everybody: 0644.
    Public,
}

/// Writes `bytes` to `path` as a whole: beside it first, then by renaming, so that no reader (and no
/// file watcher) ever sees half a file.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: Mode) -> Result<(), Failure> {
    let mut beside = path.to_path_buf();
    beside.as_mut_os_string().push(".new");
    let bits = match mode {
        Mode::Secret => 0o600,
        Mode::Public => 0o644,
    };
    // A left-over with another mode must not lend it to a key.
    let _ = fs::remove_file(&beside);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(bits)
        .open(&beside)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&beside, path))
        .or_fail("cannot write", path.display(), "check that the folder exists and may be written")
}

/// Reads a text file.
pub(crate) fn read(path: &Path, remedy: &str) -> Result<String, Failure> {
    fs::read_to_string(path).or_fail("cannot read", path.display(), remedy)
}

/// Makes a folder that only its owner may enter, with those above it.
pub(crate) fn private_folder(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).or_fail(
        "cannot make the folder",
        path.display(),
        "give a folder that you may write",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_is_for_its_owner_alone_also_when_rewritten() {
        let folder = std::env::temp_dir().join(format!("fapictl-files-{}", std::process::id()));
        private_folder(&folder).unwrap();
        let path = folder.join("key.pem");
        for text in ["one", "two"] {
            write(&path, text.as_bytes(), Mode::Secret).unwrap();
            assert_eq!(read(&path, "").unwrap(), text);
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
