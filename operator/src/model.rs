//! The neutral model: what every source of desired state is translated to.
//!
//! Nothing here knows whether it came from a folder or from a cluster.

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use control::GrantType;
use fapi::{AuthorizationDetails, SenderConstraint};

pub(crate) use self::table::Table;
use crate::inject;

/// Namespace and name of an object, ordered as written: `bank/payments`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// The namespace.
    pub(crate) namespace: Arc<str>,
    /// The name within it.
    pub(crate) name: Arc<str>,
}

/// One workload instance, meshed or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    /// Unique for the life of the pod; a pod made anew has another.
    pub(crate) uid: String,
    /// Its name within the namespace.
    pub(crate) name: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// The service account it runs as: the only name its certificate carries.
    pub(crate) service_account: String,
    /// Where its sidecar listens and its app answers.
    pub(crate) ports: Vec<PodPort>,
    /// The addresses that are its own; none where addresses tell nobody apart.
    pub(crate) addresses: Vec<IpAddr>,
    /// What it is called below a Service; most pods are called nothing there.
    pub(crate) hostname: Option<Hostname>,
    /// Labels, for display only: no rule is made of them.
    pub(crate) labels: BTreeMap<String, String>,
    /// Whether it runs a sidecar.
    pub(crate) meshed: bool,
    /// Whether it asked for one: it is never called in plaintext, also while it has none.
    pub(crate) opted_in: bool,
    /// Whether it says no to one, which counts where the FapiMesh lets it.
    pub(crate) opted_out: bool,
    /// The machine that it runs on, if there are several.
    pub(crate) node: Option<String>,
    /// Whether it is on its way out.
    pub(crate) terminating: bool,
}

/// The name of a pod below a Service before it, such as `vault-0` below `vault`: a StatefulSet gives its pods one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hostname {
    /// The name of the Service, in the pod's namespace.
    pub(crate) service: String,
    /// The name.
    pub(crate) name: String,
}

/// A port of a pod behind its sidecar, at one of the pod's addresses: a pod with two has each port twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodPort {
    /// The name, for display: containers of one pod may give theirs to different ports.
    pub(crate) name: String,
    /// Its number in the pod, which no other has, and which need not be the one that callers of a Service dial.
    pub(crate) number: u16,
    /// Where the sidecar accepts mutual TLS.
    pub(crate) listen: SocketAddr,
    /// Where the app accepts plain HTTP.
    pub(crate) app: SocketAddr,
}

/// A Service: the name that callers dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// Namespace and name.
    pub(crate) key: Key,
    /// Its ports, by unique name.
    pub(crate) ports: Vec<ServicePort>,
    /// The addresses that stand for it as a whole; none for one whose pods are dialled themselves.
    pub(crate) addresses: Vec<IpAddr>,
    /// Where load balancers stand for it, port by port: at another port of such an address is another Service, or a machine.
    pub(crate) balancers: Vec<SocketAddr>,
    /// What else answers for it, and is no pod: a port's name, and where.
    pub(crate) others: Vec<(String, SocketAddr)>,
    /// Whether it is a mere alias for a name outside.
    pub(crate) alias: bool,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServicePort {
    /// The name that a FapiPolicy's `sectionName` means.
    pub(crate) name: String,
    /// The number that callers dial.
    pub(crate) number: u16,
}

/// One pod port that answers for one Service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The Service.
    pub(crate) service: Key,
    /// The name of the Service's port.
    pub(crate) service_port: String,
    /// The pod behind it.
    pub(crate) pod_uid: String,
    /// The number of the pod's port.
    pub(crate) pod_port: u16,
    /// The address callers' sidecars connect to.
    pub(crate) address: SocketAddr,
    /// Whether it takes new connections.
    pub(crate) state: EndpointState,
}

/// Whether an endpoint takes new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EndpointState {
    /// It does not.
    Unready,
    /// It ends, and still serves: good enough where nobody is ready.
    Draining,
    /// It does.
    Ready,
}

/// Which of two objects is older, for conflicts: creation time in seconds (0
/// where the source knows none), then the name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seniority {
    /// Seconds since 1970, or 0.
    pub(crate) created: u64,
    /// The object.
    pub(crate) key: Key,
}

/// A FapiClient: whom a service account calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// Age and name.
    pub(crate) seniority: Seniority,
    /// The generation that its status speaks of.
    pub(crate) generation: i64,
    /// The version in force; `None` if there never was a good one.
    pub(crate) spec: Option<ClientSpec>,
    /// What is wrong with the version that was written last, if it is not the one in force.
    pub(crate) fault: Option<String>,
}

/// What a FapiClient says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientSpec {
    /// The service account, in the object's namespace.
    pub(crate) service_account: String,
    /// Whom it calls.
    pub(crate) targets: Vec<ClientTarget>,
    /// The FapiIssuer that gives its tokens; `None`: the mesh's own.
    pub(crate) external: Option<ExternalClient>,
    /// How its sidecars authenticate.
    pub(crate) authentication: control::ClientAuthentication,
    /// The public keys with which it authenticates where there is no sidecar, as a JWK Set; every one of them is usable.
    pub(crate) jwks: Option<String>,
}

/// A client of a FapiIssuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExternalClient {
    /// The name of the FapiIssuer.
    pub(crate) issuer: String,
    /// The client, as that issuer knows it.
    pub(crate) client_id: String,
}

/// One target of a FapiClient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientTarget {
    /// The Service called.
    pub(crate) service: Key,
    /// The scopes asked for; empty means all that are granted.
    pub(crate) scopes: Vec<String>,
    /// The authorization details asked for; `None` means all that are granted.
    pub(crate) details: Option<AuthorizationDetails>,
    /// The binding asked for; `None` follows the target.
    pub(crate) sender_constraint: Option<SenderConstraint>,
    /// How tokens for it are asked for.
    pub(crate) grant_type: GrantType,
}

/// A FapiPolicy: who may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Age and name.
    pub(crate) seniority: Seniority,
    /// The generation that its status speaks of.
    pub(crate) generation: i64,
    /// What it targets; `None` if that could not be read, which means its whole namespace.
    pub(crate) targets: Option<Vec<PolicyTarget>>,
    /// What it says; `None` if no version of it ever compiled: its targets are closed.
    pub(crate) spec: Option<PolicySpec>,
    /// What is wrong with the version that was written last, if it is not the one in force.
    pub(crate) fault: Option<String>,
}

/// What a FapiPolicy governs, always within its own namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum PolicyTarget {
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
pub(crate) struct PolicySpec {
    /// Whether refusals are enforced or only observed.
    pub(crate) mode: fapi::Mode,
    /// Whether the target takes no HTTP: then rules have callers and nothing else.
    pub(crate) opaque: bool,
    /// The bindings the target takes; never empty.
    pub(crate) sender_constraints: Vec<SenderConstraint>,
    /// Whether tokens of the mesh's own issuer are taken.
    pub(crate) takes_mesh: bool,
    /// The FapiIssuers whose tokens are taken, whether they are there or not.
    pub(crate) external: Vec<IssuerRef>,
    /// Origins under which callers know the target, beside the derived one.
    pub(crate) origins: Vec<String>,
    /// The rules, callers filled in; never empty.
    pub(crate) rules: Vec<fapi::WireRule>,
    /// What passes without certificate and token.
    pub(crate) exempt: Vec<fapi::WireExemption>,
}

/// A FapiIssuer as a FapiPolicy names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IssuerRef {
    /// Its name.
    pub(crate) name: String,
    /// The audiences, one of which its tokens must name; never empty.
    pub(crate) audiences: Vec<String>,
}

/// A FapiIssuer: an authorization server outside the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issuer {
    /// Age and name; the namespace is empty.
    pub(crate) seniority: Seniority,
    /// The generation that its status speaks of.
    pub(crate) generation: i64,
    /// The version in force; `None` if there never was a good one.
    pub(crate) spec: Option<IssuerSpec>,
    /// What is wrong with the version that was written last, if it is not the one in force.
    pub(crate) fault: Option<String>,
}

/// What a FapiIssuer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IssuerSpec {
    /// The identifier, where its keys are, and who vouches for it.
    pub(crate) server: control::ExternalIssuer,
    /// Who may take its tokens, by namespace.
    pub(crate) allow: BTreeMap<String, Allowed>,
    /// Whether only it can read its tokens.
    pub(crate) opaque: bool,
    /// The type of its tokens.
    pub(crate) typ: fapi::TokenTyp,
    /// The claim that names the client.
    pub(crate) client_id_claim: fapi::ClientIdClaim,
    /// Seconds since `iat` up to which a token is taken.
    pub(crate) max_token_age: u64,
    /// Its clients, and the workloads that they may call from.
    pub(crate) clients: Vec<fapi::WireMapping>,
}

/// What a namespace may take of a FapiIssuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// The audiences that its policies may name.
    pub(crate) audiences: Vec<String>,
    /// The scopes that count; empty: all.
    pub(crate) scopes: Vec<String>,
}

/// The settings of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mesh {
    /// The generation that its status speaks of.
    pub(crate) generation: i64,
    /// What is wrong with the version that was written last, if it is not the one in force.
    pub(crate) fault: Option<String>,
    /// Whether any version is in force; if not, these are the defaults, but for what may be refused.
    pub(crate) in_force: bool,
    /// The trust domain that the object names.
    pub(crate) trust_domain: Option<String>,
    /// Of a workload certificate.
    pub(crate) certificate_lifetime: Duration,
    /// Of an access token.
    pub(crate) token_lifetime: Duration,
    /// Whether calls to what is known and not in the mesh are refused.
    pub(crate) unmeshed_refused: bool,
    /// What authors of pods may loosen.
    pub(crate) allowed: inject::Allowed,
}

impl Mesh {
    /// There is one, and it has this name.
    pub(crate) const NAME: &str = "default";
}

/// Everything that a source knows, by key: the same however it was learned, and in whatever order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model {
    /// The FapiMesh object, if there is one.
    pub(crate) mesh: Option<Mesh>,
    /// Pods by uid.
    pub(crate) pods: Table<String, Pod>,
    /// Services.
    pub(crate) services: Table<Key, Service>,
    /// Which pods answer for which Service, ordered by port and pod.
    pub(crate) endpoints: Table<Key, Vec<Endpoint>>,
    /// FapiClients.
    pub(crate) clients: Table<Key, Client>,
    /// FapiIssuers, by name.
    pub(crate) issuers: Table<String, Issuer>,
    /// FapiPolicies.
    pub(crate) policies: Table<Key, Policy>,
    /// Whether pods and Services are all that the mesh could mean: an address that is none of theirs is outside it, for sure.
    pub(crate) complete: bool,
}

/// Addresses that pods of the mesh had until a moment ago. No part of a [`Model`]: they depend on the past.
pub(crate) type Left = Arc<BTreeSet<IpAddr>>;

impl Model {
    /// Whether a pod is never called in plaintext: it has a sidecar, or is to have one. That it says no to one counts where
    /// authors of pods may say so, as at its injection.
    pub(crate) fn is_of_the_mesh(&self, pod: &Pod) -> bool {
        let mesh = self.mesh.as_ref();
        let may_stay_out = || mesh.is_some_and(|mesh| mesh.allowed.allows(inject::Loosening::OptOut, &pod.namespace));
        pod.meshed || pod.opted_in && !(pod.opted_out && may_stay_out())
    }
}

impl Endpoint {
    /// Endpoints of one Service stand in this order.
    pub(crate) fn rank(&self) -> (&str, &str, SocketAddr) {
        (&self.service_port, &self.pod_uid, self.address)
    }
}

impl Key {
    /// A key of the two names.
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
