//! Answers that several need: whoever needs one first asks, all others wait for the same.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, PoisonError},
};

use crate::{
    awaited::found,
    sync::{Mutex, MutexGuard, Notify},
};

/// Answers by what was asked. `T` is a time.
pub(crate) struct Answers<K, A, T> {
    held: Mutex<HashMap<K, Held<A, T>>>,
    most: usize,
}

struct Held<A, T> {
    answer: Arc<Answer<A>>,
    asked: T,
    used: T,
}

/// One answer, as it is or will be.
pub(crate) struct Answer<A> {
    state: Mutex<State<A>>,
    changed: Notify,
}

enum State<A> {
    Asked,
    Given(A),
    /// Whoever was to give it is gone.
    Missing,
}

/// What is to be answered. Dropped, it tells those who wait that there is no answer.
pub(crate) struct Question<A>(Arc<Answer<A>>);

impl<K: Copy + Eq + Hash, A: Clone, T: Copy + Ord> Answers<K, A, T> {
    /// Room for so many.
    pub(crate) fn new(most: usize) -> Self {
        Self { held: Mutex::default(), most }
    }

    /// The answer to `key`. If there is none that `is_good`, and nobody was asked for it, `ask` hands the question on; a
    /// question that it drops is forgotten. It runs under a lock, so it waits for nothing.
    pub(crate) fn get(
        &self,
        key: K,
        now: T,
        is_good: impl Fn(&A) -> bool,
        ask: impl FnOnce(Question<A>),
    ) -> Arc<Answer<A>> {
        let mut held = lock(&self.held);
        if let Some(known) = held.get_mut(&key).filter(|known| known.answer.counts(is_good)) {
            known.used = now;
            return known.answer.clone();
        }
        let answer = Arc::new(Answer { state: Mutex::new(State::Asked), changed: Notify::default() });
        ask(Question(answer.clone()));
        if answer.counts(|_| true) {
            make_room(&mut held, self.most);
            held.insert(key, Held { answer: answer.clone(), asked: now, used: now });
        }
        answer
    }

    /// Forgets the answer to `key`, if it was asked for at a time that `is_old`.
    pub(crate) fn doubt(&self, key: &K, is_old: impl FnOnce(T) -> bool) {
        let mut held = lock(&self.held);
        if held.get(key).is_some_and(|known| is_old(known.asked)) {
            held.remove(key);
        }
    }

    /// Forgets what is not good any more, or was needed last at a time that `is_idle`.
    pub(crate) fn sweep(&self, is_good: impl Fn(&A) -> bool, is_idle: impl Fn(T) -> bool) {
        lock(&self.held).retain(|_, known| known.answer.counts(&is_good) && !is_idle(known.used));
    }
}

impl<A: Clone> Answer<A> {
    /// Waits for it; `None` if it is never given.
    pub(crate) async fn given(&self) -> Option<A> {
        let settled = || match &*lock(&self.state) {
            State::Asked => None,
            State::Given(answer) => Some(Some(answer.clone())),
            State::Missing => Some(None),
        };
        found(&self.changed, settled).await
    }
}

impl<A> Answer<A> {
    /// Whether it is good, or may be.
    fn counts(&self, is_good: impl Fn(&A) -> bool) -> bool {
        match &*lock(&self.state) {
            State::Asked => true,
            State::Given(answer) => is_good(answer),
            State::Missing => false,
        }
    }

    fn settle(&self, state: State<A>) {
        *lock(&self.state) = state;
        self.changed.notify_waiters();
    }
}

impl<A> Question<A> {
    /// Gives the answer to all who wait for it.
    pub(crate) fn answer(self, answer: A) {
        self.0.settle(State::Given(answer));
    }
}

impl<A> Drop for Question<A> {
    fn drop(&mut self) {
        if self.0.counts(|_| false) {
            self.0.settle(State::Missing);
        }
    }
}

/// The one that was needed least lately gives way.
fn make_room<K: Copy + Eq + Hash, A, T: Copy + Ord>(held: &mut HashMap<K, Held<A, T>>, most: usize) {
    if held.len() < most {
        return;
    }
    if let Some(oldest) = held.iter().min_by_key(|(_, known)| known.used).map(|(key, _)| *key) {
        held.remove(&oldest);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// What was asked and not answered.
    #[derive(Default)]
    struct Asked(Vec<Question<u32>>);

    /// Needs the answer to `key` at `now`; whether that was asked for.
    fn asks(answers: &Answers<u32, u32, u32>, asked: &mut Asked, key: u32, now: u32) -> bool {
        let before = asked.0.len();
        drop(answers.get(key, now, |answer| *answer >= now, |question| asked.0.push(question)));
        asked.0.len() > before
    }

    #[test]
    fn an_answer_is_asked_for_until_it_is_good() {
        let (answers, mut asked) = (Answers::new(8), Asked::default());
        assert!(asks(&answers, &mut asked, 1, 10));
        assert!(!asks(&answers, &mut asked, 1, 10), "it is on its way");
        asked.0.remove(0).answer(20);
        assert!(!asks(&answers, &mut asked, 1, 20));
        assert!(asks(&answers, &mut asked, 1, 21));
        drop(asked.0.remove(0));
        assert!(asks(&answers, &mut asked, 1, 21), "nobody has answered");
    }

    #[test]
    fn what_was_needed_least_lately_gives_way_and_never_to_what_is_not_asked() {
        let (answers, mut asked) = (Answers::new(2), Asked::default());
        for (key, now) in [(1, 1), (2, 2), (1, 3)] {
            asks(&answers, &mut asked, key, now);
        }
        let unasked = answers.get(9, 4, |_| true, drop);
        assert!(!unasked.counts(|_| true));
        assert!(!asks(&answers, &mut asked, 2, 5), "it has its place");
        assert!(asks(&answers, &mut asked, 3, 6), "in the place of 1");
        assert!(!asks(&answers, &mut asked, 2, 7));
        assert!(asks(&answers, &mut asked, 1, 8));
        assert_eq!(lock(&answers.held).len(), 2);
    }

    #[test]
    fn what_is_doubted_ended_or_idle_is_forgotten() {
        let (answers, mut asked) = (Answers::new(8), Asked::default());
        asks(&answers, &mut asked, 1, 10);
        answers.doubt(&1, |at| at < 10);
        assert!(!asks(&answers, &mut asked, 1, 11));
        answers.doubt(&1, |at| at <= 10);
        assert!(asks(&answers, &mut asked, 1, 11), "however lately it was used");

        for key in [2, 3] {
            asks(&answers, &mut asked, key, 20);
        }
        asked.0.pop().unwrap().answer(25);
        let forget = |time: u32, idle: u32| {
            answers.sweep(|answer| *answer >= time, |used| used < idle);
            let mut left: Vec<_> = lock(&answers.held).keys().copied().collect();
            left.sort_unstable();
            left
        };
        assert_eq!(forget(25, 11), [1, 2, 3]);
        assert_eq!(forget(25, 12), [2, 3], "1 is idle, though it is on its way");
        assert_eq!(forget(26, 12), [2], "3 has ended");
        drop(asked);
        assert_eq!(forget(0, 0), [0; 0], "nobody answers 2 any more");
    }
}
