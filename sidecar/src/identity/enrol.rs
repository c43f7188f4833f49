//! One certificate from the operator: a new key, a CSR, a workload token, over a connection whose server is known.

use std::{io, path::Path, sync::Arc, time::Duration};

use control::{
    identity::LeafError,
    pb::{EnrollRequest, EnrollResponse},
    tls::{Identity, TlsError, TrustBundle},
};
use fapi::Rejection;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::time::timeout;

use super::{Certificate, Settings};
use crate::{
    control_client::{channel, dial::DialError},
    state::{Shared, StateError},
};

/// How long one attempt may take, at most and at least.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_AT_LEAST: Duration = Duration::from_secs(2);
/// A leaf, an issuing CA, and room for a cross-signed one.
const CHAIN_MAX: usize = 4;
/// No honest token or bundle is larger.
const FILE_MAX: u64 = 256 * 1024;

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrolError {
    #[error("cannot read {path}: {source}; the operator or the platform writes it")]
    File { path: String, source: io::Error },
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("no key or CSR could be made: {0}")]
    Csr(#[from] rcgen::Error),
    #[error("the operator refused: {}: {}", .0.code(), .0.message())]
    Refused(#[from] Box<tonic::Status>),
    #[error("the operator did not answer within {0:?}")]
    TooSlow(Duration),
    #[error("the operator sent a certificate that is not ours: {0}")]
    Answer(&'static str),
    #[error("the operator sent a certificate that breaks the rules of the mesh: {0}")]
    Leaf(#[from] LeafError),
}

impl EnrolError {
    /// Whether the operator does not take the certificate or the token.
    fn is_unauthenticated(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code() == tonic::Code::Unauthenticated)
    }

    /// The reason if the server is not the operator of this mesh.
    pub(super) fn rejection(&self) -> Option<Rejection> {
        match self {
            Self::Dial(error) => error.rejection(),
            _ => None,
        }
    }
}

/// The way to certificates.
pub(super) struct Enrolment {
    shared: Arc<Shared>,
    settings: Settings,
    /// The streamed bundle may be outdated after a long absence: a failed attempt is followed by one with the file.
    distrust_streamed_bundle: bool,
    /// The certificate in use is of no use any more: it was revoked, say. The next attempt is a first contact.
    without_certificate: bool,
}

impl Enrolment {
    pub(super) fn new(shared: Arc<Shared>, settings: Settings) -> Self {
        Self { shared, settings, distrust_streamed_bundle: false, without_certificate: false }
    }

    /// Asks once. With a certificate that is still good, over it: that is a renewal.
    pub(super) async fn enrol(&mut self) -> Result<Certificate, EnrolError> {
        let current = self.current();
        let within = patience(current.as_ref().map(|certificate| self.shared.clock.until(certificate.not_after)));
        let result = timeout(within, self.ask(current)).await.unwrap_or(Err(EnrolError::TooSlow(within)));
        self.distrust_streamed_bundle = match &result {
            Ok(_) => false,
            Err(_) => !self.distrust_streamed_bundle,
        };
        self.without_certificate =
            result.as_ref().is_err_and(EnrolError::is_unauthenticated) && !self.without_certificate;
        result
    }

    async fn ask(&self, current: Option<Certificate>) -> Result<Certificate, EnrolError> {
        let bundle = self.bundle().await?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let csr = CertificateParams::default().serialize_request(&key)?;
        let Settings { control, operator, token, .. } = &self.settings;
        // The server is known before anything is sent.
        let identity = current.as_ref().map(|certificate| &*certificate.identity);
        let mut client = channel::connect(control, &bundle, identity, operator).await?;
        let token = read(token).await?.trim().to_owned();
        let request = EnrollRequest { token, csr_der: csr.der().to_vec() };
        let answer = client.enroll(request).await.map_err(Box::new)?.into_inner();
        let next = self.certificate(&key, &answer, current.as_ref())?;
        let bundle = TrustBundle::from_pem(self.shared.trust_domain(), &answer.trust_bundle_pem)?;
        // Whoever was away for a whole rotation of roots has only those that nobody uses any more.
        if self.shared.bundle().is_none() || self.distrust_streamed_bundle {
            self.shared.install_bundle(Arc::new(bundle))?;
        }
        Ok(next)
    }

    /// The roots to know the operator by.
    async fn bundle(&self) -> Result<Arc<TrustBundle>, EnrolError> {
        if let Some(streamed) = self.shared.bundle().filter(|_| !self.distrust_streamed_bundle) {
            return Ok(streamed);
        }
        let pem = read(&self.settings.trust_bundle).await?;
        Ok(Arc::new(TrustBundle::from_pem(self.shared.trust_domain(), &pem)?))
    }

    /// The certificate in use, unless it is over or refused: then this is a first contact again.
    fn current(&self) -> Option<Certificate> {
        if self.without_certificate {
            return None;
        }
        let generation = self.shared.identity()?;
        let certificate = Certificate::new(generation.identity.clone()).ok()?;
        (self.shared.clock.now() < certificate.not_after).then_some(certificate)
    }

    fn certificate(
        &self,
        key: &KeyPair,
        answer: &EnrollResponse,
        current: Option<&Certificate>,
    ) -> Result<Certificate, EnrolError> {
        if answer.chain_der.is_empty() || answer.chain_der.len() > CHAIN_MAX {
            return Err(EnrolError::Answer("its chain is empty or too long"));
        }
        let chain = answer.chain_der.iter().map(|der| CertificateDer::from(der.clone())).collect();
        // Fails when the leaf is not of our key.
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let next = Certificate::new(Arc::new(Identity::new(chain, key)?))?;
        let changed = |current: &Certificate| current.spiffe_id != next.spiffe_id;
        if next.spiffe_id.trust_domain() != self.shared.trust_domain().as_str() || current.is_some_and(changed) {
            return Err(EnrolError::Answer("it names another identity"));
        }
        if next.not_after <= self.shared.clock.now() {
            return Err(EnrolError::Answer("it is over already; compare the clocks"));
        }
        Ok(next)
    }
}

/// How long an attempt may take with a certificate that is good for that long: there is to be time for others before it ends.
fn patience(left: Option<Duration>) -> Duration {
    left.map_or(ANSWER_WITHIN, |left| (left / 3).clamp(ANSWER_AT_LEAST, ANSWER_WITHIN))
}

async fn read(path: &Path) -> Result<String, EnrolError> {
    let failed = |source| EnrolError::File { path: path.display().to_string(), source };
    let size = tokio::fs::metadata(path).await.map_err(failed)?.len();
    if size > FILE_MAX {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    tokio::fs::read_to_string(path).await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_leaves_time_for_others_before_the_certificate_ends() {
        let seconds = Duration::from_secs;
        assert_eq!(patience(None), seconds(10), "nothing ends");
        assert_eq!(patience(Some(seconds(1200))), seconds(10));
        assert_eq!(patience(Some(seconds(12))), seconds(4));
        assert_eq!(patience(Some(seconds(1))), seconds(2), "less is no attempt");
    }
}
