//! Destinations by authority: asked once, answered by the control stream, read by every worker.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::{ArcSwapOption, Guard};
use control::Destination;
use fapi::Rejection;
use tokio::{sync::Notify, time::timeout};

use super::destination::Resolved;

/// Most authorities known at once; also the operator's bound for one stream.
pub(super) const MAX_AUTHORITIES: usize = 4096;
/// A DNS name and a port.
const AUTHORITY_BYTES: usize = 255 + 6;
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// The destinations that the process knows or has asked for.
#[derive(Default)]
pub(crate) struct Lookups {
    cells: Mutex<HashMap<Arc<str>, Arc<DestinationCell>>>,
    /// Authorities that no stream has asked for yet. Each enters once, so it is as bounded as the cells.
    pending: Mutex<Vec<Arc<str>>>,
    added: Notify,
}

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
        Self::default()
    }

    /// The place of the answer for an authority, which is asked for if it is new. Hold it while it is in use.
    ///
    /// # Errors
    /// `destination_unknown` when too many are known, or when it cannot be a name.
    pub(crate) fn cell(&self, authority: &str) -> Result<Arc<DestinationCell>, Rejection> {
        let mut cells = lock(&self.cells);
        if let Some(cell) = cells.get(authority) {
            return Ok(cell.clone());
        }
        if cells.len() >= MAX_AUTHORITIES || authority.len() > AUTHORITY_BYTES {
            return Err(Rejection::DestinationUnknown);
        }
        let (authority, cell) = (Arc::<str>::from(authority), Arc::<DestinationCell>::default());
        cells.insert(authority.clone(), cell.clone());
        lock(&self.pending).push(authority);
        self.added.notify_one();
        Ok(cell)
    }

    /// Forgets what no worker uses any more, for ever.
    pub(super) async fn keep_swept(&self) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            self.sweep();
        }
    }

    fn sweep(&self) {
        lock(&self.cells).retain(|_, cell| Arc::strong_count(cell) > 1);
    }
}

// The stream's side.
impl Lookups {
    /// Waits until there is something that was not asked yet.
    pub(super) async fn added(&self) {
        self.added.notified().await;
    }

    /// How many destinations are in use.
    pub(super) fn len(&self) -> usize {
        lock(&self.cells).len()
    }

    /// What was not asked yet.
    pub(super) fn take_new(&self) -> Vec<Arc<str>> {
        std::mem::take(&mut lock(&self.pending))
    }

    /// Everything, for a new stream.
    pub(super) fn take_all(&self) -> Vec<Arc<str>> {
        let cells = lock(&self.cells);
        lock(&self.pending).clear();
        cells.keys().cloned().collect()
    }

    /// Publishes an answer. One that nobody waits for any more is dropped.
    pub(super) fn answer(&self, document: Destination, resolved: Resolved) {
        let cell = lock(&self.cells).get(document.authority.as_str()).cloned();
        if let Some(cell) = cell {
            *lock(&cell.document) = Some(document);
            cell.publish(resolved);
        }
    }

    /// Reads every answer anew.
    pub(super) fn reread(&self, mut read: impl FnMut(&Destination) -> Option<Resolved>) {
        let cells: Vec<_> = lock(&self.cells).values().cloned().collect();
        for cell in cells {
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
        timeout(ANSWER_WITHIN, self.wait_without_end()).await.map_err(|_| Rejection::DestinationUnknown)
    }

    async fn wait_without_end(&self) {
        self.until(|resolved| resolved.is_some()).await;
    }

    /// Returns when the answer is like this.
    pub(crate) async fn until(&self, is: impl Fn(Option<&Resolved>) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if is(self.get().as_deref()) {
                return;
            }
            changed.await;
        }
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
