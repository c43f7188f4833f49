//! From what the source wants to the view that everyone reads, each with an order that no restart repeats.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use control::Order;
use tokio::sync::watch;

use crate::behind::Behind;
use crate::files::{self, FileError};
use crate::source::Desired;
use crate::view::View;

/// A disk that is full is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The counter of views, on disk: sidecars refuse what is older than what they run.
#[derive(Debug)]
pub(crate) struct Counter {
    path: PathBuf,
    last: u64,
}

/// Why the counter cannot be used; the message says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CounterError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file holds something else.
    #[error(
        "{} holds no number: write into it a number that is larger than the order of any snapshot ever sent \
         (sidecars show theirs under /config)",
        .0.display()
    )]
    Damaged(PathBuf),
}

impl Counter {
    /// Opens `STATE/order`; a new state begins at 1.
    pub(crate) fn open(state: &Path) -> Result<Self, CounterError> {
        let path = state.join("order");
        let last = match files::read_optional(&path)? {
            None => 0,
            Some(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                text.trim().parse().map_err(|_| CounterError::Damaged(path.clone()))?
            }
        };
        Ok(Self { path, last })
    }

    /// Whether nothing was ever published from this state.
    pub(crate) fn is_first_start(&self) -> bool {
        self.last == 0
    }

    /// The next order. It is on disk before anyone can be told, so a crash skips one and never repeats one.
    pub(crate) fn next(&mut self) -> Result<u64, CounterError> {
        let next = self.last + 1;
        files::replace(&self.path, format!("{next}\n").as_bytes(), files::PRIVATE)?;
        self.last = next;
        Ok(next)
    }
}

/// Makes views of what a source wants.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// For a source without versions.
    counter: Option<Counter>,
    behind: Behind,
    view: watch::Sender<Arc<View>>,
}

impl Publisher {
    /// A publisher that begins with an empty view, which refuses everything.
    pub(crate) fn new(empty: View, counter: Option<Counter>, behind: Behind) -> Self {
        Self { counter, behind, view: watch::Sender::new(Arc::new(empty)) }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// Publishes a view of `desired`, unless it would be the same again.
    pub(crate) fn publish(&mut self, desired: &Desired) -> Result<(), CounterError> {
        let now = self.view.borrow().clone();
        let is_same = now.synced() && now.index().model() == &desired.model;
        // Sidecars that come from another operator take nothing that is behind what they have.
        let catches_up = self.behind.is_awaited() && now.order().versions != desired.versions;
        if is_same && !catches_up {
            if now.index().left() != &desired.left {
                // Its snapshots are the same, so it is no newer.
                let view = now.next(now.order().clone(), desired.model.clone()).remembering(desired.left.clone());
                self.view.send_replace(Arc::new(view));
            }
            return Ok(());
        }
        let next = now.order().number + 1;
        let number = match &mut self.counter {
            Some(counter) => counter.next()?,
            // Sidecars from before the versions know the number alone: whoever knows less of everything has less of it.
            None => desired.versions.iter().fold(0, |sum: u64, version| sum.saturating_add(*version)).max(next),
        };
        let order = Order { number, versions: desired.versions.clone() };
        let view = now.next(order, desired.model.clone()).remembering(desired.left.clone());
        tracing::info!(event = "view", order = number, pods = view.pods().count(), "published");
        self.view.send_replace(Arc::new(view));
        Ok(())
    }

    /// Publishes whatever `desired` becomes until `shutdown` says true.
    pub(crate) async fn run(mut self, mut desired: watch::Receiver<Arc<Desired>>, mut shutdown: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                changed = desired.changed() => if changed.is_err() { return },
                _ = shutdown.wait_for(|end| *end) => return,
            }
            let wanted = desired.borrow_and_update().clone();
            let step = tokio::task::spawn_blocking(move || {
                let outcome = self.publish(&wanted);
                (self, outcome)
            });
            let Ok((back, outcome)) = step.await else {
                tracing::error!("compiling ended unexpectedly; changes have no effect any more: restart the operator");
                return;
            };
            self = back;
            if let Err(error) = outcome {
                tracing::error!(%error, "a change cannot be put in force; it is tried again");
                desired.mark_changed();
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    _ = shutdown.wait_for(|end| *end) => return,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;
    use crate::testing::{TempDir, domain};

    #[test]
    fn the_order_grows_across_restarts() {
        let dir = TempDir::new();
        let mut counter = Counter::open(dir.path()).unwrap();
        assert_eq!([counter.next().unwrap(), counter.next().unwrap()], [1, 2]);
        assert_eq!(Counter::open(dir.path()).unwrap().next().unwrap(), 3);
        std::fs::write(dir.path().join("order"), "x").unwrap();
        assert!(Counter::open(dir.path()).unwrap_err().to_string().contains("order"));
    }

    #[test]
    fn the_same_again_is_published_for_sidecars_that_know_more() {
        let behind = Behind::default();
        let mut publisher = Publisher::new(View::empty(domain()), None, behind.clone());
        let view = publisher.subscribe();
        let mut publish = |versions: &[u64]| {
            publisher.publish(&Desired { versions: versions.to_vec(), ..Desired::default() }).unwrap();
            view.borrow().order().clone()
        };
        let order = |number, versions: &[u64]| Order { number, versions: versions.to_vec() };
        assert_eq!(publish(&[4, 6]), order(10, &[4, 6]));
        assert_eq!(publish(&[4, 7]), order(10, &[4, 6]), "nobody needs it");
        behind.tell();
        assert_eq!(publish(&[4, 7]), order(11, &[4, 7]));
        assert_eq!(publish(&[4, 7]), order(11, &[4, 7]), "nothing more is known");
        // Of a cluster that counts anew.
        assert_eq!(publish(&[1, 2]), order(12, &[1, 2]));
    }

    #[test]
    fn what_is_remembered_of_addresses_makes_no_snapshot_newer() {
        let mut publisher = Publisher::new(View::empty(domain()), None, Behind::default());
        let mut view = publisher.subscribe();
        let left = Arc::new(["10.0.0.7".parse().unwrap()].into());
        let mut desired = Desired { versions: vec![10], left, ..Desired::default() };
        publisher.publish(&desired).unwrap();
        let seen = |view: &View| (view.order().number, view.index().was_left("10.0.0.7".parse().unwrap()));
        assert_eq!(seen(&view.borrow_and_update()), (10, true));
        desired.left = Arc::default();
        publisher.publish(&desired).unwrap();
        assert!(view.has_changed().unwrap());
        assert_eq!(seen(&view.borrow_and_update()), (10, false));
        publisher.publish(&desired).unwrap();
        assert!(!view.has_changed().unwrap());
    }

    #[test]
    fn the_same_again_is_not_published() {
        let dir = TempDir::new();
        let mut publisher =
            Publisher::new(View::empty(domain()), Some(Counter::open(dir.path()).unwrap()), Behind::default());
        let view = publisher.subscribe();
        assert!(!view.borrow().synced());
        let mut desired = Desired::default();
        publisher.publish(&desired).unwrap();
        publisher.publish(&desired).unwrap();
        assert!(view.borrow().synced());
        assert_eq!(view.borrow().order().number, 1);
        desired.model =
            Model { mesh: Some(crate::testing::fapi_mesh(crate::inject::Allowed::default())), ..Model::default() };
        publisher.publish(&desired).unwrap();
        assert_eq!(view.borrow().order().number, 2);
        assert_eq!(view.borrow().lifetimes().certificate, Duration::from_secs(3600));
    }
}
