//! One call from the app to a peer: an explicit HTTP proxy that gives it a connection, an identity and a token.
//!
//! Everything here belongs to one data worker and to nobody else: no lock and no other thread is on the way of a
//! request. What the control thread knows is read from immutable values: the [`Generation`](crate::state::Generation) in
//! use, the answer to a lookup, a token. A request goes out on a connection of the same certificate that its token is
//! bound to, verified to be exactly the workload that the lookup named, or not at all.

mod balance;
mod body;

mod call;
mod connect;
mod dpop;
mod exchange;
mod failure;
mod head;
mod lease;
mod own;
mod peer;
mod pool;
mod redirected;
mod resend;
mod serve;
mod target;
mod websocket;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use fapi::{Rejection, SpiffeId};

use crate::{control_client::Lookups, local::Local, random};
#[cfg(test)]
pub(crate) use dpop::PRIMER_PATH;
use failure::Failure;
use own::Own;
use peer::Peer;
use target::Target;

const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// A silent HTTP/2 connection is asked for a sign of life, and closed without one.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(30);
const KEEP_ALIVE_WITHIN: Duration = Duration::from_secs(10);

/// What is spoken between two sidecars. Calls that need trailers always go over HTTP/2, upgrades over HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Between {
    /// A pool of HTTP/1.1 connections.
    H1,
    /// One HTTP/2 connection.
    H2,
}

/// Endpoints by address and the identity that is expected there; `None`: not in the mesh.
type Peers = HashMap<(SocketAddr, Option<SpiffeId>), Rc<Peer>>;

/// The outbound side of one data worker.
pub(crate) struct Outbound {
    local: Rc<Local>,
    lookups: Arc<Lookups>,
    between: Between,
    own: RefCell<Option<Rc<Own>>>,
    targets: RefCell<HashMap<Box<str>, Rc<Target>>>,
    peers: RefCell<Peers>,
    random: Cell<u64>,
}

impl Outbound {
    /// The outbound side of the worker that calls this. It cleans up after itself until it is dropped.
    pub(crate) fn new(local: Rc<Local>, lookups: Arc<Lookups>, between: Between) -> Rc<Self> {
        let seed = u64::from_le_bytes(random::bytes().unwrap_or_default()) | 1;
        let outbound = Rc::new(Self {
            local,
            lookups,
            between,
            own: RefCell::default(),
            targets: RefCell::default(),
            peers: RefCell::default(),
            random: Cell::new(seed),
        });
        tokio::task::spawn_local(keep_swept(Rc::downgrade(&outbound)));
        outbound
    }

    /// The certificate and roots in use.
    fn own(&self) -> Result<Rc<Own>, Failure> {
        let unready = Failure::Rejected(Rejection::TokenUnavailable);
        let generation = self.local.shared.identity().ok_or(unready.clone())?;
        if let Some(own) = self.own.borrow().as_ref().filter(|own| own.number == generation.number) {
            return Ok(own.clone());
        }
        let own = Own::new(&generation).map_err(|_| unready)?;
        *self.own.borrow_mut() = Some(own.clone());
        Ok(own)
    }

    /// The endpoint at an address, with the identity that it must prove.
    fn peer(&self, address: SocketAddr, expect: Option<&SpiffeId>) -> Rc<Peer> {
        let mut peers = self.peers.borrow_mut();
        peers
            .entry((address, expect.cloned()))
            .or_insert_with_key(|(_, expect)| Peer::new(address, expect.clone()))
            .clone()
    }

    /// The next number of a sequence without pattern (xorshift). For choosing among equals only.
    fn random(&self) -> u64 {
        let mut next = self.random.get();
        next ^= next << 13;
        next ^= next >> 7;
        next ^= next << 17;
        self.random.set(next);
        next
    }

    fn sweep(&self) {
        let shared = &self.local.shared;
        let (number, now) = (shared.identity().map_or(0, |generation| generation.number), shared.clock.now());
        // Frees the configurations, and with them the key, of a certificate that is no longer in use.
        self.own.borrow_mut().take_if(|own| own.number != number);
        self.targets.borrow_mut().retain(|_, target| target.is_used());
        // Others, and other workers, want some of the room for lookups too.
        if self.lookups.is_full() {
            self.forget_oldest();
        }
        let mut peers = self.peers.borrow_mut();
        peers.retain(|_, peer| {
            peer.sweep(number, now);
            Rc::strong_count(peer) > 1 || !peer.is_idle()
        });
    }
}

async fn keep_swept(outbound: Weak<Outbound>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    loop {
        ticks.tick().await;
        let Some(outbound) = outbound.upgrade() else { return };
        outbound.sweep();
    }
}

#[cfg(test)]
mod tests;
