//! What injector, init step and sidecar agree on about a meshed pod.

pub mod probes;

/// Where redirected calls of peers arrive, on every address of the pod.
pub const INBOUND_PORT: u16 = 15006;
/// Where redirected calls of the app arrive, on loopback.
pub const OUTBOUND_PORT: u16 = 15001;
/// Where the app's calls arrive when it uses the sidecar as its HTTP proxy, on loopback.
pub const PROXY_PORT: u16 = 15002;
/// Probes, `/readyz` and `/metrics`, on every address of the pod.
pub const HEALTH_PORT: u16 = 15020;
/// Everything else about the sidecar, on loopback.
pub const ADMIN_PORT: u16 = 15000;
/// User and group of the sidecar: what this group sends is not redirected.
pub const SIDECAR_ID: u32 = 15100;
