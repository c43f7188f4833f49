//! Destinations by authority: asked once, answered by the control stream, read by every worker.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::{ArcSwapOption, Guard};
use control::Destination;
use fapi::Rejection;
use tokio::{sync::Notify, time::timeout};

use super::destination::Resolved;
use crate::awaited::found;
use cells::Cells;

mod cells;

/// Most authorities known at once; also the operator's bound for one stream.
pub(super) const MAX_AUTHORITIES: usize = 4096;
/// A DNS name and a port.
const AUTHORITY_BYTES: usize = 255 + 6;
/// As long as for a token: where many pods start at once, one operator answers all of them.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// The destinations that the process knows or has asked for.
pub(crate) struct Lookups(Cells<DestinationCell>);

/// The place of one answer.
#[derive(Default)]
pub(crate) struct DestinationCell {
    resolved: ArcSwapOption<Resolved>,
    /// The answer as it came, to be read again when the issuer moves.
    document: Mutex<Option<Destination>>,
    changed: Notify,
}

impl Lookups {
    pub(super) fn new() -> Self {
        Self(Cells::new(MAX_AUTHORITIES))
    }

    /// The place of the answer for an authority, which is asked for if it is new. Hold it while it is in use.
    ///
    /// # Errors
    /// `destination_unknown` when too many are known, or when it cannot be a name.
    pub(crate) fn cell(&self, authority: &str) -> Result<Arc<DestinationCell>, Rejection> {
        let fits = authority.len() <= AUTHORITY_BYTES;
        fits.then(|| self.0.cell(authority)).flatten().ok_or(Rejection::DestinationUnknown)
    }

    /// Forgets what no worker uses any more, for ever.
    pub(super) async fn keep_swept(&self) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            self.sweep();
        }
    }

    fn sweep(&self) {
        self.0.sweep();
    }

    /// Whether workers use so many that no other is taken.
    pub(crate) fn is_full(&self) -> bool {
        self.0.is_full()
    }
}

// The stream's side.
impl Lookups {
    /// Waits until there is something that was not asked yet.
    pub(super) async fn added(&self) {
        self.0.added().await;
    }

    /// How many destinations are in use.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What was not asked yet.
    pub(super) fn take_new(&self) -> Vec<Arc<str>> {
        self.0.take_new()
    }

    /// Everything, for a new stream.
    pub(super) fn take_all(&self) -> Vec<Arc<str>> {
        self.0.take_all()
    }

    /// Publishes an answer. One that nobody waits for any more is dropped.
    pub(super) fn answer(&self, document: Destination, resolved: Resolved) {
        if let Some(cell) = self.0.get(&document.authority) {
            *lock(&cell.document) = Some(document);
            cell.publish(resolved);
        }
    }

    /// Reads every answer anew.
    pub(super) fn reread(&self, mut read: impl FnMut(&Destination) -> Option<Resolved>) {
        for cell in self.0.all() {
            let resolved = lock(&cell.document).as_ref().and_then(&mut read);
            if let Some(resolved) = resolved {
                cell.publish(resolved);
            }
        }
    }
}

impl DestinationCell {
    /// The newest answer, if there is one.
    pub(crate) fn get(&self) -> Guard<Option<Arc<Resolved>>> {
        self.resolved.load()
    }

    /// The newest answer, waiting 2 seconds for the first.
    ///
    /// # Errors
    /// `destination_unknown` when none came: never anything that would let the call pass.
    pub(crate) async fn wait(&self) -> Result<(), Rejection> {
        let answered = self.until(|resolved| resolved.is_some());
        timeout(ANSWER_WITHIN, answered).await.map_err(|_| Rejection::DestinationUnknown)
    }

    /// Returns when the answer is like this.
    pub(crate) async fn until(&self, is: impl Fn(Option<&Resolved>) -> bool) {
        found(&self.changed, || is(self.get().as_deref()).then_some(())).await;
    }

    fn publish(&self, resolved: Resolved) {
        self.resolved.store(Some(Arc::new(resolved)));
        self.changed.notify_waiters();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
