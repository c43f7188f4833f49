//! Revocation: what counts no more before its end.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::patterns::{BASE64URL, PRINTABLE, SPIFFE_ID, TIME};

/// What counts no more before its end: a token, a certificate, a pod, an identity or a client. Exactly one of the first five
/// fields says of what. It cannot be changed or taken back: removing the object does not end it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "fapi-mesh.dev",
    version = "v1alpha1",
    kind = "Revocation",
    plural = "revocations",
    shortname = "frevocation",
    category = "fapi-mesh",
    status = "RevocationStatus",
    derive = "PartialEq",
    doc = "What counts no more before its end: a token, a certificate, a pod, an identity or a client. It cannot be changed or taken back: removing the object does not end it.",
    annotation("helm.sh/resource-policy", "keep"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expires"),
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
    validation = Rule::new("self == oldSelf")
        .message("a revocation cannot be changed or taken back: make another Revocation"),
    validation = Rule::new(
        "[has(self.token), has(self.certificate), has(self.podUid), has(self.spiffeId), has(self.client)]\
         .filter(given, given).size() == 1"
    )
    .message("give exactly one of token, certificate, podUid, spiffeId and client"),
    validation = Rule::new("!has(self.podUid) || !has(self.issuedBefore)")
        .message("a pod is revoked as a whole: leave issuedBefore out")
)]
pub struct RevocationSpec {
    /// One token, by its `jti`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "IssuedId")]
    pub token: Option<IssuedId>,

    /// One certificate, by its `x5t#S256`: SHA-256 in base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 43, max = 43), regex(pattern = BASE64URL))]
    pub certificate: Option<String>,

    /// A pod, by its uid: every certificate that it has or gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 127), regex(pattern = PRINTABLE))]
    pub pod_uid: Option<String>,

    /// An identity: certificates and tokens of all its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 512), regex(pattern = SPIFFE_ID))]
    pub spiffe_id: Option<String>,

    /// All tokens of a client, by its `client_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "IssuedId")]
    pub client: Option<IssuedId>,

    /// What is issued from this time on is not hit (RFC 3339). Without it, whatever is issued before the end is. Not for a
    /// pod, which is never issued anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 40), regex(pattern = TIME))]
    pub issued_before: Option<String>,

    /// When the revocation ends (RFC 3339): not before the last certificate or token that it hits.
    #[schemars(length(min = 1, max = 40), regex(pattern = TIME))]
    pub expires: String,
}

/// An id that is unique within its issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IssuedId {
    /// The issuer, as it stands in `iss`.
    #[schemars(length(min = 1, max = 512), regex(pattern = PRINTABLE))]
    pub issuer: String,

    /// The id.
    #[schemars(length(min = 1, max = 512), regex(pattern = PRINTABLE))]
    pub id: String,
}

/// What became of the revocation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevocationStatus {
    /// `Programmed`: how many pods have it in force; once all had it, it stays true, as pods that come later get it before
    /// anything else. `Ready`: the summary.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
