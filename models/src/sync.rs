//! As `sidecar/src/sync.rs`, of loom. [`Notify`] promises less than that of tokio: whoever waits is told only of what
//! happens after [`Notified::enable`] or the first poll.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

pub(crate) use loom::sync::{Mutex, MutexGuard};

#[derive(Default)]
pub(crate) struct Notify(Mutex<State>);

#[derive(Default)]
struct State {
    permit: bool,
    /// How often all who wait were told.
    rounds: u64,
    waiting: Vec<Waker>,
}

impl Notify {
    /// Tells one: who waits, or who waits next.
    pub(crate) fn notify_one(&self) {
        let mut state = self.0.lock().unwrap();
        state.permit = true;
        state.waiting.drain(..).for_each(Waker::wake);
    }

    /// Tells all who wait now.
    pub(crate) fn notify_waiters(&self) {
        let mut state = self.0.lock().unwrap();
        state.rounds += 1;
        state.waiting.drain(..).for_each(Waker::wake);
    }

    pub(crate) fn notified(&self) -> Notified<'_> {
        Notified { notify: self, since: None, told: false }
    }
}

pub(crate) struct Notified<'a> {
    notify: &'a Notify,
    since: Option<u64>,
    told: bool,
}

impl Notified<'_> {
    pub(crate) fn enable(self: Pin<&mut Self>) -> bool {
        self.get_mut().look(None)
    }

    fn look(&mut self, waker: Option<&Waker>) -> bool {
        let mut state = self.notify.0.lock().unwrap();
        let since = *self.since.get_or_insert(state.rounds);
        self.told |= since != state.rounds || std::mem::take(&mut state.permit);
        if !self.told {
            state.waiting.extend(waker.cloned());
        }
        self.told
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.get_mut().look(Some(cx.waker())) { Poll::Ready(()) } else { Poll::Pending }
    }
}
