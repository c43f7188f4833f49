//! What replicas of the operator tell each other: each keeps one stream to the one that holds the Lease.
//!
//! A replica tells the holder what its sidecars acknowledged and counted, and which keys they sign with; the holder tells keys back, so that
//! every replica knows those of all. Nothing here is durable and nothing has to be: on every new stream all of it is told again,
//! and what a replica has not told is not acknowledged. What must outlive a process (revocations, used assertions, the keys of
//! the issuer) is in Secrets before anyone is answered.

mod dial;
mod follower;
mod holder;
mod news;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use control::pb::{self, replica_message::Kind};
use tokio::sync::watch;

#[cfg(test)]
pub(crate) use self::dial::Channel;
pub(crate) use self::follower::Follower;
pub(crate) use self::holder::{Ends, not_holder, serve};
use self::news::Told;
use crate::acks::Acks;
use crate::audits::{Audits, Counted};
use crate::client_keys::ClientKeys;
use crate::clock::Clock;
use crate::issuer::{Delivered, Published};
use crate::view::View;

/// The books that replicas share.
#[derive(Clone)]
pub(crate) struct Books {
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) acks: Arc<Acks>,
    pub(crate) audits: Arc<Audits>,
    pub(crate) client_keys: Arc<ClientKeys>,
    /// The issuer's keys, and who has been sent them.
    pub(crate) keys: watch::Receiver<Arc<Published>>,
    pub(crate) delivered: Arc<Delivered>,
    pub(crate) clock: Clock,
}

impl Books {
    /// Takes the key of a sidecar that another replica tells of. It is not told back.
    fn take_key(&self, key: &pb::ClientKey, told: &Told) {
        told.heard(key);
        if let Err(reason) = self.client_keys.take(&self.view.borrow(), key, self.clock.now()) {
            tracing::warn!(event = "replica", pod_uid = key.pod_uid, reason, "the key of a sidecar is not published");
        }
    }

    /// Reads what a sidecar has counted that another replica tells of.
    fn read_counts(&self, told: pb::WouldRefuse) -> Option<Counted> {
        Counted::read(told, self.view.borrow().trust_domain(), self.clock.now()).ok()
    }
}

/// A message of this kind.
fn message(kind: Kind) -> pb::ReplicaMessage {
    pb::ReplicaMessage { kind: Some(kind) }
}
