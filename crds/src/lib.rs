//! The custom resources of `fapi-mesh.dev`, exactly as a cluster serves them and as a folder of YAML spells them.
//!
//! One kind per file. Doc comments end in the schema: they address users. What a schema cannot say (a reference to another
//! object, a namespace equal to another) is checked by the operator.

#![allow(unreachable_pub, reason = "the KubeSchema derive copies each struct into a function of its own")]
#![allow(clippy::duplicated_attributes, reason = "every column of a kind says its own type and path")]

pub mod client;
pub mod conditions;
pub mod duration;
pub mod issuer;
pub mod mesh;
mod patterns;
pub mod policy;
pub mod revocation;

pub use client::{FapiClient, FapiClientSpec};
pub use issuer::{FapiIssuer, FapiIssuerSpec};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
pub use mesh::{FapiMesh, FapiMeshSpec};
pub use policy::{FapiPolicy, FapiPolicySpec};
pub use revocation::{Revocation, RevocationSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The API group.
pub const GROUP: &str = "fapi-mesh.dev";
/// The one version.
pub const VERSION: &str = "v1alpha1";

/// Every kind that a cluster has to know, by name.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![FapiClient::crd(), FapiIssuer::crd(), FapiMesh::crd(), FapiPolicy::crd(), Revocation::crd()]
}

/// The YAML of one definition, as it stands in the chart.
///
/// # Errors
/// The definition cannot be written as YAML; the text says why.
pub fn render(crd: &CustomResourceDefinition) -> Result<String, String> {
    // By way of JSON: API servers read the numbers and the nulls of JSON, not those of YAML dialects.
    let value = serde_json::to_value(crd).map_err(|error| error.to_string())?;
    serde_saphyr::to_string(&value).map_err(|error| error.to_string())
}

/// How a token is tied to the one who may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SenderConstraint {
    /// By the certificate of the caller's connection (RFC 8705).
    #[serde(rename = "MTLS")]
    Mtls,
    /// By a proof that the caller signs for each request (RFC 9449).
    #[serde(rename = "DPoP")]
    Dpop,
}
