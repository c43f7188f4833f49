use control::{ClientAuthentication, ExternalIssuer};

/// An authorization server, and as whom and how this workload asks it. Everything that belongs to one of these is kept
/// apart from that of any other: a server must not learn what could be used at another (the "Cuckoo's Token" attack).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AuthorizationServer {
    pub(crate) place: Place,
    pub(crate) authentication: ClientAuthentication,
}

/// Which server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// The mesh's own, a part of the operator; we are known there by our SPIFFE ID.
    Mesh { issuer: String, token_endpoint: String },
    /// One outside the mesh, found by its metadata.
    Outside { server: ExternalIssuer, client_id: String, opaque: bool },
}

impl AuthorizationServer {
    /// Its identifier (RFC 8414): what assertions for it name as their audience.
    pub(crate) fn issuer(&self) -> &str {
        match &self.place {
            Place::Mesh { issuer, .. } => issuer,
            Place::Outside { server, .. } => &server.issuer,
        }
    }

    /// Whether it is none of ours, and to be spared.
    pub(crate) fn is_outside(&self) -> bool {
        matches!(self.place, Place::Outside { .. })
    }

    /// Whether its tokens cannot be read by their clients.
    pub(crate) fn is_opaque(&self) -> bool {
        matches!(self.place, Place::Outside { opaque: true, .. })
    }
}
