//! The immutable result of one compilation, which every server of this process reads through a `tokio::sync::watch` channel
//! of `Arc<View>`.

use std::sync::Arc;
use std::time::Duration;

use control::{Destination, DestinationKind, MeshIssuer};
use fapi::{Audience, TrustDomain};

use crate::compile::{self, Compiled};
use crate::index::Index;
use crate::model::{Key, Model, Pod};

/// What the mesh looks like at one moment.
#[derive(Debug)]
pub struct View {
    synced: bool,
    order: u64,
    index: Index,
}

/// How long what we sign lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Of a workload certificate.
    pub certificate: Duration,
    /// Of an access token.
    pub token: Duration,
}

/// A snapshot as the control stream sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionedSnapshot {
    /// A short hash of the document: equal versions mean equal documents.
    pub version: String,
    /// The order of the view it is from; sidecars refuse older ones.
    pub order: u64,
    /// `control::Snapshot` as JSON.
    pub document: Vec<u8>,
}

/// The side that an audience belongs to, for the mesh issuer.
#[derive(Clone, Debug)]
pub struct AudienceTarget {
    /// The namespace of the Service.
    pub namespace: String,
    /// The policies that govern its ports. A port closed by an invalid policy
    /// contributes none, so an empty list grants nobody anything.
    pub policies: Vec<Arc<fapi::Policy>>,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { certificate: Duration::from_secs(12 * 3600), token: Duration::from_secs(3600) }
    }
}

impl View {
    /// The view before the sources are synced: knows nobody, grants nothing.
    pub fn empty(trust_domain: TrustDomain) -> Self {
        Self { synced: false, order: 0, index: Index::new(trust_domain, Model::default()) }
    }

    /// The view of a model that is complete. `order` must be larger than that of every view before it.
    pub fn new(trust_domain: TrustDomain, order: u64, model: Model) -> Self {
        Self { synced: true, order, index: Index::new(trust_domain, model) }
    }

    /// Whether every source was read once. Until then everything is refused.
    pub fn synced(&self) -> bool {
        self.synced
    }

    /// The order of this view: larger is newer, also across restarts.
    pub fn order(&self) -> u64 {
        self.order
    }

    /// The trust domain, fixed for the life of the process.
    pub fn trust_domain(&self) -> &TrustDomain {
        self.index.trust_domain()
    }

    /// How long certificates and tokens live.
    pub fn lifetimes(&self) -> Lifetimes {
        let mesh = self.index.model().mesh.as_ref();
        mesh.map_or_else(Lifetimes::default, |mesh| Lifetimes {
            certificate: mesh.certificate_lifetime,
            token: mesh.token_lifetime,
        })
    }

    /// The pod of this uid.
    pub fn pod(&self, uid: &str) -> Option<&Pod> {
        self.index.model().pods.get(uid)
    }

    /// All pods, in a stable order.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.index.model().pods.values()
    }

    /// What the pod's sidecar has to run; `None` for an unknown or unmeshed pod.
    pub fn snapshot(&self, uid: &str, issuer: &MeshIssuer) -> Option<VersionedSnapshot> {
        let compiled = Compiled::new(&compile::snapshot(&self.index, uid, issuer)?)?;
        Some(VersionedSnapshot { version: compiled.version, order: self.order, document: compiled.document })
    }

    /// What the pod needs to call `authority` (host and optional port, as an app writes it).
    pub fn destination(&self, uid: &str, authority: &str) -> Destination {
        match self.pod(uid) {
            Some(caller) => compile::destination(&self.index, caller, authority),
            None => Destination { authority: authority.to_owned(), kind: DestinationKind::Unknown },
        }
    }

    /// Who decides about tokens for this audience; `None` if no Service has it.
    pub fn audience_policies(&self, audience: &Audience) -> Option<AudienceTarget> {
        let key = service_of(audience)?;
        let service = self.index.model().services.get(&key)?;
        Some(AudienceTarget { namespace: service.key.namespace.to_string(), policies: self.index.policies_of(&key) })
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }
}

/// The Service whose audience this is: the mesh issuer knows no other audience.
fn service_of(audience: &Audience) -> Option<Key> {
    let (service, namespace) = audience.as_str().strip_prefix("https://")?.split_once('.')?;
    let key = Key::new(namespace, service);
    // The way back must give the same text, or two texts would name one Service.
    let same = Audience::for_service(service, namespace).is_ok_and(|derived| derived == *audience);
    same.then_some(key)
}
