//! A root and the issuing authority below it, which live and go together.

use crds::mesh::AnchorPhase;
use fapi::{CertThumbprint, UnixTime};
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;

use super::ca::Pair;
use super::csr::PublicKey;
use super::rotation::Mark;
use super::{Anchor, PkiError, x509};

/// One of them. The issuing certificate is replaced before it ends; its key stays.
#[derive(Debug)]
pub(super) struct Line {
    /// Lines of a mesh are counted, from 1.
    pub(super) number: u32,
    pub(super) root: Pair,
    pub(super) issuing_key: KeyPair,
    /// How leaves name that key (RFC 5280 section 4.2.1.1).
    pub(super) key_id: Vec<u8>,
}

/// An issuing certificate.
#[derive(Clone, Debug)]
pub(super) struct Issuing {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) not_after: UnixTime,
}

impl Line {
    /// What tells its root from others.
    pub(super) fn mark(&self) -> Mark {
        Mark { number: self.number, fingerprint: Some(fingerprint(&self.root.certificate)) }
    }

    /// Its root, in this phase.
    pub(super) fn anchor(&self, phase: AnchorPhase) -> Anchor {
        let certificate = &self.root.certificate;
        // It was read before, so it can be.
        let not_after = x509::facts(certificate).ok().map(|facts| facts.not_after);
        Anchor { fingerprint: fingerprint(certificate), not_after, phase }
    }

    /// Whether `key` is one of its own.
    pub(super) fn owns(&self, key: &PublicKey) -> bool {
        use rcgen::PublicKeyData as _;
        key.is(&self.root.key.subject_public_key_info()) || key.is(&self.issuing_key.subject_public_key_info())
    }
}

impl Issuing {
    /// Reads it; the error names this place.
    pub(super) fn read(certificate: CertificateDer<'static>, path: std::path::PathBuf) -> Result<Self, PkiError> {
        let facts = x509::facts(&certificate).map_err(|detail| PkiError::Damaged { path, detail })?;
        Ok(Self { certificate, not_after: facts.not_after })
    }
}

/// How a root is known.
pub(super) fn fingerprint(root: &CertificateDer<'_>) -> String {
    CertThumbprint::of_der(root).to_string()
}
