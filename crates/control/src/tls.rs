//! TLS between the parts of the mesh: 1.3 only, no resumption, no tickets, no early data,
//! chains to the trust bundle, identities by SPIFFE ID. The only file of this crate that names the crypto library.

use std::{io, sync::Arc};

use fapi::{Rejection, SpiffeId, TrustDomain, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, InvalidMessage, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor, pem::PemObject},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
};

use crate::identity::LeafError;
use verify::{MemberVerifier, ServerIdentityVerifier};

pub mod danger;
mod verify;

/// Why a TLS configuration cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The bundle holds no certificate, or something that is none.
    #[error("the trust bundle cannot be read: {0}; it must hold the root certificates of the mesh as PEM")]
    Bundle(String),
    /// The roots hold no certificate that can be used.
    #[error("there is no root certificate that can be used; give roots as PEM")]
    Roots,
    /// Chain and key do not belong together, or the key cannot be used.
    #[error("the certificate chain and its key cannot be used: {0}")]
    Identity(String),
    /// The library refused.
    #[error("TLS configuration: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The one crypto provider: aws-lc, X25519MLKEM768 preferred.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The roots that a trust domain's certificates chain to.
#[derive(Clone, Debug)]
pub struct TrustBundle {
    trust_domain: TrustDomain,
    roots: Arc<RootCertStore>,
    /// The same, one by one.
    each: Arc<[Root]>,
}

/// One root of a bundle. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Root(Arc<RootCertStore>);

impl PartialEq for Root {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.roots == other.0.roots
    }
}

impl Eq for Root {}

impl TrustBundle {
    /// Reads the roots of `trust_domain`.
    ///
    /// # Errors
    /// If `pem` holds no certificate, or one that cannot be a root.
    pub fn from_pem(trust_domain: &TrustDomain, pem: &str) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| TlsError::Bundle(error.to_string()))?;
            roots.add(certificate).map_err(|error| TlsError::Bundle(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(TlsError::Bundle("it holds no certificate".to_owned()));
        }
        let one = |root: &TrustAnchor<'static>| Root(Arc::new(RootCertStore { roots: vec![root.clone()] }));
        let each = roots.roots.iter().map(one).collect();
        Ok(Self { trust_domain: trust_domain.clone(), roots: Arc::new(roots), each })
    }

    /// Whether both hold the same roots.
    pub fn is_same(&self, other: &Self) -> bool {
        self.trust_domain == other.trust_domain && self.roots.roots == other.roots.roots
    }

    /// Whether `root` is one of these.
    pub fn holds(&self, root: &Root) -> bool {
        self.each.contains(root)
    }

    /// The root that vouches at `now` for a chain, leaf first, that was verified by this bundle. Where there is only one, it is
    /// that one and nothing is verified again.
    pub fn root_of(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Option<Root> {
        match &*self.each {
            [only] => Some(only.clone()),
            all => all.iter().find(|root| verify::leads_to(chain, &root.0, now)).cloned(),
        }
    }

    /// The trust domain that the roots vouch for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }
}

/// The roots that vouch for servers outside the mesh, by their names.
#[derive(Clone, Debug)]
pub struct Roots(Arc<RootCertStore>);

impl Roots {
    /// Reads roots. As systems ship old ones among many good ones, those that cannot be used are skipped.
    ///
    /// # Errors
    /// If none can be used.
    pub fn from_pem(pem: &str) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem.as_bytes()).flatten());
        if roots.is_empty() {
            return Err(TlsError::Roots);
        }
        Ok(Self(Arc::new(roots)))
    }
}

/// A certificate chain, leaf first, with its private key, which never leaves it.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    /// Joins a chain and the key of its leaf.
    ///
    /// # Errors
    /// If the key cannot be used or is not the leaf's.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, TlsError> {
        CertifiedKey::from_der(chain, key, &provider())
            .map(|certified| Self { certified: Arc::new(certified) })
            .map_err(|error| TlsError::Identity(error.to_string()))
    }

    /// The leaf, DER; `None` never happens for an identity made by [`Identity::new`].
    pub fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.certified.cert.first()
    }

    /// The chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }
}

/// Whether a listener lets callers in that present no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// The handshake fails without one.
    Required,
    /// The handshake passes without one; one that is presented must be good.
    Optional,
}

/// A server's configuration.
///
/// # Errors
/// [`TlsError`] if the library refuses the parts.
pub fn server_config(
    bundle: &TrustBundle,
    identity: &Identity,
    client_auth: ClientAuth,
    alpn: &[&[u8]],
) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(MemberVerifier::new(bundle, client_auth)?))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified.clone())));
    // A resumed session would not be verified again: an expired certificate would live on.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// A server's configuration for callers outside the mesh, who are asked for no certificate.
///
/// # Errors
/// [`TlsError`] if the library refuses the parts.
pub fn public_server_config(identity: &Identity, alpn: &[&[u8]]) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified.clone())));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// A client's configuration, for servers that are one of `expect`; `identity` is presented if asked for.
///
/// # Errors
/// [`TlsError`] if the library refuses the parts.
pub fn client_config(
    bundle: &TrustBundle,
    identity: Option<&Identity>,
    expect: Vec<SpiffeId>,
    alpn: &[&[u8]],
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerIdentityVerifier::new(bundle, expect)));
    let mut config = match identity {
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified.clone())))
        }
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    // A SPIFFE certificate names no host, so there is none to ask for.
    config.enable_sni = false;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// A client's configuration, for a server outside the mesh: it is verified by its name (RFC 9525); `identity` is presented if
/// asked for.
///
/// # Errors
/// [`TlsError`] if the library refuses the parts.
pub fn public_client_config(roots: &Roots, identity: Option<&Identity>) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(Arc::clone(&roots.0));
    let mut config = match identity {
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified.clone())))
        }
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The reason id of a handshake that failed, read on the side that refused; `None` if it was no refusal
/// (the connection broke, the other side refused, or it spoke something else than TLS).
pub fn rejection_of(error: &io::Error) -> Option<Rejection> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    match error {
        rustls::Error::NoCertificatesPresented => Some(Rejection::PeerCertificateMissing),
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            Some(other.0.downcast_ref::<LeafError>().map_or(Rejection::PeerCertificateUntrusted, LeafError::rejection))
        }
        rustls::Error::InvalidCertificate(_) => Some(Rejection::PeerCertificateUntrusted),
        _ => None,
    }
}

/// Whether the other side of a handshake did not speak TLS at all.
pub fn is_plaintext(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(error, Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)))
}

/// Whether the other side ended the handshake, or the connection, because of our certificate.
pub fn refused_by_peer(error: &io::Error) -> bool {
    let alert = error.get_ref().and_then(|error| match error.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    });
    matches!(
        alert,
        Some(
            AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::AccessDenied
        )
    )
}

#[cfg(test)]
mod tests;
