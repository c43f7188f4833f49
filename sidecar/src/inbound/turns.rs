//! Handshakes cost more than all else, so only a few steps of them are made before everybody else has had a turn.
//!
//! A step is what a handshake computes between two waits for its peer. Waiting takes no turn: a peer that falls silent
//! keeps nobody from shaking hands.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use tokio::task::{spawn_local, yield_now};

/// Steps in one round of a worker: together they take about a millisecond, which is what a call may have to wait.
const STEPS: usize = 4;

/// The turns of one worker.
#[derive(Debug, Default)]
pub(super) struct Turns {
    taken: Cell<usize>,
    waiting: RefCell<Vec<Waker>>,
}

impl Turns {
    /// Does some work, step by step.
    pub(super) async fn take<F: Future>(self: &Rc<Self>, work: F) -> F::Output {
        let mut work = pin!(work);
        poll_fn(|cx| if self.is_mine(cx) { work.as_mut().poll(cx) } else { Poll::Pending }).await
    }

    fn is_mine(self: &Rc<Self>, cx: &Context<'_>) -> bool {
        let taken = self.taken.get();
        if taken == STEPS {
            self.waiting.borrow_mut().push(cx.waker().clone());
            return false;
        }
        if taken == 0 {
            let turns = Rc::clone(self);
            spawn_local(async move {
                yield_now().await;
                turns.end_round();
            });
        }
        self.taken.set(taken + 1);
        true
    }

    /// All that wait are woken: some of them may have been given up.
    fn end_round(&self) {
        self.taken.set(0);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::local;

    #[tokio::test]
    async fn a_burst_of_handshakes_leaves_turns_to_others() {
        local(async {
            let turns = Rc::<Turns>::default();
            let done = Rc::<Cell<usize>>::default();
            let all: Vec<_> = (0..10 * STEPS)
                .map(|_| {
                    let (turns, done) = (Rc::clone(&turns), Rc::clone(&done));
                    spawn_local(async move { turns.take(async { done.set(done.get() + 1) }).await })
                })
                .collect();
            let mut rounds = 0;
            while done.get() < all.len() {
                let before = done.get();
                yield_now().await;
                assert!(done.get() <= before + 2 * STEPS, "{} after {before}", done.get());
                rounds += 1;
            }
            assert!(rounds >= 5, "{rounds}");
        })
        .await;
    }

    #[tokio::test]
    async fn work_that_waits_or_is_given_up_takes_no_turn() {
        local(async {
            let turns = Rc::<Turns>::default();
            let silent: Vec<_> = (0..10 * STEPS)
                .map(|_| {
                    let turns = Rc::clone(&turns);
                    spawn_local(async move { turns.take(std::future::pending::<()>()).await })
                })
                .collect();
            turns.take(async {}).await;
            silent.iter().for_each(tokio::task::JoinHandle::abort);
            for _ in 0..3 * STEPS {
                turns.take(async {}).await;
            }
        })
        .await;
    }
}
