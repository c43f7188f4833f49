//! Reading what the processes of the mesh have logged: reasons are read there, never guessed.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::wait::until;

/// A line of a log appears within this time, or never: it may come from a cluster, by way of its kubelet and its API server.
const LIMIT: Duration = Duration::from_secs(15);

/// One file of JSON lines that another process writes.
#[derive(Clone)]
pub(crate) struct Log {
    path: PathBuf,
}

/// A place in a log: everything after it is new.
pub(crate) struct Mark<'a> {
    log: &'a Log,
    offset: u64,
}

impl Log {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The beginning of the log.
    pub(crate) fn start(&self) -> Mark<'_> {
        Mark { log: self, offset: 0 }
    }

    /// The end of the log as it is now.
    pub(crate) fn mark(&self) -> Mark<'_> {
        let offset = std::fs::metadata(&self.path).map_or(0, |file| file.len());
        Mark { log: self, offset }
    }
}

impl Mark<'_> {
    /// The first new line for which `wanted` says yes, waiting for it; `None` when it does not come.
    pub(crate) async fn find(&self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        until(LIMIT, async || self.lines().into_iter().find(&wanted)).await
    }

    /// Every whole new line that is JSON.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let mut text = Vec::new();
        let read = File::open(&self.log.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.offset))?;
            file.read_to_end(&mut text)
        });
        if read.is_err() {
            return Vec::new();
        }
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let whole = text.get(..whole).unwrap_or_default();
        whole.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    #[tokio::test]
    async fn only_whole_new_lines_count() {
        let path = std::env::temp_dir().join(format!("fapictl-logs-{}", std::process::id()));
        std::fs::write(&path, "{\"n\":1}\n").unwrap();
        let log = Log::new(path.clone());
        let mark = log.mark();
        std::fs::write(&path, "{\"n\":1}\n{\"n\":2}\nnot json\n{\"n\":3").unwrap();
        assert_eq!(mark.lines(), [serde_json::json!({"n": 2})]);
        assert!(mark.find(|line| line["n"] == 2).await.is_some());
        std::fs::remove_file(path).unwrap();
    }
}
