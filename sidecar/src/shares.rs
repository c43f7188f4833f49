//! Shares of what there is a bounded amount of: however much one taker wants, others still get some.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    hash::Hash,
    rc::Rc,
};

/// How much a taker holds at the moment.
pub(crate) type Share = Rc<Cell<usize>>;

/// One of a bounded number of things, until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Share);

impl Counted {
    /// One more, unless there are `most` already.
    pub(crate) fn enter(count: &Share, most: usize) -> Option<Self> {
        let current = count.get();
        (current < most).then(|| {
            count.set(current + 1);
            Self(Rc::clone(count))
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// The shares of all takers of a worker. There are as many as takers with a connection, which are bounded.
#[derive(Debug)]
pub(crate) struct Shares<K>(RefCell<HashMap<K, Share>>);

impl<K> Default for Shares<K> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<K: Eq + Hash> Shares<K> {
    /// The share of one taker.
    pub(crate) fn of(&self, taker: K) -> Share {
        Rc::clone(self.0.borrow_mut().entry(taker).or_default())
    }

    /// Forgets takers that hold nothing. Comes once a second.
    pub(crate) fn tick(&self) {
        self.0.borrow_mut().retain(|_, share| Rc::strong_count(share) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taker_that_has_its_share_gets_no_more_and_others_do() {
        let shares = Shares::default();
        let held: Vec<_> = (0..2).map(|_| Counted::enter(&shares.of("greedy"), 2)).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(Counted::enter(&shares.of("greedy"), 2).is_none());
        assert!(Counted::enter(&shares.of("other"), 2).is_some());
        shares.tick();
        assert_eq!(shares.0.borrow().keys().collect::<Vec<_>>(), [&"greedy"], "who holds nothing is forgotten");
        drop(held);
        assert!(Counted::enter(&shares.of("greedy"), 2).is_some());
    }
}
