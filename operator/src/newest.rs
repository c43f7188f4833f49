//! What one may have of something at one time: a few, and the newest of them.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// What each `K` has open, the oldest first. Clones share it.
///
/// Who opens more than it may have loses its oldest: who is really there has just asked, and what is left of a connection that
/// went without a word was there before.
#[derive(Clone, Debug)]
pub(crate) struct Newest<K> {
    most: usize,
    all: Arc<Mutex<HashMap<K, VecDeque<Arc<Notify>>>>>,
}

/// One that is open; it counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Open<K: Eq + Hash> {
    newest: Newest<K>,
    of: K,
    replaced: Arc<Notify>,
}

impl<K: Clone + Eq + Hash> Newest<K> {
    /// At most so many for each.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, all: Arc::default() }
    }

    /// Opens one more; the oldest of the same one beyond the bound is told to go.
    pub(crate) fn open(&self, of: K) -> Open<K> {
        let replaced = Arc::new(Notify::new());
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let open = all.entry(of.clone()).or_default();
        if open.len() >= self.most {
            open.pop_front().inspect(|oldest| oldest.notify_one());
        }
        open.push_back(replaced.clone());
        Open { newest: self.clone(), of, replaced }
    }
}

impl<K: Eq + Hash> Open<K> {
    /// Who has it open.
    pub(crate) fn of(&self) -> &K {
        &self.of
    }

    /// Returns when a newer one has taken its place.
    pub(crate) async fn replaced(&self) {
        self.replaced.notified().await;
    }
}

impl<K: Eq + Hash> Drop for Open<K> {
    fn drop(&mut self) {
        let mut all = self.newest.all.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = all.get_mut(&self.of) else { return };
        open.retain(|other| !Arc::ptr_eq(other, &self.replaced));
        if open.is_empty() {
            all.remove(&self.of);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn the_newest_takes_the_place_of_the_oldest_of_the_same_one() {
        let newest = Newest::new(2);
        let is_replaced = async |open: &Open<u8>| timeout(Duration::ZERO, open.replaced()).await.is_ok();
        let first = newest.open(1);
        let second = newest.open(1);
        let elsewhere = newest.open(2);
        assert!(!is_replaced(&first).await);
        let third = newest.open(1);
        assert!(is_replaced(&first).await && !is_replaced(&second).await && !is_replaced(&elsewhere).await);
        drop((first, third));
        let fourth = newest.open(1);
        assert!(!is_replaced(&second).await, "what has ended takes no place");
        drop((second, fourth, elsewhere));
        assert!(newest.all.lock().unwrap().is_empty());
    }
}
