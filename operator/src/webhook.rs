//! The admission webhooks: pods that ask for a sidecar get one, nothing is put into them later that could take it over, and
//! objects of ours that do not compile are not taken.
//!
//! All are functions of one review and of what the operator knows. What became of it is told as an Event of an object that
//! exists, except of a dry run (`sideEffects: NoneOnDryRun`). Any number of replicas serve them, each with a certificate of its own
//! by an authority that they share.
//!
//! Whoever reaches the port can ask, as API servers show no certificate. So nobody who asks slowly or much keeps others from an
//! answer, and what is asked changes nothing but what is told of objects that are known.

mod authority;
mod certificate;
mod cluster;
mod configuration;
mod ephemeral;
mod http;
mod meter;
mod mutate;
mod review;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use control::tls::TlsError;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

pub(crate) use self::authority::Authority;
pub(crate) use self::certificate::Certificate;
pub(crate) use self::cluster::{Cluster, keep, register};
pub(crate) use self::configuration::Service;
pub(crate) use self::meter::Meter;
use crate::accept::{self, Room, Tls};
use crate::clock::Clock;
use crate::events::Events;
use crate::inject::{self, Settings};
use crate::source::{Desired, ObjectId, Schemas};

/// What the server offers in the handshake.
pub(crate) const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];
/// API servers ask by HTTP/1.1, so that each review has a connection; a rollout asks for many at once.
const CONNECTIONS: usize = 256;
/// From one address, behind which may be several API servers.
const CONNECTIONS_FROM_ONE: usize = 192;
/// Reviews that are answered at once. A large one counts for several, as what is made of it takes many times its room, and
/// there is one of them at a time: there are always turns for the small ones.
const REVIEWS: usize = 16;
/// The bytes of all reviews that are read and not answered yet.
const READ: usize = 64 * 1024 * 1024;

/// The labels of a namespace; `None` if they cannot be learned now.
pub(crate) type Labels = Option<BTreeMap<String, String>>;

/// Where the labels of namespaces come from.
pub(crate) trait Namespaces: Send + Sync {
    /// The labels of a namespace, within a second or so.
    fn labels<'a>(&'a self, name: &'a str) -> Pin<Box<dyn Future<Output = Labels> + Send + 'a>>;
}

/// What answers reviews.
pub(crate) struct Webhook {
    settings: Settings,
    desired: watch::Receiver<Arc<Desired>>,
    namespaces: Box<dyn Namespaces>,
    schemas: Schemas,
    reviews: Semaphore,
    large_reviews: Semaphore,
    read: Semaphore,
    events: Events,
    meter: Meter,
}

impl Webhook {
    /// Answers by the settings of the mesh in force; `settings` say the rest.
    pub(crate) fn new(
        settings: Settings,
        desired: watch::Receiver<Arc<Desired>>,
        namespaces: Box<dyn Namespaces>,
    ) -> Self {
        Self {
            settings,
            desired,
            namespaces,
            schemas: Schemas::new(),
            reviews: Semaphore::new(REVIEWS),
            large_reviews: Semaphore::new(1),
            read: Semaphore::new(READ),
            events: Events::none(),
            meter: Meter::default(),
        }
    }

    /// The same, with what becomes of reviews told as Events, and counted.
    pub(crate) fn seen_by(self, events: Events, meter: Meter) -> Self {
        Self { events, meter, ..self }
    }

    /// What injection goes by now.
    fn settings(&self) -> Settings {
        let mesh = self.desired.borrow().model.mesh.as_ref().map(|mesh| mesh.allowed.clone());
        Settings { allowed: mesh.unwrap_or_default(), ..self.settings.clone() }
    }

    /// Whether pods of the mesh are made in a namespace, by its labels or by what the source knows.
    fn is_of_the_mesh(&self, namespace: &inject::Namespace) -> bool {
        let asks = namespace.labels.get(inject::INJECT).is_some_and(|value| value == inject::ENABLED);
        asks || self.desired.borrow().opted_in.contains(&*namespace.name)
    }

    /// Whether the source knows an object.
    fn knows(&self, id: &ObjectId) -> bool {
        self.desired.borrow().has(id)
    }
}

/// Serves until `shutdown` says true.
///
/// # Errors
/// Only if the first TLS configuration cannot be built.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Tls,
    webhook: Arc<Webhook>,
    clock: Clock,
    shutdown: watch::Receiver<bool>,
) -> Result<(), TlsError> {
    let serve = move |connection| http::connection(webhook.clone(), connection);
    let room = Room::Everybody { most: CONNECTIONS, from_one: CONNECTIONS_FROM_ONE };
    accept::run(listener, tls, room, clock, shutdown, serve).await
}

/// What the API server waits for an answer; ours comes earlier, so that it says why.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of that, for reading what is asked: an API server has it ready.
const READING: Duration = Duration::from_secs(2);
