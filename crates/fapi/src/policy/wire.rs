use serde::{Deserialize, Serialize};

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
    /// The issuers whose tokens are taken.
    pub issuers: Vec<String>,
    /// The ways of binding that are taken.
    pub sender_constraints: Vec<SenderConstraint>,
    /// Who may do what; the most specific path governs.
    pub rules: Vec<WireRule>,
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
    /// Who may call; never empty.
    pub callers: Vec<WireCaller>,
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
