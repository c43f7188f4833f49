//! FapiPolicy: who may call, and what the token must be.

pub mod exempt;
pub mod rule;
pub mod status;

pub use exempt::Exemption;
use kube::{CustomResource, KubeSchema};
pub use rule::{Actors, AuthorizationDetail, Caller, Method, Rule as PolicyRule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub use status::{
    AncestorRef, AncestorStatus, ExemptionStatus, FapiPolicyStatus, PodCounts, RefusedCaller, WouldRefuse,
};

use crate::SenderConstraint;
use crate::patterns::{HTTPS_ORIGIN, HTTPS_URL, LABEL, SUBDOMAIN};

/// The name of the mesh's own issuer among `issuers`; no FapiIssuer can have it.
pub const MESH_ISSUER: &str = "mesh";

/// Who may call the pods behind a Service, or all pods of the namespace, and what their tokens must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "fapi-mesh.dev",
    version = "v1alpha1",
    kind = "FapiPolicy",
    plural = "fapipolicies",
    namespaced,
    shortname = "fpolicy",
    category = "fapi-mesh",
    status = "FapiPolicyStatus",
    derive = "PartialEq",
    doc = "Who may call the pods behind a Service, or all pods of the namespace, and what their tokens must be. The most specific policy governs a port alone.",
    annotation("helm.sh/resource-policy", "keep"),
    label("gateway.networking.k8s.io/policy", "Inherited"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
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
        "!self.issuers.exists(i, has(i.audiences)) || (self.targetRefs.size() == 1 && self.targetRefs[0].kind == 'Service')"
    )
    .message("audiences stand for one Service: target exactly one"),
    validation = Rule::new(
        "!has(self.origins) || (self.targetRefs.size() == 1 && self.targetRefs[0].kind == 'Service')"
    )
    .message("origins are names of one Service: target exactly one"),
    validation = Rule::new("self.protocol != 'TCP' || self.targetRefs.all(t, t.kind == 'Service')")
        .message("protocol TCP is for the ports of Services: a namespace has ports of both kinds"),
    validation = Rule::new("self.protocol != 'TCP' || self.issuers.all(i, i.name == 'mesh')")
        .message("protocol TCP takes no tokens, so no FapiIssuer"),
    validation = Rule::new("self.protocol != 'TCP' || !has(self.origins)")
        .message("protocol TCP takes no proofs, so no origins"),
    validation = Rule::new("self.protocol != 'TCP' || !has(self.exempt)")
        .message("protocol TCP takes no HTTP, so there is nothing to exempt"),
    validation = Rule::new(
        "self.protocol != 'TCP' || self.rules.all(r, has(r.callers) && !has(r.methods) && !has(r.paths) && \
         !has(r.pathPrefixes) && !has(r.scopes) && !has(r.authorizationDetails) && !has(r.maxTokenAge) && !has(r.actors))"
    )
    .message("protocol TCP knows callers and nothing else: give rules with callers alone")
)]
pub struct FapiPolicySpec {
    /// What the policy governs, always in its own namespace.
    #[schemars(length(min = 1, max = 16))]
    pub target_refs: Vec<TargetRef>,

    /// `Enforce`, or `Audit`: what would be refused passes without identity headers, is logged, and is counted in the status.
    #[serde(default = "enforce")]
    pub mode: Mode,

    /// The ways of binding a token that are taken; callers' sidecars follow.
    #[serde(default = "both")]
    #[schemars(length(min = 1, max = 2))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub sender_constraints: Vec<SenderConstraint>,

    /// `HTTP`, or `TCP` for ports that are not HTTP: over mutual TLS the named callers connect, without tokens, and HTTP is
    /// refused.
    #[serde(default = "http")]
    pub protocol: Protocol,

    /// The issuers whose tokens are taken, each once: `mesh`, the mesh's own, and FapiIssuers. Without it, `mesh`.
    #[serde(default = "mesh_issuer")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub issuers: Vec<AcceptedIssuer>,

    /// Origins under which callers know the Service, `https://host[:port]`, beside `https://<service>.<namespace>`: proofs for
    /// their URLs are taken too. The audience of the token decides all the same, so they need no owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 8), inner(length(min = 9, max = 512), regex(pattern = HTTPS_ORIGIN)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub origins: Vec<String>,

    /// What passes in plaintext, without certificate and token, such as metrics for a scraper outside the mesh. The app is told
    /// nothing about who asks. Each is a hole, and the status shows it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 8))]
    pub exempt: Vec<Exemption>,

    /// Who may do what. The rules of the most specific path govern a request, and among these any one admits; their order
    /// means nothing. Without rules, every service account of this namespace may do everything.
    #[serde(default = "one_empty_rule")]
    #[schemars(length(min = 1, max = 128))]
    pub rules: Vec<PolicyRule>,
}

/// What a policy governs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!has(self.sectionName) || self.kind == 'Service'")
        .message("sectionName is the name of a Service's port: only a Service has it")
)]
pub struct TargetRef {
    /// The API group: the core group, which is the empty one.
    #[serde(default)]
    #[schemars(length(max = 0))]
    pub group: String,

    /// `Service` or `Namespace`.
    #[serde(default = "service")]
    pub kind: TargetKind,

    /// The name of the Service, or of this namespace.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub name: String,

    /// The name of one port of the Service; without it, all ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 63), regex(pattern = LABEL))]
    pub section_name: Option<String>,
}

/// An issuer whose tokens are taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("(self.name == 'mesh') != has(self.audiences)")
        .message("audiences are for FapiIssuers, which need them; the mesh's own issuer derives them")
)]
pub struct AcceptedIssuer {
    /// `mesh`, or the name of a FapiIssuer that allows this namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,

    /// The audiences, one of which a token of the FapiIssuer must name. The FapiIssuer must allow them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 8), inner(length(min = 9, max = 512), regex(pattern = HTTPS_URL)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub audiences: Vec<String>,
}

/// The kinds that a policy can govern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TargetKind {
    /// The ports of the pods behind a Service.
    Service,
    /// The ports of all pods of the namespace.
    Namespace,
}

/// What the ports of a policy speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2, with a token for each request.
    Http,
    /// Anything else, over mutual TLS.
    Tcp,
}

/// What becomes of a call that the rules refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// It is refused.
    Enforce,
    /// It passes without identity headers and is logged as `would_refuse`.
    Audit,
}

fn enforce() -> Mode {
    Mode::Enforce
}

fn http() -> Protocol {
    Protocol::Http
}

fn both() -> Vec<SenderConstraint> {
    vec![SenderConstraint::Mtls, SenderConstraint::Dpop]
}

fn mesh_issuer() -> Vec<AcceptedIssuer> {
    vec![AcceptedIssuer { name: MESH_ISSUER.to_owned(), audiences: Vec::new() }]
}

fn one_empty_rule() -> Vec<PolicyRule> {
    vec![PolicyRule::default()]
}

fn service() -> TargetKind {
    TargetKind::Service
}
