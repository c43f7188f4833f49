//! Who is at the other end of the TLS connection.

use std::sync::Arc;

use crate::value::{CertThumbprint, SpiffeId, UnixTime};

/// Facts of a verified TLS leaf certificate, computed once per connection by whoever ended the TLS connection.
///
/// Only a certificate whose chain and SPIFFE rules were checked may become a `Peer`; nothing here checks again.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The one URI SAN of the leaf.
    pub spiffe_id: SpiffeId,
    /// SHA-256 of the leaf's DER (RFC 8705 section 3.1).
    pub thumbprint: CertThumbprint,
    /// The pod that the certificate was issued to, if it says so.
    pub pod_uid: Option<Arc<str>>,
    /// When the leaf was issued; what was revoked up to a time may be issued anew after it.
    pub issued: UnixTime,
    /// End of the leaf's validity.
    pub not_after: UnixTime,
}
