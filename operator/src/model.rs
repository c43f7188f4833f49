//! The neutral model: what every source of desired state is translated to.
//!
//! Nothing here knows whether it came from a folder or from a cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fapi::SenderConstraint;

/// Namespace and name of an object, ordered as written: `bank/payments`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name within it.
    pub name: Arc<str>,
}

/// One workload instance, meshed or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Unique for the life of the pod; a pod made anew has another.
    pub uid: String,
    /// Its name within the namespace.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The service account it runs as: the only name its certificate carries.
    pub service_account: String,
    /// Where its sidecar listens and its app answers.
    pub ports: Vec<PodPort>,
    /// Labels, for display only: no rule is made of them.
    pub labels: BTreeMap<String, String>,
    /// Whether it runs a sidecar.
    pub meshed: bool,
}

/// A port of a pod behind its sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPort {
    /// The name, unique within the pod.
    pub name: String,
    /// The number that callers of the Service dial.
    pub number: u16,
    /// Where the sidecar accepts mutual TLS.
    pub listen: SocketAddr,
    /// Where the app accepts plain HTTP.
    pub app: SocketAddr,
}

/// A Service: the name that callers dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub key: Key,
    /// Its ports, by unique name.
    pub ports: Vec<ServicePort>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePort {
    /// The name that a FapiPolicy's `sectionName` means.
    pub name: String,
    /// The number that callers dial.
    pub number: u16,
}

/// One pod port that answers for one Service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The Service.
    pub service: Key,
    /// The name of the Service's port.
    pub service_port: String,
    /// The pod behind it.
    pub pod_uid: String,
    /// The name of the pod's port.
    pub pod_port: String,
    /// The address callers' sidecars connect to.
    pub address: SocketAddr,
    /// Whether it takes new connections.
    pub ready: bool,
}

/// Which of two objects is older, for conflicts: creation time in seconds (0
/// where the source knows none), then the name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seniority {
    /// Seconds since 1970, or 0.
    pub created: u64,
    /// The object.
    pub key: Key,
}

/// A FapiClient: whom a service account calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Age and name.
    pub seniority: Seniority,
    /// The generation of the version in force.
    pub generation: i64,
    /// The version in force; `None` if there never was a good one.
    pub spec: Option<ClientSpec>,
    /// What is wrong with the version that was written last, if it is not the one in force.
    pub fault: Option<String>,
}

/// What a FapiClient says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSpec {
    /// The service account, in the object's namespace.
    pub service_account: String,
    /// Whom it calls.
    pub targets: Vec<ClientTarget>,
}

/// One target of a FapiClient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTarget {
    /// The Service called.
    pub service: Key,
    /// The scopes asked for; empty means all that are granted.
    pub scopes: Vec<String>,
    /// The binding asked for; `None` follows the target.
    pub sender_constraint: Option<SenderConstraint>,
}

/// A FapiPolicy: who may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Age and name.
    pub seniority: Seniority,
    /// The generation of the version in force.
    pub generation: i64,
    /// What it targets; `None` if that could not be read, which means its whole namespace.
    pub targets: Option<Vec<PolicyTarget>>,
    /// What it says; `None` if no version of it ever compiled: its targets are closed.
    pub spec: Option<PolicySpec>,
    /// What is wrong with the version that was written last, if it is not the one in force.
    pub fault: Option<String>,
}

/// What a FapiPolicy governs, always within its own namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyTarget {
    /// One port of a Service, by the port's name.
    Section {
        /// The Service's name.
        service: String,
        /// The port's name.
        section: String,
    },
    /// Every port of a Service.
    Service {
        /// The Service's name.
        service: String,
    },
    /// Every port of every pod of the namespace.
    Namespace,
}

/// The rules of a FapiPolicy, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySpec {
    /// Whether refusals are enforced or only observed.
    pub mode: fapi::Mode,
    /// The bindings the target takes; never empty.
    pub sender_constraints: Vec<SenderConstraint>,
    /// The rules, callers filled in; never empty.
    pub rules: Vec<fapi::WireRule>,
}

/// The settings of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    /// The generation of the version in force.
    pub generation: i64,
    /// What is wrong with the version that was written last, if it is not the one in force.
    pub fault: Option<String>,
    /// The trust domain that the object names.
    pub trust_domain: Option<String>,
    /// Of a workload certificate.
    pub certificate_lifetime: Duration,
    /// Of an access token.
    pub token_lifetime: Duration,
}

/// Everything that a source knows, by key: the same however it was learned, and in whatever order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// The FapiMesh object, if there is one.
    pub mesh: Option<Mesh>,
    /// Pods by uid.
    pub pods: BTreeMap<String, Pod>,
    /// Services.
    pub services: BTreeMap<Key, Service>,
    /// Which pods answer for which Service, ordered by Service, port and pod.
    pub endpoints: Vec<Endpoint>,
    /// FapiClients.
    pub clients: BTreeMap<Key, Client>,
    /// FapiPolicies.
    pub policies: BTreeMap<Key, Policy>,
}

impl Key {
    /// A key of the two names.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
