//! FapiMesh: the settings of the whole mesh.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::patterns::{BASE64URL, DURATION, LABEL, TRUST_DOMAIN};

/// The settings of the whole mesh. There is at most one, named `default`; without it the mesh runs on the defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "fapi-mesh.dev",
    version = "v1alpha1",
    kind = "FapiMesh",
    plural = "fapimeshes",
    shortname = "fmesh",
    category = "fapi-mesh",
    status = "FapiMeshStatus",
    derive = "PartialEq",
    doc = "The settings of the whole mesh. There is at most one, named `default`; without it the mesh runs on the defaults.",
    annotation("helm.sh/resource-policy", "keep"),
    validation = Rule::new("self.metadata.name == 'default'").message("there is one FapiMesh: name it default"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Trust Domain", type_ = "string", json_path = ".spec.trustDomain"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new(
        "has(self.trustDomain) == has(oldSelf.trustDomain) && (!has(self.trustDomain) || self.trustDomain == oldSelf.trustDomain)"
    )
    .message("trustDomain is immutable: every certificate and every peer carries it")
)]
pub struct FapiMeshSpec {
    /// The trust domain in every identity, such as `bank.example`. Immutable. Without it, the one that the operator was
    /// started with, `cluster.local` if it was given none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 255), regex(pattern = TRUST_DOMAIN))]
    pub trust_domain: Option<String>,

    /// How long a workload certificate lives, 10s to 168h. It is renewed at two thirds.
    #[serde(default = "certificate_lifetime")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('10s') && duration(self) <= duration('168h')")
            .message("from 10s to 168h")
    )]
    pub certificate_lifetime: String,

    /// How long an access token lives, 5s to 12h. It is refreshed at half, and ends with the certificate at the latest.
    #[serde(default = "token_lifetime")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('5s') && duration(self) <= duration('12h')")
            .message("from 5s to 12h")
    )]
    pub token_lifetime: String,

    /// What becomes of the calls of meshed pods to what is known and not in the mesh. `Refuse` ends them, also those to the
    /// API server of the cluster and to addresses outside it. `Allow` if it is not said.
    // No default that API servers write into objects: an operator older than the field refuses an object that has it.
    #[serde(default = "allow", skip_serializing_if = "is_allow")]
    pub unmeshed_destinations: UnmeshedDestinations,

    /// What authors of pods may loosen by annotations, and in which namespaces. Without it, nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    pub pod_annotations: Vec<PodAnnotations>,
}

/// What becomes of calls to what is not in the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UnmeshedDestinations {
    /// They pass as they are, in plaintext and without token, and are counted.
    Allow,
    /// They are refused.
    Refuse,
}

/// What authors of pods may loosen in some namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodAnnotations {
    /// What they may do.
    #[schemars(length(min = 1, max = 3))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allow: Vec<Loosening>,

    /// The namespaces of the pods.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 63), regex(pattern = LABEL)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub namespaces: Vec<String>,
}

/// What weakens the guard of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Loosening {
    /// Going without a sidecar in a namespace that asks for them.
    OptOut,
    /// Leaving ports beside TCP unguarded.
    SkipPorts,
    /// Running the sidecar as another user and group, whose calls are not redirected.
    Uid,
}

/// What became of the settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FapiMeshStatus {
    /// The summary: `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The identifier of the mesh's own authorization server (RFC 8414), an https URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 2048))]
    pub issuer: Option<String>,

    /// The roots that certificates of the mesh end in, the older one first. Before its first rotation a mesh has one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub trust_anchors: Vec<TrustAnchor>,
}

/// A root of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrustAnchor {
    /// Of its certificate: SHA-256 in base64url.
    #[schemars(length(min = 43, max = 43), regex(pattern = BASE64URL))]
    pub fingerprint: String,

    /// When its certificate ends. Nothing of a root that was removed: the certificate is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Time")]
    pub not_after: Option<Time>,

    /// What it is good for.
    pub phase: AnchorPhase,

    /// Who has followed it into this phase. There while the root is rotated and shortly after, for the root whose phase is
    /// the step of the rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Acknowledgements")]
    pub acknowledgements: Option<Acknowledgements>,
}

/// What a root is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AnchorPhase {
    /// It is trusted, and signs nothing yet.
    Prepared,
    /// It is trusted, and what it has signed stays. Of two such roots the younger one signs.
    Active,
    /// It is still trusted, and whoever has a certificate of it is to replace that.
    Tainted,
    /// It is not trusted any more.
    Removed,
}

/// Which pods have followed a root into its phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledgements {
    /// Pods with a sidecar: those that must.
    #[schemars(range(min = 0))]
    pub pods: i32,

    /// Those that have. The next step waits for all.
    #[schemars(range(min = 0))]
    pub acknowledged: i32,

    /// The pod that is waited for longest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "WaitedFor")]
    pub oldest: Option<WaitedFor>,
}

/// A pod that is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitedFor {
    /// `namespace/name`.
    #[schemars(length(max = 317))]
    pub pod: String,

    /// Since when.
    pub since: Time,

    /// What it has not done.
    #[schemars(length(max = 1024))]
    pub message: String,
}

fn allow() -> UnmeshedDestinations {
    UnmeshedDestinations::Allow
}

fn is_allow(destinations: &UnmeshedDestinations) -> bool {
    *destinations == allow()
}

fn certificate_lifetime() -> String {
    "12h".to_owned()
}

fn token_lifetime() -> String {
    "1h".to_owned()
}

impl Default for FapiMeshSpec {
    fn default() -> Self {
        Self {
            trust_domain: None,
            certificate_lifetime: certificate_lifetime(),
            token_lifetime: token_lifetime(),
            unmeshed_destinations: allow(),
            pod_annotations: Vec::new(),
        }
    }
}
