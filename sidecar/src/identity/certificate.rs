//! A certificate in the form that the calling side works with.

use std::sync::Arc;

use control::{
    identity::LeafError,
    tls::{Identity, TlsError, TrustBundle},
};
use fapi::{CertThumbprint, SpiffeId, UnixTime};
use rustls::ClientConfig;

/// Our own certificate with its key and the facts that tokens and connections depend on. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Certificate {
    pub(crate) identity: Arc<Identity>,
    pub(crate) spiffe_id: SpiffeId,
    /// What tokens are bound to (RFC 8705 section 3.1). It tells one certificate from another: connections and tokens
    /// belong together exactly when it is the same.
    pub(crate) thumbprint: CertThumbprint,
    pub(crate) not_after: UnixTime,
}

impl Certificate {
    /// Reads the facts out of the leaf.
    pub(crate) fn new(identity: Arc<Identity>) -> Result<Self, LeafError> {
        let leaf = identity.leaf().ok_or(LeafError::Malformed)?;
        let own = control::identity::peer_from_leaf(leaf)?;
        Ok(Self { spiffe_id: own.spiffe_id, thumbprint: own.thumbprint, not_after: own.not_after, identity })
    }

    /// For a connection that shows this certificate to exactly the server `expect`.
    pub(crate) fn client_config(
        &self,
        bundle: &TrustBundle,
        expect: SpiffeId,
        alpn: &[&[u8]],
    ) -> Result<Arc<ClientConfig>, TlsError> {
        control::tls::client_config(bundle, Some(&self.identity), vec![expect], alpn).map(Arc::new)
    }
}
