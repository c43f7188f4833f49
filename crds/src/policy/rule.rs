//! The rules of a FapiPolicy.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::patterns::{CLIENT_ID, DURATION, LABEL, PATH, PRINTABLE, SCOPE, SUBDOMAIN};

/// Who may do what with which token. What is left out admits any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// The HTTP methods; without them, any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 7))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub methods: Vec<Method>,

    /// Paths, compared whole. In normal form: nothing percent-encoded, no `*` and no `;`. A request that encodes what is plain
    /// here (`%3A` for `:`) asks for the same path.
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

    /// Authorization details (RFC 9396), each of which one of the token's must cover. The issuer gives them to the callers of
    /// this rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    pub authorization_details: Vec<AuthorizationDetail>,

    /// How old a token may be, in whole seconds since it was issued, 5s to 1h; without it, its whole life. The mesh's own
    /// issuer gives the callers of this rule tokens that live no longer, so they depend on it this often. An older token is
    /// answered as RFC 9470 says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 2, max = 32), regex(pattern = DURATION))]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('5s') && duration(self) <= duration('1h')")
            .message("from 5s to 1h")
    )]
    pub max_token_age: Option<String>,

    /// How many parties may have handed the call on (nested `act` claims, RFC 8693); without it, any number up to 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Actors")]
    pub actors: Option<Actors>,
}

/// An authorization detail with the common fields of RFC 9396 section 2.2. Those of a token cover it if type and identifier
/// are the same and every list has all that is named here; locations limit, so they must be there or missing on both sides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorizationDetail {
    /// What kind of authorization, such as `payment_initiation`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 256), regex(pattern = PRINTABLE))]
    pub kind: String,

    /// Where it is used, mostly URIs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 256), regex(pattern = PRINTABLE)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub locations: Vec<String>,

    /// What is done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 256), regex(pattern = PRINTABLE)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub actions: Vec<String>,

    /// The kinds of data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 256), regex(pattern = PRINTABLE)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub datatypes: Vec<String>,

    /// The one resource, such as an account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 256), regex(pattern = PRINTABLE))]
    pub identifier: Option<String>,

    /// The levels of privilege.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 256), regex(pattern = PRINTABLE)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub privileges: Vec<String>,
}

/// Bounds on the number of actors in a token, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self.min <= self.max").message("min is at most max"))]
pub struct Actors {
    /// The fewest; 1 admits only calls that somebody handed on.
    #[serde(default)]
    #[schemars(with = "i32", range(min = 0, max = 8))]
    pub min: u8,

    /// The most; 0 admits only calls that their caller made for itself.
    #[serde(default = "most_actors")]
    #[schemars(with = "i32", range(min = 0, max = 8))]
    pub max: u8,
}

const fn most_actors() -> u8 {
    8
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
