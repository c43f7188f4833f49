//! An end to waiting for the next frame.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

use crate::clock::monotonic;

/// A stream that is silent for longer is given up: nobody is there any more.
pub(crate) const LONGEST: Duration = Duration::from_secs(600);

/// A timer that is set only when something is waited for: most bodies arrive with their head and never set it.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    timer: Option<Pin<Box<Sleep>>>,
    running: bool,
}

impl Idle {
    /// Ready when the wait that began with the first poll since the last rest has lasted too long.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let begins = !std::mem::replace(&mut self.running, true);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(LONGEST)));
        if begins {
            timer.as_mut().reset(monotonic() + LONGEST);
        }
        timer.as_mut().poll(cx)
    }

    /// The wait is over.
    pub(crate) fn rest(&mut self) {
        self.running = false;
    }
}
