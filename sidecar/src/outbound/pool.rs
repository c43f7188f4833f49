//! Connections to one endpoint, kept for the next request.
//!
//! A connection is used only by requests whose token belongs to its certificate, and only while the roots that it was
//! verified against are in force: its [`Number`] must be the current one. Idle ones end well before the other side would
//! end them, so that a request does not meet a connection that is just being closed.

mod h2;

pub(super) use h2::{H2, Plan};

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use fapi::UnixTime;
use hyper::client::conn::http1;
use tokio::time::timeout;

use super::{body::AppBody, connect::Life};

/// Most HTTP/1.1 connections to one endpoint, from one worker.
const MAX_OPEN: u32 = 1024;
/// An idle connection is closed after so many sweeps, which come once a second. The inbound side of a sidecar waits
/// longer.
const MAX_IDLE_SWEEPS: u32 = 45;
/// How long the rest of an upload may take when the response is already complete.
const SETTLE_WITHIN: Duration = Duration::from_secs(5);

/// Tells which connections may serve a request: the number of the [`Generation`](crate::state::Generation) that they
/// were made in; 0 for plaintext.
pub(super) type Number = u64;

/// How long a connection may be used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) number: Number,
    /// No request is begun from then on: shortly before the peer's certificate ends.
    pub(super) retire_at: UnixTime,
    /// It is closed then, whatever goes on: the end of the first of the two certificates.
    pub(super) ends_at: UnixTime,
}

impl Terms {
    /// For a connection that is made at `now` with certificates that end at `ends_at`.
    pub(super) fn until(number: Number, now: UnixTime, ends_at: UnixTime) -> Self {
        let life = ends_at.as_secs().saturating_sub(now.as_secs());
        // The last tenth is for requests in progress.
        Self { number, retire_at: ends_at.minus(life / 10 + 1), ends_at }
    }

    /// For a connection without certificates.
    pub(super) fn plaintext() -> Self {
        let never = UnixTime::from_secs(u64::MAX);
        Self { number: 0, retire_at: never, ends_at: never }
    }

    fn hold(&self, number: Number, now: UnixTime) -> bool {
        self.number == number && now < self.retire_at
    }
}

/// A connection to send one request on.
pub(super) enum Connection {
    /// Used by one request at a time.
    H1(H1),
    /// A share of one.
    H2(H2),
}

/// An HTTP/1.1 connection. Whoever holds it uses it alone.
pub(super) struct H1 {
    pub(super) sender: http1::SendRequest<AppBody>,
    /// Whether it has served a request before: the peer may just be closing it.
    pub(super) reused: bool,
    pub(super) life: Rc<Life>,
    idle_sweeps: u32,
}

impl H1 {
    pub(super) fn new(sender: http1::SendRequest<AppBody>, life: Rc<Life>) -> Self {
        Self { sender, reused: false, life, idle_sweeps: 0 }
    }

    /// Waits until it is ready for the next request; `None` when that does not happen.
    pub(super) async fn settled(mut self) -> Option<Self> {
        let ready = timeout(SETTLE_WITHIN, self.sender.ready()).await;
        matches!(ready, Ok(Ok(()))).then_some(self)
    }
}

/// The connections of one endpoint.
#[derive(Default)]
pub(super) struct Pool {
    idle: RefCell<Vec<H1>>,
    open: Rc<Cell<u32>>,
    h2: h2::Pool,
}

impl Pool {
    /// An idle HTTP/1.1 connection that fits: the one used last, so that surplus ones grow old.
    pub(super) fn take_h1(&self, number: Number, now: UnixTime) -> Option<H1> {
        let mut idle = self.idle.borrow_mut();
        while let Some(connection) = idle.pop() {
            if connection.life.terms.hold(number, now) && connection.sender.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request.
    pub(super) fn put_h1(&self, mut connection: H1) {
        connection.reused = true;
        connection.idle_sweeps = 0;
        self.idle.borrow_mut().push(connection);
    }

    /// Counts one more open HTTP/1.1 connection until the guard is dropped; `None` when there are too many.
    pub(super) fn enter_h1(&self) -> Option<OpenGuard> {
        let open = self.open.get();
        (open < MAX_OPEN).then(|| {
            self.open.set(open + 1);
            OpenGuard(self.open.clone())
        })
    }

    /// The HTTP/2 connections.
    pub(super) fn h2(&self) -> &h2::Pool {
        &self.h2
    }

    /// Closes idle connections that are of no use any more. Comes once a second.
    pub(super) fn sweep(&self, number: Number, now: UnixTime) {
        self.idle.borrow_mut().retain_mut(|connection| {
            connection.idle_sweeps += 1;
            connection.idle_sweeps <= MAX_IDLE_SWEEPS
                && connection.life.terms.hold(number, now)
                && !connection.sender.is_closed()
        });
        self.h2.sweep(number, now);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.get() == 0 && self.h2.is_empty()
    }
}

/// One of the open HTTP/1.1 connections of an endpoint.
pub(super) struct OpenGuard(Rc<Cell<u32>>);

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
