//! One token file per workload: `STATE/tokens/<namespace>/<name>.jwt`, what a projected volume is in a cluster.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fapi::UnixTime;
use tokio::sync::watch;

use super::DirectoryTokens;
use super::directory::LIFETIME;
use crate::clock::Clock;
use crate::files::{self, FileError, PRIVATE};
use crate::model::Pod;
use crate::view::View;

/// A file is rewritten when a third of its token's life is left.
const REFRESH: u64 = LIFETIME / 3 * 2;
/// How often the files are looked after, apart from changes of the view.
const TICK: Duration = Duration::from_secs(15);

/// Keeps the token files in step with the view.
pub(crate) struct TokenFiles {
    tokens: Arc<DirectoryTokens>,
    folder: PathBuf,
    clock: Clock,
    written: HashMap<PathBuf, Written>,
}

struct Written {
    pod_uid: String,
    rewrite_at: UnixTime,
}

impl TokenFiles {
    /// Token files in the folder `tokens` of `state`.
    pub(crate) fn new(tokens: Arc<DirectoryTokens>, state: &Path, clock: Clock) -> Self {
        Self { tokens, folder: state.join("tokens"), clock, written: HashMap::new() }
    }

    /// Writes, rewrites and removes until `shutdown` says true. What fails is logged and tried again.
    pub(crate) async fn run(mut self, mut view: watch::Receiver<Arc<View>>, mut shutdown: watch::Receiver<bool>) {
        loop {
            let current = view.borrow_and_update().clone();
            // Writing to disk would hold up what shares this thread.
            let step = tokio::task::spawn_blocking(move || {
                if current.synced() {
                    self.step(&current);
                }
                self
            });
            self = match step.await {
                Ok(returned) => returned,
                Err(error) => {
                    return tracing::error!(%error, "workload tokens are no longer written; restart the operator");
                }
            };
            tokio::select! {
                changed = view.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(TICK) => {}
                _ = shutdown.wait_for(|end| *end) => return,
            }
        }
    }

    /// Brings the files in line with the view.
    pub(crate) fn step(&mut self, view: &View) {
        let now = self.clock.now();
        let mut wanted = HashMap::new();
        for pod in view.pods().filter(|pod| pod.meshed) {
            match self.file_of(pod) {
                Some(path) => drop(wanted.insert(path, pod)),
                None => tracing::error!(namespace = pod.namespace, pod = pod.name, "no token file can have this name"),
            }
        }
        for (path, pod) in &wanted {
            let fresh = |written: &Written| written.pod_uid == pod.uid && now < written.rewrite_at;
            if self.written.get(path).is_some_and(fresh) {
                continue;
            }
            match self.write(path, pod) {
                Ok(()) => {
                    let written = Written { pod_uid: pod.uid.clone(), rewrite_at: now.plus(REFRESH) };
                    self.written.insert(path.clone(), written);
                }
                Err(error) => tracing::error!(%error, "cannot write a workload token"),
            }
        }
        self.written.retain(|path, _| wanted.contains_key(path));
        if let Err(error) = self.remove_others(&wanted) {
            tracing::error!(%error, "cannot remove the token of a workload that is gone");
        }
    }

    /// Where a pod's token is; `None` if its names could lead elsewhere.
    fn file_of(&self, pod: &Pod) -> Option<PathBuf> {
        let safe = |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
        (safe(&pod.namespace) && safe(&pod.name))
            .then(|| self.folder.join(&pod.namespace).join(format!("{}.jwt", pod.name)))
    }

    fn write(&self, path: &Path, pod: &Pod) -> Result<(), Box<dyn std::error::Error>> {
        files::private_folder(&self.folder)?;
        if let Some(namespace) = path.parent() {
            files::private_folder(namespace)?;
        }
        Ok(files::replace(path, self.tokens.mint(pod)?.as_bytes(), PRIVATE)?)
    }

    fn remove_others<T>(&self, wanted: &HashMap<PathBuf, T>) -> Result<(), FileError> {
        for namespace in entries(&self.folder)? {
            if !namespace.is_dir() {
                continue;
            }
            for path in entries(&namespace)? {
                if !wanted.contains_key(&path) {
                    files::remove_if_there(&path)?;
                }
            }
            // Fails while it has files, as it should.
            let _ = fs::remove_dir(&namespace);
        }
        Ok(())
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(FileError::io("read", folder)(error)),
    }
}
