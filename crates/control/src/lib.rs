//! What operator and sidecar say to each other, and how they recognise each other.
//!
//! - [`pb`]: the messages and the service, generated from `proto/control.proto`.
//! - [`snapshot`], [`destination`]: the JSON documents inside those messages.
//! - [`features`]: what a sidecar can enforce, and what a snapshot may demand.
//! - [`identity`]: from a verified certificate to a [`fapi::Peer`].
//! - [`OpenConnections`]: who stays connected to a port of probes and metrics.
//! - [`Order`]: which of two snapshots is older.
//! - [`pod`]: the ports, ids and probes of a meshed pod.
//! - [`tls`]: the only place that builds TLS configurations for mesh connections.

pub mod destination;
pub mod features;
pub mod identity;
mod open_connections;
mod order;
pub mod pod;
pub mod snapshot;
pub mod tls;

/// The generated messages, client and server of `proto/control.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated code"
)]
pub mod pb {
    include!("pb/fapi_mesh.control.v1.rs");
}

pub use destination::{
    ClientAuthentication, Destination, DestinationKind, EndpointDoc, ExternalToken, GrantType, TokenDoc, TokenSource,
};
pub use open_connections::OpenConnections;
pub use order::Order;
pub use snapshot::{ExternalIssuer, MeshIssuer, Port, PortPolicyDoc, Snapshot, WorkloadName};

/// The version of this build, as sidecars and operator tell it to each other.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The caller of a [`pb::RefusedCaller`] that sums all who are not told apart: no service account has a name without a slash.
pub const OTHER_CALLERS: &str = "other";

/// The service account of the operator, an identity that no enrolment issues.
pub const OPERATOR_SERVICE_ACCOUNT: &str = "fapi-operator";
