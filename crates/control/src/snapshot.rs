//! The snapshot document: everything one pod needs to judge its inbound calls.

use std::net::SocketAddr;

use fapi::{WirePolicy, WireTcpPolicy};
use serde::{Deserialize, Serialize};

/// The desired state of one pod, complete in itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Snapshot {
    /// The trust domain of the mesh.
    pub trust_domain: String,
    /// The identity that this pod's certificates name.
    pub spiffe_id: String,
    /// The pod that the snapshot is for.
    pub pod_uid: String,
    /// Its name, for people.
    pub workload: WorkloadName,
    /// The authorization server of the mesh.
    pub mesh_issuer: MeshIssuer,
    /// The other issuers that the policies name. Left out when empty, so that an older sidecar still takes what it can
    /// enforce.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_issuers: Vec<ExternalIssuer>,
    /// Whether the app may hand calls on: each that it gets then has a handle, and some targets are called with a token that
    /// was exchanged for the call's. Left out when false, for the same reason.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub token_exchange: bool,
    /// Every port that the sidecar guards.
    pub ports: Vec<Port>,
}

/// Namespace and name of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadName {
    /// The namespace.
    pub namespace: String,
    /// The name of the pod in it.
    pub name: String,
}

/// Where the mesh's authorization server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeshIssuer {
    /// The issuer identifier (RFC 8414), as it stands in `iss`.
    pub issuer: String,
    /// The token endpoint, an https URL.
    pub token_endpoint: String,
}

/// An authorization server outside the mesh: where the sidecar finds its keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalIssuer {
    /// The issuer identifier (RFC 8414), as it stands in `iss`.
    pub issuer: String,
    /// Its key set, an https URL; `None`: where its metadata says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// The roots that vouch for the server, PEM; `None`: those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// The client as which the sidecar asks it about tokens that only it can read (RFC 7662); `None`: it has none to ask about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introspect_as: Option<String>,
}

/// One inbound port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// The name that a policy's `sectionName` refers to.
    pub name: String,
    /// The port of the Service.
    pub port: u16,
    /// Where the sidecar listens.
    pub listen: SocketAddr,
    /// Where the app listens.
    pub app: SocketAddr,
    /// The policy that governs the port.
    pub policy: PortPolicyDoc,
}

/// What governs a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PortPolicyDoc {
    /// The one policy that governs it.
    Policy(WirePolicy),
    /// The one policy that governs it, of a port that takes no HTTP.
    Tcp(WireTcpPolicy),
    /// A policy that never compiled: the port is closed.
    #[serde(rename_all = "camelCase")]
    Invalid {
        /// The policy, `namespace/name`.
        name: String,
    },
}
