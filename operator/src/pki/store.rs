//! The authority as it is kept: what the first start writes, and what every later start demands to find.
//!
//! Its shelf appears in one step, so it is there as a whole or not at all. A state that ever had it (`trust-bundle.pem` tells,
//! in a cluster the record of Secrets) and lacks any of it is refused: sidecars hold the old root, and a new one made
//! silently would cut them all off.

use std::path::{Path, PathBuf};

use fapi::{CertThumbprint, TrustDomain, UnixTime};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::ca::{self, Pair};
use super::{PkiError, x509};
use crate::files::{self, FileError, PRIVATE, PUBLIC};
use crate::shelf::Shelf;

const ROOT: &str = "root";
const ISSUING: &str = "issuing";
/// Never changes, and tells one authority from another.
pub(crate) const FINGERPRINT: &str = "fingerprint";

/// Where the parts are.
pub(super) struct Store {
    shelf: Shelf,
    /// What sidecars read before their first contact, if they read a file.
    bundle: Option<PathBuf>,
}

/// What is kept.
pub(super) struct Kept {
    pub(super) root: Pair,
    pub(super) issuing: Pair,
}

impl Store {
    pub(super) fn new(shelf: Shelf, bundle: Option<PathBuf>) -> Self {
        Self { shelf, bundle }
    }

    /// Loads the authority, or makes it at the first start of this state.
    pub(super) fn open(&self, trust_domain: &TrustDomain, now: UnixTime) -> Result<Kept, PkiError> {
        if !self.shelf.is_there()? {
            if self.bundle.as_ref().is_some_and(|bundle| bundle.exists()) {
                return Err(PkiError::Missing { path: self.shelf.place("") });
            }
            self.create(trust_domain, now)?;
        }
        self.load(trust_domain, now)
    }

    /// Writes what sidecars must trust before their first contact.
    pub(super) fn write_bundle(&self, pem: &str) -> Result<(), PkiError> {
        match &self.bundle {
            Some(bundle) => Ok(files::replace(bundle, pem.as_bytes(), PUBLIC)?),
            None => Ok(()),
        }
    }

    /// Replaces the issuing certificate; its key stays, so no moment exists at which the two differ.
    pub(super) fn write_issuing(&self, certificate: &CertificateDer<'_>) -> Result<(), PkiError> {
        Ok(self.shelf.replace(&certificate_name(ISSUING), x509::pem(certificate).as_bytes(), PUBLIC)?)
    }

    fn create(&self, trust_domain: &TrustDomain, now: UnixTime) -> Result<(), PkiError> {
        let root = ca::make_root(trust_domain, now)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = ca::certify_issuing(trust_domain, &root, &key, now)?;
        self.shelf.appear(|shelf| {
            write_pair(shelf, ROOT, &root)?;
            write_pair(shelf, ISSUING, &Pair { certificate, key })?;
            Ok(shelf.replace(FINGERPRINT, fingerprint(&root).as_bytes(), PUBLIC)?)
        })
    }

    fn load(&self, trust_domain: &TrustDomain, now: UnixTime) -> Result<Kept, PkiError> {
        let shelf = &self.shelf;
        let kept = Kept { root: read_pair(shelf, ROOT)?, issuing: read_pair(shelf, ISSUING)? };
        self.check_root(&kept.root, trust_domain, now)?;
        let path = shelf.place(&certificate_name(ISSUING));
        x509::check_signed_by(&kept.issuing.certificate, &kept.root.certificate)
            .map_err(|detail| PkiError::Damaged { path, detail })?;
        Ok(kept)
    }

    /// The root must be the one that was made here, for this trust domain.
    fn check_root(&self, root: &Pair, trust_domain: &TrustDomain, now: UnixTime) -> Result<(), PkiError> {
        let path = self.shelf.place(FINGERPRINT);
        let recorded = present(self.shelf.read_optional(FINGERPRINT)?, &path)?;
        if recorded != fingerprint(root).as_bytes() {
            let detail = "it is not the fingerprint of root.pem: one of the two was replaced".to_owned();
            return Err(PkiError::Damaged { path, detail });
        }
        let path = self.shelf.place(&certificate_name(ROOT));
        let facts = x509::facts(&root.certificate).map_err(|detail| PkiError::Damaged { path, detail })?;
        if facts.uri.as_deref() != Some(&ca::domain_uri(trust_domain)) {
            let uri = facts.uri.unwrap_or_default();
            let recorded = uri.strip_prefix("spiffe://").unwrap_or(&uri).to_owned();
            return Err(PkiError::OtherTrustDomain { recorded, asked: trust_domain.as_str().to_owned() });
        }
        if facts.not_after <= now {
            return Err(PkiError::Ended { which: ROOT, ended: facts.not_after });
        }
        Ok(())
    }
}

fn write_pair(shelf: &Shelf, name: &str, pair: &Pair) -> Result<(), PkiError> {
    shelf.replace(&key_name(name), pair.key.serialize_pem().as_bytes(), PRIVATE)?;
    let pem = x509::pem(&pair.certificate);
    Ok(shelf.replace(&certificate_name(name), pem.as_bytes(), PUBLIC)?)
}

fn read_pair(shelf: &Shelf, name: &str) -> Result<Pair, PkiError> {
    let path = shelf.place(&key_name(name));
    let bytes = shelf.read_private(&key_name(name)).map_err(|error| missing(error, &path))?;
    let key = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|pem| KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ECDSA_P256_SHA256).ok())
        .ok_or_else(|| damaged(&path, "it is no P-256 private key in PKCS#8 PEM"))?;

    let path = shelf.place(&certificate_name(name));
    let bytes = present(shelf.read_optional(&certificate_name(name))?, &path)?;
    let certificate =
        CertificateDer::from_pem_slice(&bytes).map_err(|_| damaged(&path, "it is no certificate in PEM"))?;
    let facts = x509::facts(&certificate).map_err(|detail| PkiError::Damaged { path: path.clone(), detail })?;
    if facts.public_key_info != key.subject_public_key_info() {
        return Err(damaged(&path, "it does not belong to the key beside it"));
    }
    Ok(Pair { certificate, key })
}

fn missing(error: FileError, path: &Path) -> PkiError {
    if error.is_missing() { PkiError::Missing { path: path.to_owned() } } else { error.into() }
}

fn present(bytes: Option<Vec<u8>>, path: &Path) -> Result<Vec<u8>, PkiError> {
    bytes.ok_or_else(|| PkiError::Missing { path: path.to_owned() })
}

fn damaged(path: &Path, detail: &str) -> PkiError {
    PkiError::Damaged { path: path.to_owned(), detail: detail.to_owned() }
}

fn fingerprint(root: &Pair) -> String {
    format!("{}\n", CertThumbprint::of_der(&root.certificate))
}

fn key_name(name: &str) -> String {
    format!("{name}.key")
}

fn certificate_name(name: &str) -> String {
    format!("{name}.pem")
}
