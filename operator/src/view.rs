//! The immutable result of one compilation, which every server of this process
//! reads through a `tokio::sync::watch` channel of `Arc<View>`.

use std::sync::Arc;
use std::time::Duration;

use control::{Destination, DestinationKind, MeshIssuer};
use fapi::{Audience, TrustDomain};

use crate::model::Pod;

/// What the mesh looks like at one moment.
#[derive(Debug)]
pub struct View {
    synced: bool,
    order: u64,
    trust_domain: TrustDomain,
    lifetimes: Lifetimes,
    pods: Vec<Pod>,
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
        Self { synced: false, order: 0, trust_domain, lifetimes: Lifetimes::default(), pods: Vec::new() }
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
        &self.trust_domain
    }

    /// How long certificates and tokens live.
    pub fn lifetimes(&self) -> Lifetimes {
        self.lifetimes
    }

    /// The pod of this uid.
    pub fn pod(&self, uid: &str) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.uid == uid)
    }

    /// All pods, in a stable order.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter()
    }

    /// What the pod's sidecar has to run; `None` for an unknown or unmeshed
    /// pod.
    pub fn snapshot(&self, _uid: &str, _issuer: &MeshIssuer) -> Option<VersionedSnapshot> {
        None
    }

    /// What the pod needs to call `authority` (host and optional port, as an
    /// app writes it).
    pub fn destination(&self, _uid: &str, authority: &str) -> Destination {
        Destination { authority: authority.to_owned(), kind: DestinationKind::Unknown }
    }

    /// Who decides about tokens for this audience; `None` if no Service has it.
    pub fn audience_policies(&self, _audience: &Audience) -> Option<AudienceTarget> {
        None
    }
}
