//! The mesh's certificate authority: a root and an issuing CA kept on disk, and the leaves they give out.
//!
//! Every leaf has the same shape (DESIGN: X509-SVID): one URI name, the pod's uid in a private extension, CA false,
//! digitalSignature, both extended usages, P-256. Nothing of it is chosen by who asks, except the public key.

mod ca;
mod csr;
mod error;
mod leaf;
mod serving;
mod store;
#[cfg(test)]
mod tests;
mod x509;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use fapi::{SpiffeId, TrustDomain, UnixTime};
use rcgen::{CertificateParams, Issuer, KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;

use ca::Pair;
use store::Store;

use crate::shelf::Shelf;

pub(crate) use csr::{CsrError, PublicKey};
pub(crate) use error::PkiError;
pub(crate) use leaf::set_validity;
pub(crate) use serving::{Serving, identity_of};
pub(crate) use store::FINGERPRINT;
pub(crate) use x509::pem;

/// The certificate authority of one mesh.
pub(crate) struct Authority {
    trust_domain: TrustDomain,
    store: Store,
    root: Pair,
    bundle_pem: Arc<str>,
    issuing_key: KeyPair,
    issuing: RwLock<Issuing>,
}

/// The issuing certificate, replaced by a later one for the same key before it ends.
#[derive(Clone)]
struct Issuing {
    certificate: CertificateDer<'static>,
    not_after: UnixTime,
}

/// A certificate that was just made.
pub(crate) struct Issued {
    /// Leaf first, then the issuing CA.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// When the leaf ends.
    pub(crate) not_after: UnixTime,
    /// The leaf's serial in hexadecimal, for the log.
    pub(crate) serial: String,
}

impl Authority {
    /// Opens the authority of a shelf, making it at the first start, and writes its root to the file `bundle`, if there is one.
    ///
    /// # Errors
    /// Anything missing, damaged, open to others or of another trust domain; nothing is ever remade.
    pub(crate) fn open(
        shelf: Shelf,
        bundle: Option<PathBuf>,
        trust_domain: &TrustDomain,
        now: UnixTime,
    ) -> Result<Self, PkiError> {
        let store = Store::new(shelf, bundle);
        let kept = store.open(trust_domain, now)?;
        let bundle_pem: Arc<str> = pem(&kept.root.certificate).into();
        store.write_bundle(&bundle_pem)?;
        let issuing = Issuing::read(kept.issuing.certificate)?;
        let authority = Self {
            trust_domain: trust_domain.clone(),
            store,
            root: kept.root,
            bundle_pem,
            issuing_key: kept.issuing.key,
            issuing: RwLock::new(issuing),
        };
        authority.renew_issuing(now)?;
        Ok(authority)
    }

    /// The trust domain that it certifies for.
    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The root certificate in PEM: what everyone in the mesh trusts.
    pub(crate) fn bundle_pem(&self) -> Arc<str> {
        self.bundle_pem.clone()
    }

    /// Whether `key` is one of the authority's own, which nobody else can honestly ask a certificate for.
    pub(crate) fn owns(&self, key: &PublicKey) -> bool {
        key.is(&self.root.key.subject_public_key_info()) || key.is(&self.issuing_key.subject_public_key_info())
    }

    /// Issues the certificate of a pod: for `lifetime`, but never beyond the issuing CA's own.
    pub(crate) fn issue_pod(
        &self,
        id: &SpiffeId,
        pod_uid: &str,
        key: &PublicKey,
        lifetime: Duration,
        now: UnixTime,
    ) -> Result<Issued, PkiError> {
        let mut params = leaf::params(id)?;
        leaf::add_pod_uid(&mut params, pod_uid)?;
        self.sign(params, key, lifetime, now)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        key: &impl PublicKeyData,
        lifetime: Duration,
        now: UnixTime,
    ) -> Result<Issued, PkiError> {
        let issuing = self.issuing();
        if issuing.not_after <= now {
            return Err(PkiError::Ended { which: "issuing", ended: issuing.not_after });
        }
        let not_after = now.plus(lifetime.as_secs()).min(issuing.not_after);
        let serial = set_validity(&mut params, now, not_after);
        let issuer = Issuer::from_ca_cert_der(&issuing.certificate, &self.issuing_key)?;
        let leaf = params.signed_by(key, &issuer)?;
        Ok(Issued { chain: vec![leaf.into(), issuing.certificate], not_after, serial })
    }

    /// Has the root certify the issuing key anew once two thirds of the present certificate are over.
    pub(crate) fn renew_issuing(&self, now: UnixTime) -> Result<(), PkiError> {
        let third = ca::ISSUING_LIFE.as_secs() / 3;
        if self.issuing().not_after > now.plus(third) {
            return Ok(());
        }
        let certificate = ca::certify_issuing(&self.trust_domain, &self.root, &self.issuing_key, now)?;
        self.store.write_issuing(&certificate)?;
        let issuing = Issuing::read(certificate)?;
        tracing::info!(event = "pki", not_after = issuing.not_after.as_secs(), "renewed the issuing certificate");
        *self.issuing.write().unwrap_or_else(PoisonError::into_inner) = issuing;
        Ok(())
    }

    fn issuing(&self) -> Issuing {
        self.issuing.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The DER of the SubjectPublicKeyInfo of a certificate; the error says what is wrong with the certificate.
pub(crate) fn public_key_info(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, String> {
    Ok(x509::facts(certificate)?.public_key_info)
}

/// When a certificate ends, if it is one and it is for this key.
pub(crate) fn validity_end(certificate: &CertificateDer<'_>, key: &KeyPair) -> Option<UnixTime> {
    let facts = x509::facts(certificate).ok()?;
    (facts.public_key_info == key.subject_public_key_info()).then_some(facts.not_after)
}

impl Issuing {
    fn read(certificate: CertificateDer<'static>) -> Result<Self, PkiError> {
        let facts =
            x509::facts(&certificate).map_err(|detail| PkiError::Damaged { path: "pki/issuing.pem".into(), detail })?;
        Ok(Self { certificate, not_after: facts.not_after })
    }
}
