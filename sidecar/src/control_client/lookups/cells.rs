//! Cells by name: made once, asked for once on each stream, forgotten when nobody uses them.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
};

use crate::sync::{Mutex, MutexGuard, Notify};

/// The cells that are in use.
pub(super) struct Cells<C> {
    by_name: Mutex<HashMap<Arc<str>, Arc<C>>>,
    /// Names that no stream has asked for yet. Each enters once, so it is as bounded as the cells.
    pending: Mutex<Vec<Arc<str>>>,
    added: Notify,
    most: usize,
}

impl<C: Default> Cells<C> {
    /// Room for so many.
    pub(super) fn new(most: usize) -> Self {
        Self { by_name: Mutex::default(), pending: Mutex::default(), added: Notify::default(), most }
    }

    /// The cell of a name, which is asked for if it is new. `None`: there are too many.
    pub(super) fn cell(&self, name: &str) -> Option<Arc<C>> {
        let mut by_name = lock(&self.by_name);
        if let Some(cell) = by_name.get(name) {
            return Some(cell.clone());
        }
        if !self.has_room(&mut by_name) {
            return None;
        }
        let (name, cell) = (Arc::<str>::from(name), Arc::<C>::default());
        by_name.insert(name.clone(), cell.clone());
        lock(&self.pending).push(name);
        self.added.notify_one();
        Some(cell)
    }

    /// The cell of a name, if it is in use.
    pub(super) fn get(&self, name: &str) -> Option<Arc<C>> {
        lock(&self.by_name).get(name).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<C>> {
        lock(&self.by_name).values().cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.by_name).len()
    }

    /// Forgets what nobody uses any more.
    pub(super) fn sweep(&self) {
        self.sweep_in(&mut lock(&self.by_name));
    }

    /// Whether so many are in use that no other is taken.
    pub(super) fn is_full(&self) -> bool {
        !self.has_room(&mut lock(&self.by_name))
    }

    fn has_room(&self, by_name: &mut HashMap<Arc<str>, Arc<C>>) -> bool {
        if by_name.len() >= self.most {
            self.sweep_in(by_name);
        }
        by_name.len() < self.most
    }

    fn sweep_in(&self, by_name: &mut HashMap<Arc<str>, Arc<C>>) {
        by_name.retain(|_, cell| Arc::strong_count(cell) > 1);
        // While no stream asks, it would grow with every name that comes and goes.
        lock(&self.pending).retain(|name| by_name.contains_key(name));
    }

    /// Waits until there is a name that was not asked for yet.
    pub(super) async fn added(&self) {
        self.added.notified().await;
    }

    /// What was not asked for yet.
    pub(super) fn take_new(&self) -> Vec<Arc<str>> {
        std::mem::take(&mut lock(&self.pending))
    }

    /// Everything, for a new stream.
    pub(super) fn take_all(&self) -> Vec<Arc<str>> {
        let by_name = lock(&self.by_name);
        lock(&self.pending).clear();
        by_name.keys().cloned().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
