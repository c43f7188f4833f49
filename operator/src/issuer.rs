//! The mesh issuer: a small OAuth 2.0 authorization server for workloads (FAPI 2.0, RFC 6749 section 4.4).
//!
//! `client_credentials` and token exchange (RFC 8693), with `tls_client_auth` (RFC 8705 section 2.1) or `private_key_jwt`
//! (RFC 7523), tokens of RFC 9068 bound to the certificate of the connection or to a DPoP key, revocation (RFC 7009) and introspection (RFC 7662, RFC 9701).
//! It grants only what the policies of the target grant; there are no client secrets and no refresh tokens.

mod client;
mod error;
mod exchange;
mod form;
mod grant;
mod http;
mod introspect;
mod kept;
mod keys;
mod metadata;
mod revoke;
#[cfg(test)]
mod tests;
mod token;

use std::sync::Arc;

use bytes::Bytes;
use control::MeshIssuer;
use control::tls::TlsError;
use fapi::{IssuedToken, KeySet, NonceMinter, ReplaySet};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::accept::{self, Places, Room, Tls};
use crate::client_keys::ClientKeys;
use crate::clock::Clock;
use crate::limits::{Limits, Rate};
use crate::revocations::Revocations;
use crate::view::View;

pub(crate) use exchange::LONGEST_CHAIN;
pub(crate) use grant::{Asked, NotGranted, grant as granted, grant_by as granted_by};
pub(crate) use kept::Kept;
#[cfg(test)]
pub(crate) use keys::Keys;
pub(crate) use keys::{Delivered, Delivery, KeysError, Published, Rotation};

/// The protocols that the issuer speaks over TLS.
pub(crate) const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

/// A sidecar has one, briefly, and for requests at one time one each; it may send no more of these than [`RATE`] says.
const PLACES: Places = Places { all: 4096, strangers: 1024, of_a_pod: 256 };
/// Requests of a client. A sidecar with 64 targets asks for 64 tokens, each twice for want of a nonce.
const RATE: Rate = Rate { burst: 256, per_second: 32 };
/// Proofs remembered, and how many of them one caller may fill.
const PROOFS: usize = 65_536;
const PROOFS_PER_CALLER: usize = 1024;

/// The authorization server of the mesh.
pub(crate) struct MeshAuthorizationServer {
    names: MeshIssuer,
    metadata: Bytes,
    kept: Kept,
    limits: Limits,
    client_keys: Arc<ClientKeys>,
    view: watch::Receiver<Arc<View>>,
    revocations: Arc<Revocations>,
    clock: Clock,
    nonces: NonceMinter,
    replay: ReplaySet,
}

/// The names of the issuer that listens at `issuer` (`https://` and an address, no slash at its end).
pub(crate) fn names(issuer: &str) -> MeshIssuer {
    MeshIssuer { issuer: issuer.to_owned(), token_endpoint: format!("{issuer}{}", http::TOKEN) }
}

impl MeshAuthorizationServer {
    /// A server that grants by what `view` says and signs with the keys of `kept`.
    pub(crate) fn new(
        names: MeshIssuer,
        kept: Kept,
        client_keys: Arc<ClientKeys>,
        view: watch::Receiver<Arc<View>>,
        revocations: Arc<Revocations>,
        clock: Clock,
    ) -> Self {
        Self {
            metadata: metadata::document(&names),
            names,
            nonces: NonceMinter::new(kept.nonces),
            kept,
            limits: Limits::new(RATE),
            client_keys,
            view,
            revocations,
            clock,
            replay: ReplaySet::new(PROOFS, PROOFS_PER_CALLER),
        }
    }

    /// The token, if it is one that this issuer has signed with a key that still counts.
    fn issued(&self, token: &str) -> Option<IssuedToken> {
        let keys = KeySet::from_jwks_json(&self.kept.keys.published().borrow().jwks).ok()?;
        IssuedToken::verify(token, &self.names.issuer, &keys)
    }
}

/// Serves until `shutdown` says true, then lets requests in progress finish.
///
/// # Errors
/// If the TLS configuration cannot be built.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Tls,
    server: Arc<MeshAuthorizationServer>,
    shutdown: watch::Receiver<bool>,
) -> Result<(), TlsError> {
    let clock = server.clock.clone();
    let serve = move |connection| http::connection(server.clone(), connection);
    accept::run(listener, tls, Room::Members(PLACES), clock, shutdown, serve).await
}
