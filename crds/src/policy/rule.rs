//! The rules of a FapiPolicy.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::patterns::{CLIENT_ID, LABEL, PATH, SCOPE, SUBDOMAIN};

/// Who may do what with which token. What is left out admits any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// The HTTP methods; without them, any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 7))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub methods: Vec<Method>,

    /// Paths, compared whole. In normal form: nothing percent-encoded, no `*` and no `;`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 1024), regex(pattern = PATH)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub paths: Vec<String>,

    /// Path prefixes by whole segments: `/a` covers `/a` and `/a/b`, not `/ab`. Without paths and prefixes, any path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 1024), regex(pattern = PATH)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub path_prefixes: Vec<String>,

    /// Who may call; without them, every service account of the policy's namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64))]
    pub callers: Vec<Caller>,

    /// The scopes that the token must have, all of them. The issuer gives them to the callers of this rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 128), regex(pattern = SCOPE)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub scopes: Vec<String>,
}

/// A caller: a service account, all service accounts of a namespace, or a client of a FapiIssuer. What is given holds together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.serviceAccountName) || has(self.__namespace__) || has(self.clientId)")
        .message("name a service account, a namespace, or a client: an empty caller would be anyone"),
    validation = Rule::new("has(self.issuerName) == has(self.clientId)")
        .message("a client id means nothing without its issuer: give issuerName and clientId together")
)]
pub struct Caller {
    /// The service account; without it, any of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub service_account_name: Option<String>,

    /// The namespace; without it, the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 63), regex(pattern = LABEL))]
    pub namespace: Option<String>,

    /// A FapiIssuer that `issuers` names; with `clientId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub issuer_name: Option<String>,

    /// A client of that issuer, which says where the client may call from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 256), regex(pattern = CLIENT_ID))]
    pub client_id: Option<String>,
}

/// The HTTP methods that a rule can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names say it; doc comments would end in the schema")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Method {
    /// The method as HTTP spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }
}
