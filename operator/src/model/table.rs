//! A map that costs nothing to hand on: whoever has it shares it, and a change copies only what leads to the entry.

use std::borrow::Borrow;
use std::collections::{BTreeMap, btree_map};
use std::ops::{Index, RangeFrom};
use std::sync::Arc;

/// Entries by key. Two that came from the same one are compared by what was changed since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table<K: Ord, V>(Arc<BTreeMap<K, Arc<V>>>);

impl<K: Ord + Clone, V: Clone> Table<K, V> {
    /// The entry under a key.
    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(key).map(|value| &**value)
    }

    /// Whether there is one.
    pub(crate) fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(key)
    }

    /// All entries, in the order of their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, &**value))
    }

    /// All keys, in order.
    pub(crate) fn keys(&self) -> btree_map::Keys<'_, K, Arc<V>> {
        self.0.keys()
    }

    /// All entries, in the order of their keys, without these.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.values().map(|value| &**value)
    }

    /// The entries from a key on.
    pub(crate) fn range(&self, range: RangeFrom<K>) -> impl Iterator<Item = (&K, &V)> {
        self.0.range(range).map(|(key, value)| (key, &**value))
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What is in one of two and not, or not so, in the other.
    pub(crate) fn changed<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (&'a K, &'a V)>
    where
        V: Eq,
    {
        let differs = !Arc::ptr_eq(&self.0, &before.0);
        let pairs = differs.then_some([(self, before), (before, self)]).into_iter().flatten();
        pairs.flat_map(|(these, others)| {
            let is_same = |key: &K, value: &Arc<V>| others.0.get(key).is_some_and(|other| other == value);
            these.0.iter().filter(move |(key, value)| !is_same(key, value)).map(|(key, value)| (key, &**value))
        })
    }

    /// Puts an entry in the place of the one under its key.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.map().insert(key, Arc::new(value));
    }

    /// Takes an entry out.
    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.map().remove(key).map(Arc::unwrap_or_clone)
    }

    /// An entry, to be changed; one that is not there is made.
    pub(crate) fn entry(&mut self, key: K, new: impl FnOnce() -> V) -> &mut V {
        Arc::make_mut(self.map().entry(key).or_insert_with(|| Arc::new(new())))
    }

    /// Every entry, to be changed.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.map().values_mut().map(Arc::make_mut)
    }

    fn map(&mut self) -> &mut BTreeMap<K, Arc<V>> {
        Arc::make_mut(&mut self.0)
    }
}

#[cfg(test)]
impl<K: Ord + Clone, V: Clone> Table<K, V> {
    /// An entry, to be changed.
    pub(crate) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.map().get_mut(key).map(Arc::make_mut)
    }

    /// Takes everything out.
    pub(crate) fn clear(&mut self) {
        self.map().clear();
    }

    /// Takes the first entry out.
    pub(crate) fn pop_first(&mut self) -> Option<(K, V)> {
        self.map().pop_first().map(|(key, value)| (key, Arc::unwrap_or_clone(value)))
    }
}

impl<K: Ord, V> Default for Table<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Ord + Clone, V: Clone> Extend<(K, V)> for Table<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, new: I) {
        self.map().extend(new.into_iter().map(|(key, value)| (key, Arc::new(value))));
    }
}

impl<K: Ord + Borrow<Q>, Q: Ord + ?Sized, V> Index<&Q> for Table<K, V> {
    type Output = V;

    fn index(&self, key: &Q) -> &V {
        &self.0[key]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_shows_in_the_changed_one_alone() {
        let mut before = Table::default();
        before.extend([("a", 1), ("b", 2), ("c", 3)]);
        let mut after = before.clone();
        assert_eq!(after.changed(&before).count(), 0);
        after.insert("b", 4);
        after.insert("c", 3);
        after.remove("a");
        *after.entry("d", || 0) += 5;
        assert_eq!((before["b"], after["b"], after.get("a")), (2, 4, None));
        let mut changed: Vec<_> = after.changed(&before).map(|(key, value)| (*key, *value)).collect();
        changed.sort_unstable();
        assert_eq!(changed, [("a", 1), ("b", 2), ("b", 4), ("d", 5)]);
    }
}
