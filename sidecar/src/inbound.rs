//! One call from a peer to the app: TLS ends here, every request is judged, and only an admission passes.
//!
//! Everything here belongs to one data worker and to nobody else. What the control thread knows is read from immutable
//! values; who the peer is, is computed once per connection.

mod connection;
mod enforce;
mod exempt;
mod framing;
mod lifetime;
mod opaque;
mod pass;
mod record;
mod serve;
mod standing;
#[cfg(test)]
mod tests;
mod turns;
mod unread;
mod watched;
mod websocket;

pub(crate) use connection::{Connection, Passage};
#[cfg(test)]
use exempt::MAX_CONNECTIONS as MAX_PLAIN;
pub(crate) use lifetime::TICK;
pub(crate) use standing::Standing;
pub(crate) use unread::unread;

use std::{
    cell::RefCell,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use fapi::{Peer, Rejection, Revocations, SpiffeId, UnixTime};
use http::HeaderValue;
use tokio::sync::Semaphore;

use crate::{
    forward::Apps,
    local::Local,
    shares::{Counted, Shares},
};
use lifetime::Lifetimes;
use turns::Turns;

/// Handshakes in progress on one worker. Most of them only wait, and hold some 10 KiB each.
pub(crate) const HANDSHAKES: usize = 1024;
/// And from one address: whoever keeps silent cannot keep all others out. Pods have addresses of their own.
const HANDSHAKES_FROM_ONE: usize = HANDSHAKES / 2;
/// Connections of one pod on one worker. Each may hold a head of 64 KiB: all of them hold less than half of a sidecar's memory.
/// Another sidecar needs few, as calls share them.
const CONNECTIONS_OF_ONE: usize = 512;

/// The inbound side of one data worker.
pub(crate) struct Inbound {
    local: Rc<Local>,
    apps: Apps,
    lifetimes: Lifetimes,
    revocations: RefCell<Arc<Revocations>>,
    nonce: RefCell<(UnixTime, HeaderValue)>,
    /// Room for plain connections.
    plain_slots: Semaphore,
    /// Handshakes in progress, by where they come from.
    sources: Shares<IpAddr>,
    /// Connections, by the pod of the peer.
    pods: Shares<(SpiffeId, Option<Arc<str>>)>,
    /// Calls that have a connection to the app.
    callers: Shares<SpiffeId>,
    turns: Rc<Turns>,
}

impl Inbound {
    pub(crate) fn new(local: Rc<Local>) -> Rc<Self> {
        let apps = Apps::new(Arc::clone(&local.shared));
        let revocations = RefCell::new(local.shared.revocations());
        let nonce = RefCell::new((UnixTime::from_secs(0), HeaderValue::from_static("")));
        let plain_slots = Semaphore::new(exempt::MAX_CONNECTIONS);
        Rc::new(Self {
            local,
            apps,
            lifetimes: Lifetimes::default(),
            revocations,
            nonce,
            plain_slots,
            sources: Shares::default(),
            pods: Shares::default(),
            callers: Shares::default(),
            turns: Rc::default(),
        })
    }

    /// Tells of a connection that was made to the port of the sidecar itself: no policy can govern it.
    pub(crate) fn refuse_direct(&self, address: SocketAddr) {
        self.local.shared.metrics.handshakes_refused.count(Rejection::PolicyMissing);
        self.local.log.refused_handshake(Rejection::PolicyMissing, address);
    }

    /// Room for the handshake of a connection from `address`, until that is dropped. `None`: too many come from there, and
    /// the connection is to be closed.
    pub(crate) fn admit(&self, address: SocketAddr) -> Option<Counted> {
        let place = Counted::enter(&self.sources.of(address.ip()), HANDSHAKES_FROM_ONE);
        if place.is_none() {
            self.local.shared.metrics.handshakes_aborted.add(1);
        }
        place
    }

    /// Room for one more connection of a peer's pod, until that is dropped.
    fn seat(&self, peer: &Peer) -> Option<Counted> {
        let pod = (peer.spiffe_id.clone(), peer.pod_uid.clone());
        let seat = Counted::enter(&self.pods.of(pod), CONNECTIONS_OF_ONE);
        if seat.is_none() {
            tracing::warn!(caller = %peer.spiffe_id, "a connection is closed at once: its pod has {CONNECTIONS_OF_ONE} already");
        }
        seat
    }

    /// One [`TICK`] has passed.
    pub(crate) fn tick(&self) {
        self.lifetimes.tick(self.local.shared.clock.now(), self.local.shared.bundle().as_ref());
        self.apps.tick();
        self.sources.tick();
        self.pods.tick();
        self.callers.tick();
        let revocations = self.local.shared.revocations();
        if !Arc::ptr_eq(&self.revocations.borrow(), &revocations) {
            // Its requests are refused already; who holds it is not to hold it any longer.
            self.lifetimes.close_revoked(&revocations, self.local.shared.clock.now());
            *self.revocations.borrow_mut() = revocations;
        }
    }

    /// Takes no more calls; those in progress may end.
    pub(crate) fn close(&self) {
        self.lifetimes.close();
    }

    /// Whether no connection is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.lifetimes.is_empty()
    }

    /// The nonce for the proofs of the next minutes: the same for all answers of a second.
    fn nonce(&self) -> HeaderValue {
        let now = self.local.shared.clock.now();
        let mut latest = self.nonce.borrow_mut();
        if latest.0 != now
            && let Ok(nonce) = HeaderValue::try_from(self.local.shared.nonces.mint(now))
        {
            *latest = (now, nonce);
        }
        latest.1.clone()
    }
}
