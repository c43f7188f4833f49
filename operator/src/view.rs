//! The immutable result of one compilation, which every server of this process reads through a `tokio::sync::watch` channel
//! of `Arc<View>`.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use control::{Destination, DestinationKind, MeshIssuer, Order};
use fapi::{Audience, KeySet, SpiffeId, TrustDomain};

use crate::cluster_domain::ClusterDomain;
use crate::compile::{self, Compiled};
use crate::index::Index;
use crate::model::{Key, Left, Model, Pod};

/// What the mesh looks like at one moment.
#[derive(Debug)]
pub(crate) struct View {
    synced: bool,
    order: Order,
    index: Index,
    /// By namespace.
    snapshots: HashMap<Arc<str>, Arc<Snapshots>>,
}

/// The snapshots of one namespace by pod uid. Compiled when it is first asked for, then shared by everyone who asks, also of
/// later views, until something in the namespace changes.
type Snapshots = HashMap<String, OnceLock<Option<Snapshot>>>;

/// A snapshot, and the issuer that it names.
#[derive(Debug)]
struct Snapshot {
    issuer: MeshIssuer,
    made: Arc<VersionedSnapshot>,
}

/// How long what we sign lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifetimes {
    /// Of a workload certificate.
    pub(crate) certificate: Duration,
    /// Of an access token.
    pub(crate) token: Duration,
}

/// A snapshot as the control stream sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VersionedSnapshot {
    /// A short hash of the document: equal versions mean equal documents.
    pub(crate) version: String,
    /// What a sidecar must be able to enforce to run it.
    pub(crate) required_features: Vec<&'static str>,
    /// `control::Snapshot` as JSON.
    pub(crate) document: Vec<u8>,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { certificate: Duration::from_secs(12 * 3600), token: Duration::from_secs(3600) }
    }
}

impl View {
    /// The view before the sources are synced: knows nobody, grants nothing.
    pub(crate) fn empty(trust_domain: TrustDomain) -> Self {
        let index = Index::new(trust_domain, Model::default());
        Self { synced: false, order: Order::default(), index, snapshots: HashMap::new() }
    }

    /// The same in a cluster whose DNS answers under this domain.
    pub(crate) fn under(self, domain: ClusterDomain) -> Self {
        Self { index: self.index.under(domain), ..self }
    }

    /// The view that takes the place of this one: of a model that is complete. The number of `order` must be larger than that of
    /// every view before it.
    pub(crate) fn next(&self, order: impl Into<Order>, model: Model) -> Self {
        let index = self.index.next(model);
        let mut snapshots = self.snapshots.clone();
        snapshots.retain(|namespace, _| index.shares(namespace, &self.index));
        let mut changed: HashMap<&str, Snapshots> = HashMap::new();
        for pod in index.model().pods.values().filter(|pod| !snapshots.contains_key(pod.namespace.as_str())) {
            changed.entry(&pod.namespace).or_default().insert(pod.uid.clone(), OnceLock::new());
        }
        snapshots.extend(changed.into_iter().map(|(namespace, of_it)| (namespace.into(), Arc::new(of_it))));
        Self { synced: true, order: order.into(), index, snapshots }
    }

    /// The same with these addresses that pods of the mesh have left. No snapshot depends on them.
    pub(crate) fn remembering(self, left: Left) -> Self {
        Self { index: self.index.remembering(left), ..self }
    }

    /// Whether every source was read once. Until then everything is refused.
    pub(crate) fn synced(&self) -> bool {
        self.synced
    }

    /// The order of this view, which is behind no earlier one, also across restarts.
    pub(crate) fn order(&self) -> &Order {
        &self.order
    }

    /// The trust domain, fixed for the life of the process.
    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        self.index.trust_domain()
    }

    /// How long certificates and tokens live.
    pub(crate) fn lifetimes(&self) -> Lifetimes {
        let mesh = self.index.model().mesh.as_ref();
        mesh.map_or_else(Lifetimes::default, |mesh| Lifetimes {
            certificate: mesh.certificate_lifetime,
            token: mesh.token_lifetime,
        })
    }

    /// The pod of this uid.
    pub(crate) fn pod(&self, uid: &str) -> Option<&Pod> {
        self.index.model().pods.get(uid)
    }

    /// All pods, in a stable order.
    pub(crate) fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.index.model().pods.values()
    }

    /// What the pod's sidecar has to run; `None` for an unknown or unmeshed pod.
    pub(crate) fn snapshot(&self, uid: &str, issuer: &MeshIssuer) -> Option<Arc<VersionedSnapshot>> {
        let known = self
            .snapshots
            .get(self.pod(uid)?.namespace.as_str())?
            .get(uid)?
            .get_or_init(|| Some(Snapshot { issuer: issuer.clone(), made: Arc::new(self.compile(uid, issuer)?) }));
        match known.as_ref()? {
            Snapshot { issuer: same, made } if same == issuer => Some(made.clone()),
            // A process has one issuer; whoever names another pays for it.
            _ => self.compile(uid, issuer).map(Arc::new),
        }
    }

    fn compile(&self, uid: &str, issuer: &MeshIssuer) -> Option<VersionedSnapshot> {
        let snapshot = compile::snapshot(&self.index, uid, issuer)?;
        let Compiled { version, document } = Compiled::new(&snapshot)?;
        let required_features = control::features::required(&snapshot);
        Some(VersionedSnapshot { version, required_features, document })
    }

    /// What the pod needs to call `authority` (host and optional port, as an app writes it).
    pub(crate) fn destination(&self, uid: &str, authority: &str) -> Destination {
        match self.pod(uid) {
            Some(caller) => compile::destination(&self.index, caller, authority),
            None => Destination { authority: authority.to_owned(), kind: DestinationKind::Unknown },
        }
    }

    /// The policies that decide about tokens for this audience; `None` if no Service has it. A port closed by an invalid
    /// policy contributes none, so an empty list grants nobody anything.
    pub(crate) fn audience_policies(&self, audience: &Audience) -> Option<Vec<Arc<fapi::Policy>>> {
        let key = service_of(audience)?;
        self.index.model().services.contains_key(&key).then(|| self.index.policies_of(&key))
    }

    /// The keys with which a client may sign assertions; none for a client of another mesh.
    pub(crate) fn client_keys(&self, client: &SpiffeId) -> &[Arc<KeySet>] {
        if client.trust_domain() != self.trust_domain().as_str() {
            return &[];
        }
        self.index.client_keys(client.namespace(), client.service_account())
    }

    /// Whether the sidecars of a service account sign assertions.
    pub(crate) fn signs(&self, namespace: &str, account: &str) -> bool {
        self.index.signs(namespace, account)
    }

    /// Whether a pod with this identity answers for the Service whose audience this is.
    pub(crate) fn answers_for(&self, audience: &str, identity: &SpiffeId) -> bool {
        let service = Audience::parse(audience).ok().and_then(|audience| service_of(&audience));
        service.is_some_and(|service| self.index.is_behind(&service, identity))
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
