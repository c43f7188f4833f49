//! FapiIssuer: an authorization server outside the mesh, and who may use it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::patterns::{CLIENT_ID, DURATION, HTTPS_URL, LABEL, PEM, SCOPE, SUBDOMAIN};

/// An authorization server outside the mesh, and who may use it. Its tokens name nobody of the mesh: the workloads that
/// each of its clients may call from stand here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "fapi-mesh.dev",
    version = "v1alpha1",
    kind = "FapiIssuer",
    plural = "fapiissuers",
    shortname = "fissuer",
    category = "fapi-mesh",
    status = "FapiIssuerStatus",
    derive = "PartialEq",
    doc = "An authorization server outside the mesh, and who may use it. Its tokens name nobody of the mesh: the workloads that each of its clients may call from stand here.",
    annotation("helm.sh/resource-policy", "keep"),
    validation = Rule::new("self.metadata.name != 'mesh'").message("mesh is the name of the mesh's own issuer: choose another"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Issuer", type_ = "string", json_path = ".spec.issuer"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FapiIssuerSpec {
    /// The issuer identifier (RFC 8414), exactly as it stands in `iss` and in the server's metadata. Immutable.
    #[schemars(length(min = 9, max = 512), regex(pattern = HTTPS_URL))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("issuer is immutable: make another FapiIssuer"))]
    pub issuer: String,

    /// Where its keys are. Without it, where its metadata says (RFC 8414, else OpenID Connect Discovery).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 9, max = 512), regex(pattern = HTTPS_URL))]
    pub jwks_uri: Option<String>,

    /// The roots that vouch for the server's certificate, PEM. Without it, those of the system that the sidecar runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 65536), regex(pattern = PEM))]
    pub ca_bundle: Option<String>,

    /// The namespaces whose FapiPolicies may take its tokens, each once; without it, none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["namespace".into()]))]
    pub allow: Vec<Allowed>,

    /// Its clients, each once, and the workloads that they may call from. A token of any other client is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["clientId".into()]))]
    pub clients: Vec<IssuerClient>,

    /// `JWT`, or `Opaque`: only it can read its tokens, and each sidecar asks it about them (RFC 7662), as the client that
    /// `clients` maps to its workload.
    #[serde(default)]
    pub token_format: TokenFormat,

    /// The `typ` of its tokens. `JWT` also takes tokens that do not tell what they are: only for servers that cannot write
    /// `at+jwt` (RFC 9068).
    #[serde(default)]
    pub typ: TokenTyp,

    /// The claim of its tokens that names the client.
    #[serde(default)]
    pub client_id_claim: ClientIdClaim,

    /// How long after it was issued a token is taken, 5s to 1h; it cannot be revoked here.
    #[serde(default = "max_token_age")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('5s') && duration(self) <= duration('1h')")
            .message("from 5s to 1h")
    )]
    pub max_token_age: String,
}

/// A namespace whose FapiPolicies may take the issuer's tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Allowed {
    /// The namespace.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub namespace: String,

    /// The audiences that its policies may name.
    #[schemars(length(min = 1, max = 16), inner(length(min = 9, max = 512), regex(pattern = HTTPS_URL)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub audiences: Vec<String>,

    /// The scopes of a token that count there; without it, all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 128), regex(pattern = SCOPE)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub scopes: Vec<String>,
}

/// A client of the issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IssuerClient {
    /// The client, as the issuer knows it. Never a SPIFFE ID.
    #[schemars(length(min = 1, max = 256), regex(pattern = CLIENT_ID))]
    #[x_kube(
        validation = Rule::new("!self.lowerAscii().startsWith('spiffe:')")
            .message("a client of another issuer has no SPIFFE ID: name the workload under callers")
    )]
    pub client_id: String,

    /// The workloads that it may call from.
    #[schemars(length(min = 1, max = 16))]
    pub callers: Vec<IssuerCaller>,
}

/// A service account, or all service accounts of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IssuerCaller {
    /// The namespace.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub namespace: String,

    /// The service account; without it, any of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub service_account_name: Option<String>,
}

/// Who can read the tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TokenFormat {
    /// Everybody.
    #[default]
    #[serde(rename = "JWT")]
    Jwt,
    /// The issuer.
    Opaque,
}

/// The types of token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TokenTyp {
    /// RFC 9068.
    #[default]
    #[serde(rename = "at+jwt")]
    AccessToken,
    /// Servers that cannot write `at+jwt`.
    #[serde(rename = "JWT")]
    Jwt,
}

/// The claims that servers name the client in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientIdClaim {
    /// RFC 9068.
    #[default]
    ClientId,
    /// OpenID Connect.
    Azp,
    /// Where a client is its own subject.
    Sub,
}

/// What became of the issuer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FapiIssuerStatus {
    /// The summary: `Ready`. The keys are fetched by each sidecar; whether that works shows in its metrics and log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

fn max_token_age() -> String {
    "15m".to_owned()
}
