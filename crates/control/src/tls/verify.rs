//! The two verifiers: chain by webpki, identity by [`crate::identity`].

use std::{sync::Arc, time::Duration};

use fapi::{SpiffeId, TrustDomain};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::{ClientAuth, TlsError, TrustBundle, provider};
use crate::identity::{LeafError, member_from_leaf};

fn refuse(error: LeafError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

/// Whether a chain, leaf first, leads to one of these roots at `now`. Who the leaf names is not looked at.
pub(super) fn leads_to(chain: &[CertificateDer<'_>], roots: &RootCertStore, now: fapi::UnixTime) -> bool {
    let Some((leaf, intermediates)) = chain.split_first() else { return false };
    let Ok(leaf) = ParsedCertificate::try_from(leaf) else { return false };
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()));
    let algorithms = provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&leaf, roots, intermediates, now, algorithms).is_ok()
}

/// No TLS 1.2 handshake can start; this only completes the trait.
pub(super) fn no_tls12() -> Error {
    Error::General("TLS 1.2 is not offered".to_owned())
}

/// Lets in members of the trust domain.
#[derive(Debug)]
pub(super) struct MemberVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    trust_domain: TrustDomain,
    client_auth: ClientAuth,
}

impl MemberVerifier {
    pub(super) fn new(bundle: &TrustBundle, client_auth: ClientAuth) -> Result<Self, TlsError> {
        let chain = WebPkiClientVerifier::builder_with_provider(bundle.roots.clone(), provider())
            .clear_root_hint_subjects()
            .build()
            .map_err(|error| TlsError::Bundle(error.to_string()))?;
        Ok(Self { chain, trust_domain: bundle.trust_domain.clone(), client_auth })
    }
}

impl ClientCertVerifier for MemberVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.client_auth == ClientAuth::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        member_from_leaf(end_entity, &self.trust_domain).map_err(refuse)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Accepts a server whose chain leads to the bundle and whose SPIFFE ID is one of those expected.
#[derive(Debug)]
pub(super) struct ServerIdentityVerifier {
    bundle: TrustBundle,
    expect: Vec<SpiffeId>,
    provider: Arc<CryptoProvider>,
}

impl ServerIdentityVerifier {
    pub(super) fn new(bundle: &TrustBundle, expect: Vec<SpiffeId>) -> Self {
        Self { bundle: bundle.clone(), expect, provider: provider() }
    }
}

impl ServerCertVerifier for ServerIdentityVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.bundle.roots, intermediates, now, algorithms)?;
        let peer = member_from_leaf(end_entity, &self.bundle.trust_domain).map_err(refuse)?;
        if !self.expect.contains(&peer.spiffe_id) {
            return Err(refuse(LeafError::NotExpected { found: peer.spiffe_id.as_str().to_owned() }));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
