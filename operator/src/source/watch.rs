//! Watching the folder: the operating system tells at once, and a look every few seconds finds what it did not tell.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Desired, Directory};

/// Network folders and some containers tell nothing.
const POLL: Duration = Duration::from_secs(10);
/// An editor writes in several steps; what lies between them is nobody's wish.
const QUIET: Duration = Duration::from_millis(30);
/// A folder that never rests is read all the same.
const PATIENCE: Duration = Duration::from_millis(300);

/// Publishes what the folder says until `shutdown` says true.
pub(super) async fn run(
    mut directory: Directory,
    desired: watch::Sender<Arc<Desired>>,
    mut shutdown: watch::Receiver<bool>,
) {
    // One slot: that something changed is all there is to tell.
    let (changed, mut changes) = mpsc::channel(1);
    let folder = directory.folder.clone();
    let _watcher = watcher(&folder, changed);
    loop {
        tokio::select! {
            () = change(&mut changes) => {}
            _ = shutdown.wait_for(|end| *end) => return,
        }
        let read = tokio::task::spawn_blocking(move || {
            let outcome = directory.refresh();
            (directory, outcome)
        });
        let Ok((back, outcome)) = read.await else {
            tracing::error!("reading the folder ended unexpectedly; changes are no longer seen: restart the operator");
            return;
        };
        directory = back;
        match outcome {
            Ok(true) => {
                desired.send_replace(Arc::new(directory.desired().clone()));
            }
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "all objects stay as they were"),
        }
    }
}

/// Returns when the folder may have changed and rests again, or when it is time to look.
async fn change(changes: &mut mpsc::Receiver<()>) {
    tokio::select! {
        told = changes.recv() => if told.is_none() {
            // No watcher: only looking is left.
            return sleep(POLL).await;
        },
        () = sleep(POLL) => return,
    }
    let latest = Instant::now() + PATIENCE;
    while let Ok(Some(())) = timeout_at(latest.min(Instant::now() + QUIET), changes.recv()).await {
        if Instant::now() >= latest {
            return;
        }
    }
}

fn watcher(folder: &Path, changed: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let told = move |event: notify::Result<notify::Event>| {
        // Reading the files is an event too; without this each look would cause the next.
        if !matches!(event.map(|event| event.kind), Ok(EventKind::Access(_))) {
            // A full channel already says that something changed.
            let _ = changed.try_send(());
        }
    };
    let folder: PathBuf = folder.to_owned();
    let watcher = notify::recommended_watcher(told).and_then(|mut watcher| {
        watcher.watch(&folder, RecursiveMode::Recursive)?;
        Ok(watcher)
    });
    watcher
        .inspect_err(|error| tracing::warn!(%error, "the folder cannot be watched; it is read every 10 s instead"))
        .ok()
}
