//! Revocation: what counts no more before its end, for the folder only. Like Workload it is no custom resource.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// One revocation: exactly one of the first five fields says of what. Removing the document does not take it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(group = "fapi-mesh.dev", version = "v1alpha1", kind = "Revocation")]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RevocationSpec {
    /// One token, by its `jti`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "IssuedId")]
    pub(crate) token: Option<IssuedId>,

    /// One certificate, by its `x5t#S256`: SHA-256 in base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 43, max = 43))]
    pub(crate) certificate: Option<String>,

    /// A pod, by its uid: every certificate that it has or gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 127))]
    pub(crate) pod_uid: Option<String>,

    /// An identity: certificates and tokens of all its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 512))]
    pub(crate) spiffe_id: Option<String>,

    /// All tokens of a client, by its `client_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "IssuedId")]
    pub(crate) client: Option<IssuedId>,

    /// What is issued from this time on is not hit (RFC 3339). Without it, whatever is issued before the end is. Not for a
    /// pod, which is never issued anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 64))]
    pub(crate) issued_before: Option<String>,

    /// When the revocation ends (RFC 3339): not before the last certificate or token that it hits.
    #[schemars(length(min = 1, max = 64))]
    pub(crate) expires: String,
}

/// An id that is unique within its issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct IssuedId {
    /// The issuer, as it stands in `iss`.
    #[schemars(length(min = 1, max = 512))]
    pub(crate) issuer: String,

    /// The id.
    #[schemars(length(min = 1, max = 512))]
    pub(crate) id: String,
}
