use serde::{Deserialize, Serialize};

use crate::value::SenderConstraint;

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

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
