//! The logs of pods, also of those that are gone. A kubelet removes them with the pod, and a test that fails may have scaled down or
//! rolled out just what would say why.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// A pod that lives shorter than this may leave none.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Keeps logs for as long as it lives. Once it is dropped nothing is written any more.
pub(super) struct Logs {
    places: Vec<[PathBuf; 2]>,
    looking: Option<(SyncSender<()>, JoinHandle<()>)>,
}

impl Logs {
    /// Keeps what appears in the first of each two folders in the second.
    pub(super) fn keep(places: Vec<[PathBuf; 2]>) -> Self {
        let ((end, ended), kept) = (sync_channel(0), places.clone());
        let thread = std::thread::spawn(move || {
            while ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                link_all(&kept);
            }
        });
        Self { places, looking: Some((end, thread)) }
    }

    /// Keeps what is there now.
    pub(super) fn look(&self) {
        link_all(&self.places);
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.looking.take() {
            drop(end);
            let _ = thread.join();
        }
    }
}

fn link_all(places: &[[PathBuf; 2]]) {
    for [from, to] in places {
        // What goes while it is looked at is gone.
        let _ = link(from, to);
    }
}

/// The same files under two names: what is still written to one is in the other, which outlives it.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)?.flatten() {
        let to = to.join(entry.file_name());
        let _ = match entry.file_type() {
            Ok(kind) if kind.is_dir() => link(&entry.path(), &to),
            Ok(kind) if kind.is_file() && !to.exists() => fs::hard_link(entry.path(), to),
            _ => Ok(()),
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::{Scratch, wait_for};

    #[test]
    fn a_log_outlives_its_pod_with_all_that_was_written() {
        let scratch = Scratch::new("logs");
        let [pods, kept] = ["pods", "kept"].map(|name| scratch.path().join(name));
        let _logs = Logs::keep(vec![[pods.clone(), kept.clone()]]);
        let log = Path::new("bank_shop_1/app/0.log");
        fs::create_dir_all(pods.join(log).parent().unwrap()).unwrap();
        let mut file = fs::File::create(pods.join(log)).unwrap();
        wait_for("the log to be kept", 20, || kept.join(log).exists().then_some(()));
        file.write_all(b"its last words").unwrap();
        fs::remove_dir_all(&pods).unwrap();
        assert_eq!(fs::read_to_string(kept.join(log)).unwrap(), "its last words");
    }
}
