//! HTTP/2 connections: shared by requests, made once for all who wait.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use fapi::UnixTime;
use hyper::client::conn::http2;
use tokio::sync::Notify;

use super::{MAX_IDLE_SWEEPS, Number, Terms};
use crate::outbound::{body::AppBody, failure::Failure};

/// Most requests at once on one connection before another is made: what every server should be expected to take
/// (RFC 9113 section 6.5.2).
const MAX_STREAMS: u32 = 100;
/// Most connections to one endpoint, from one worker. Beyond them requests share the least busy one.
const MAX_OPEN: usize = 16;

/// A share of a connection, for one request.
pub(in crate::outbound) struct H2 {
    pub(in crate::outbound) sender: http2::SendRequest<AppBody>,
    /// Whether it has served a request before.
    pub(in crate::outbound) reused: bool,
    slot: StreamSlot,
}

/// Counts one stream of a connection for as long as it lives.
struct StreamSlot(Rc<Use>);

/// What requests on one connection share.
#[derive(Default)]
struct Use {
    streams: Cell<u32>,
    served: Cell<bool>,
    primed: Cell<bool>,
}

struct Open {
    sender: http2::SendRequest<AppBody>,
    terms: Terms,
    in_use: Rc<Use>,
    idle_sweeps: Cell<u32>,
}

/// A connection that somebody is making.
#[derive(Default)]
pub(in crate::outbound) struct Connecting {
    done: Notify,
    failure: RefCell<Option<Failure>>,
}

/// What to do for a connection.
pub(in crate::outbound) enum Plan {
    /// Here is one.
    Use(H2),
    /// One is being made.
    Wait(Rc<Connecting>),
    /// Make one and report it by [`Pool::connected`].
    Connect(Rc<Connecting>),
}

/// The HTTP/2 connections of one endpoint.
#[derive(Default)]
pub(in crate::outbound) struct Pool {
    open: RefCell<Vec<Open>>,
    connecting: RefCell<Option<Rc<Connecting>>>,
}

impl H2 {
    /// Whether its server must still be asked for a nonce; says so once.
    pub(in crate::outbound) fn needs_nonce(&self) -> bool {
        !self.slot.0.primed.replace(true)
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get().saturating_sub(1));
    }
}

impl Connecting {
    /// Waits until it is there, or failed.
    pub(in crate::outbound) async fn done(&self) -> Result<(), Failure> {
        self.done.notified().await;
        self.failure.borrow().clone().map_or(Ok(()), Err)
    }
}

impl Pool {
    /// A connection that fits, or how to get one.
    pub(in crate::outbound) fn plan(&self, number: Number, now: UnixTime, fresh: bool) -> Plan {
        self.open.borrow_mut().retain(|open| open.terms.hold(number, now) && !open.sender.is_closed());
        let open = self.open.borrow();
        let least = open.iter().filter(|open| !(fresh && open.in_use.served.get())).min_by_key(|open| open.streams());
        match least {
            Some(least) if least.streams() < MAX_STREAMS || open.len() >= MAX_OPEN => Plan::Use(least.share()),
            _ => {
                let mut connecting = self.connecting.borrow_mut();
                match &*connecting {
                    Some(connecting) => Plan::Wait(connecting.clone()),
                    None => Plan::Connect(connecting.insert(Rc::default()).clone()),
                }
            }
        }
    }

    /// Ends the making of a connection and wakes all who wait for it.
    pub(in crate::outbound) fn connected(&self, made: Result<(http2::SendRequest<AppBody>, Terms), Failure>) {
        let failure = match made {
            Ok((sender, terms)) => {
                let (in_use, idle_sweeps) = (Rc::default(), Cell::new(0));
                self.open.borrow_mut().push(Open { sender, terms, in_use, idle_sweeps });
                None
            }
            Err(failure) => Some(failure),
        };
        if let Some(connecting) = self.connecting.borrow_mut().take() {
            *connecting.failure.borrow_mut() = failure;
            connecting.done.notify_waiters();
        }
    }

    pub(super) fn sweep(&self, number: Number, now: UnixTime) {
        self.open.borrow_mut().retain(|open| {
            open.idle_sweeps.set(if open.streams() == 0 { open.idle_sweeps.get() + 1 } else { 0 });
            open.idle_sweeps.get() <= MAX_IDLE_SWEEPS && open.terms.hold(number, now) && !open.sender.is_closed()
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.borrow().is_empty() && self.connecting.borrow().is_none()
    }
}

impl Open {
    fn streams(&self) -> u32 {
        self.in_use.streams.get()
    }

    fn share(&self) -> H2 {
        self.in_use.streams.set(self.streams() + 1);
        let reused = self.in_use.served.replace(true);
        H2 { sender: self.sender.clone(), reused, slot: StreamSlot(self.in_use.clone()) }
    }
}
