//! FapiClient: whom a service account calls.

mod authentication;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::authentication::{
    Authentication, AuthenticationMethod, Curve, JsonWebKey, JsonWebKeySet, KeyType, KeyUse, SigningAlgorithm,
};
use crate::SenderConstraint;
use crate::patterns::{CLIENT_ID, LABEL, SCOPE, SUBDOMAIN};
use crate::policy::{AuthorizationDetail, MESH_ISSUER};

/// Whom a service account calls. It asks; the rules of the called side grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "fapi-mesh.dev",
    version = "v1alpha1",
    kind = "FapiClient",
    namespaced,
    shortname = "fclient",
    category = "fapi-mesh",
    status = "FapiClientStatus",
    derive = "PartialEq",
    doc = "Whom a service account calls. It asks; the rules of the called side grant. What is asked and not granted shows in the status.",
    annotation("helm.sh/resource-policy", "keep"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Service Account", type_ = "string", json_path = ".spec.serviceAccountName"),
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
    validation = Rule::new("(self.issuerName == 'mesh') != has(self.clientId)")
        .message("clientId is for FapiIssuers, which need it; at the mesh's own issuer it is the SPIFFE ID"),
    validation = Rule::new(
        "self.issuerName == 'mesh' || !has(self.authentication) || !has(self.authentication.jwks)"
    )
    .message("at a FapiIssuer only sidecars authenticate, with keys of their own: remove jwks"),
    validation = Rule::new(
        "self.issuerName == 'mesh' || !self.targets.exists(t, has(t.grantType) && t.grantType == 'TokenExchange')"
    )
    .message("only the mesh's own issuer exchanges the tokens of calls: leave grantType out, or issuerName and clientId")
)]
pub struct FapiClientSpec {
    /// The service account, in this namespace, whose pods call. Immutable: make another FapiClient instead. FapiClients of
    /// one service account add up.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("serviceAccountName is immutable"))]
    pub service_account_name: String,

    /// The Services that it calls, each once.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(
        validation = Rule::new(
            "self.all(t, self.exists_one(u, u.serviceName == t.serviceName && (has(u.__namespace__) ? u.__namespace__ : '') == (has(t.__namespace__) ? t.__namespace__ : '')))"
        )
        .message("each Service once")
    )]
    pub targets: Vec<Target>,

    /// The issuer that gives the tokens: `mesh`, the mesh's own, or a FapiIssuer that allows this namespace. Immutable.
    #[serde(default = "mesh_issuer")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("issuerName is immutable: make another FapiClient"))]
    pub issuer_name: String,

    /// The client, as the FapiIssuer knows it; the FapiIssuer must map it to the service account. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 256), regex(pattern = CLIENT_ID))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("clientId is immutable: make another FapiClient"))]
    pub client_id: Option<String>,

    /// How it authenticates; without it, by the certificate of its sidecar. Those of its FapiClients add up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Authentication")]
    pub authentication: Option<Authentication>,
}

fn mesh_issuer() -> String {
    MESH_ISSUER.to_owned()
}

/// A Service that is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Target {
    /// The name of the Service.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub service_name: String,

    /// Its namespace; without it, this one. A Service of another namespace is called only where its FapiPolicy names the
    /// caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 63), regex(pattern = LABEL))]
    pub namespace: Option<String>,

    /// The scopes to ask for; without them, all that the target's rules give this caller.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 128), regex(pattern = SCOPE)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub scopes: Vec<String>,

    /// The authorization details (RFC 9396) to ask for; without them, all that the target's rules give this caller.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    pub authorization_details: Vec<AuthorizationDetail>,

    /// How the token is bound to its sender; without it, by certificate if the target takes that, else by DPoP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SenderConstraint")]
    pub sender_constraint: Option<SenderConstraint>,

    /// How its tokens are asked for; without it, `ClientCredentials`. `TokenExchange` hands on the calls that this service
    /// account gets: the app passes the header `x-fapi-context` of such a call on, and calls without it are refused. Only at
    /// the mesh's own issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "GrantType")]
    pub grant_type: Option<GrantType>,
}

/// The ways to ask for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GrantType {
    /// RFC 6749 section 4.4: for the service account itself.
    ClientCredentials,
    /// RFC 8693: for whoever called it, in exchange for the token of that call.
    TokenExchange,
}

/// What became of the request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FapiClientStatus {
    /// `Ready`, `ResolvedRefs`, `Granted`, `Programmed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The client id: at the mesh's issuer the SPIFFE ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 2048))]
    pub client_id: Option<String>,

    /// Each target by itself: good ones work while others are refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub targets: Vec<TargetStatus>,
}

/// What became of one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// The name of the Service.
    #[schemars(length(max = 63))]
    pub service_name: String,

    /// Its namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,

    /// The audience of the tokens.
    #[schemars(length(max = 2048))]
    pub audience: String,

    /// How the tokens are bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SenderConstraint")]
    pub sender_constraint: Option<SenderConstraint>,

    /// How the tokens are asked for, if not by `ClientCredentials`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "GrantType")]
    pub grant_type: Option<GrantType>,

    /// The scopes of the tokens; of those got by `TokenExchange`, the most that they can have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096), inner(length(max = 128)))]
    pub scopes: Vec<String>,

    /// `Granted`, or why not.
    #[schemars(length(max = 64))]
    pub reason: String,

    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 1024))]
    pub message: Option<String>,
}
