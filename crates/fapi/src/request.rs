//! What a decision looks at.

use http::{HeaderMap, Method};

use crate::{
    dpop::{NonceMinter, ReplaySet},
    jwks::IssuerKeys,
    peer::Peer,
    policy::PortPolicy,
    revocations::Revocations,
    value::UnixTime,
};

/// A request as it arrived, before any rewrite.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path, still percent-encoded, without query.
    pub path: &'a str,
    /// The query, without `?`.
    pub query: Option<&'a str>,
    /// All headers.
    pub headers: &'a HeaderMap,
}

/// Never shows headers or query: tokens are in there.
impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Request({} {})", self.method, self.path)
    }
}

/// Everything that a decision depends on beside the request.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The policy of the port.
    pub policy: &'a PortPolicy,
    /// The keys of all issuers.
    pub keys: &'a IssuerKeys,
    /// Set once the shell has fetched keys for this request: a key that is still missing then refuses.
    pub keys_fresh: bool,
    /// The peer of the TLS connection.
    pub peer: &'a Peer,
    /// The nonces of this process.
    pub nonces: &'a NonceMinter,
    /// The proofs seen by this process.
    pub replay: &'a ReplaySet,
    /// What was revoked.
    pub revocations: &'a Revocations,
    /// A number that changes with policy, keys, revocations and trust bundle.
    pub generation: u64,
    /// The time.
    pub now: UnixTime,
}
