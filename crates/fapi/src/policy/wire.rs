use serde::{Deserialize, Serialize};

use super::WireExemption;
use crate::{token::MAX_ACTORS, value::SenderConstraint};

/// The policy document, as the operator sends it. [`crate::Policy::compile`] makes it usable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WirePolicy {
    /// `namespace/name` of the policy object, or `built-in`.
    pub name: String,
    /// Whether refusals are enforced or only reported.
    pub mode: Mode,
    /// What is protected; a token must name one of the audiences.
    pub resources: Vec<WireResource>,
    /// The issuers whose tokens name workloads of the mesh: the mesh's own.
    pub issuers: Vec<String>,
    /// Other issuers. Their tokens name nobody of the mesh. Left out when empty, so that an older reader still takes what it
    /// can enforce.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external: Vec<WireExternal>,
    /// The ways of binding that are taken.
    pub sender_constraints: Vec<SenderConstraint>,
    /// Who may do what; the most specific path governs.
    pub rules: Vec<WireRule>,
    /// What passes without certificate and token, at most 8. Left out when empty, as above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exempt: Vec<WireExemption>,
}

/// Whether refusals are enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// What is refused does not pass.
    Enforce,
    /// What would be refused passes without identity and is reported.
    Audit,
}

/// An audience and the origins under which it is called; a proof's `htu` is judged against these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WireResource {
    /// The audience, `https://<service>.<namespace>`.
    pub audience: String,
    /// The origins, `https://host[:port]`; never empty.
    pub origins: Vec<String>,
}

/// One rule. The default has no callers, so it does not compile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WireRule {
    /// HTTP methods; empty: any.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Exact paths. With `path_prefixes` empty too: any path.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Path prefixes by whole segments.
    #[serde(default)]
    pub path_prefixes: Vec<String>,
    /// Who may call; empty only if `clients` is not.
    pub callers: Vec<WireCaller>,
    /// Clients of external issuers that may call, beside the callers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<WireClient>,
    /// Scopes that the token must have, all of them.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Authorization details (RFC 9396), each of which one of the token's must cover. Left out when empty, like the fields
    /// below, so that an older reader still takes what it can enforce.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorization_details: Vec<WireDetail>,
    /// Seconds since `iat` up to which a token is taken, 5 to 3600 (RFC 9470); `None`: its whole life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_token_age: Option<u64>,
    /// How many actors the token may name (RFC 8693 section 4.1); `None`: any number that is read at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actors: Option<WireActors>,
}

/// An authorization detail with the common fields of RFC 9396 section 2.2.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireDetail {
    /// What kind of authorization.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it is used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locations: Vec<String>,
    /// What is done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    /// The kinds of data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datatypes: Vec<String>,
    /// The one resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<String>,
    /// The levels of privilege.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub privileges: Vec<String>,
}

/// Bounds on the number of nested `act` claims, both included, 0 to 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WireActors {
    /// The fewest.
    #[serde(default)]
    pub min: u8,
    /// The most.
    #[serde(default = "most_actors")]
    pub max: u8,
}

const fn most_actors() -> u8 {
    MAX_ACTORS
}

/// A caller: a service account, or all of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WireCaller {
    /// The namespace.
    pub namespace: String,
    /// The service account; `None`: any of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
}

/// An issuer outside the mesh, and how its tokens are read. What a token says of its client counts only for the workloads
/// that `clients` lists: the token itself can name none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WireExternal {
    /// The name that rules know it by.
    pub name: String,
    /// The issuer identifier (RFC 8414).
    pub issuer: String,
    /// What is protected, for its tokens alone: they must name one of these audiences.
    pub resources: Vec<WireResource>,
    /// The `typ` of its tokens.
    #[serde(default)]
    pub typ: TokenTyp,
    /// Whether only the issuer can read its tokens: it is asked about each (RFC 7662). At most one issuer of a policy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opaque: bool,
    /// The claim that names the client.
    #[serde(default)]
    pub client_id_claim: ClientIdClaim,
    /// Seconds since `iat` up to which a token is taken, 5 to 3600.
    pub max_token_age: u64,
    /// The scopes of its tokens that count; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// Its clients, and the workloads that each may call from. Any other client is refused.
    pub clients: Vec<WireMapping>,
}

/// The media types of access tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenTyp {
    /// RFC 9068.
    #[default]
    #[serde(rename = "at+jwt")]
    AccessToken,
    /// Servers that are older than RFC 9068: the token does not tell that it is an access token.
    #[serde(rename = "JWT")]
    Jwt,
}

/// The claims that servers name the client in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientIdClaim {
    /// `client_id` (RFC 9068 section 2.2).
    #[default]
    ClientId,
    /// `azp` (OpenID Connect Core 2).
    Azp,
    /// `sub`, where a client is its own subject.
    Sub,
}

/// A client of an external issuer, and the workloads of the mesh that it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WireMapping {
    /// The client, as the issuer knows it.
    pub client_id: String,
    /// The workloads at the other end of the connection; never empty.
    pub callers: Vec<WireCaller>,
}

/// A client of an external issuer, as a caller of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WireClient {
    /// The name of the issuer; one that the policy does not list admits nobody.
    pub issuer: String,
    /// The client.
    pub client_id: String,
    /// Where it must call from, beside what the issuer's own mapping says; `None`: that alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<WireCaller>,
}
