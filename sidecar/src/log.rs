//! Decisions and events as JSON lines on standard output.
//!
//! Each thread writes into a [`LogBuffer`] of its own; full or 20 ms old ones go through a bounded queue to the one
//! writer thread. Nothing on the path of a request waits: what finds the queue full is counted, and a line says how
//! many lines were lost.

mod json;
mod line;
mod writer;

pub(crate) use line::{Decision, Direction, Listener, Outcome};
pub(crate) use writer::{Log, Writer};

use std::{cell::RefCell, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use fapi::Rejection;
use tokio::sync::Notify;

use crate::state::Shared;

/// A buffer is handed to the writer when it holds this many bytes.
const FLUSH_BYTES: usize = 32 * 1024;
/// ... or when its oldest line is this old.
const FLUSH_AFTER: Duration = Duration::from_millis(20);

/// The lines of one thread on their way to the writer.
pub(crate) struct LogBuffer {
    shared: Arc<Shared>,
    lines: RefCell<line::Lines>,
    filled: Notify,
}

impl LogBuffer {
    /// An empty buffer that tells the time by the clock of `shared`. Its thread must run [`LogBuffer::keep_flushing`].
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, lines: RefCell::default(), filled: Notify::new() }
    }

    /// Writes the line of a decision about one request.
    pub(crate) fn decision(&self, decision: &Decision<'_>) {
        self.write(|lines, now| lines.decision(now, decision));
    }

    /// Writes the line of a refused handshake.
    pub(crate) fn refused_handshake(&self, rejection: Rejection, peer: SocketAddr) {
        self.write(|lines, now| lines.refused_handshake(now, rejection, peer));
    }

    /// Writes the line of an answer that broke off. Its decision has been told before.
    pub(crate) fn broken_answer(&self, direction: Direction, interaction_id: &str) {
        self.write(|lines, now| lines.broken_answer(now, direction, interaction_id));
    }

    /// Writes the line of a listener that now accepts.
    pub(crate) fn listening(&self, listener: Listener, address: SocketAddr) {
        self.write(|lines, now| lines.listening(now, listener, address));
    }

    /// Hands all lines to the writer.
    pub(crate) fn flush(&self) {
        let bytes = self.lines.borrow_mut().take();
        if !bytes.is_empty() {
            self.shared.log.send(bytes);
        }
    }

    /// Flushes lines that are old enough, for ever. Sleeps while there are none.
    pub(crate) async fn keep_flushing(self: Rc<Self>) {
        loop {
            self.filled.notified().await;
            tokio::time::sleep(FLUSH_AFTER).await;
            self.flush();
        }
    }

    fn write(&self, line: impl FnOnce(&mut line::Lines, u64)) {
        let now = self.shared.clock.now_millis();
        let mut lines = self.lines.borrow_mut();
        let was_empty = lines.is_empty();
        line(&mut lines, now);
        let full = lines.len() >= FLUSH_BYTES;
        drop(lines);
        if full {
            self.flush();
        } else if was_empty {
            self.filled.notify_one();
        }
    }
}
