//! What a FapiPolicy lets pass without certificate and token.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::patterns::{NETWORK, PATH};

/// Plain requests that pass: HTTP/1.1, `GET` of exactly these paths at this port from these sources, without query, body,
/// upgrade and credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exemption {
    /// The number of the pods' port, one of those that the policy governs; not that of the Service.
    #[schemars(with = "i32", range(min = 1, max = 65535))]
    pub port: u16,

    /// Paths, compared whole. In normal form: nothing percent-encoded, no `*` and no `;`.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 1024), regex(pattern = PATH)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub paths: Vec<String>,

    /// Where requests may come from: networks in CIDR notation, with a prefix of at least 8 bits and no bit set behind it. An
    /// address says where, not who: whoever can send from there can ask.
    #[schemars(length(min = 1, max = 8), inner(length(min = 4, max = 43), regex(pattern = NETWORK)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub sources: Vec<String>,
}
