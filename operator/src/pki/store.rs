//! The authority on disk: what the first start writes, and what every later start demands to find.
//!
//! `pki/` appears in one step (built beside, then renamed), so it is there as a whole or not at all. A state
//! that ever had it (`trust-bundle.pem` tells) and lacks any of it is refused: sidecars hold the old root,
//! and a new one made silently would cut them all off.

use std::path::{Path, PathBuf};

use fapi::{CertThumbprint, TrustDomain, UnixTime};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::ca::{self, Pair};
use super::{PkiError, x509};
use crate::files::{self, FileError, PRIVATE, PUBLIC};

const ROOT: &str = "root";
const ISSUING: &str = "issuing";

/// Where the parts are.
pub(super) struct Store {
    state: PathBuf,
}

/// What is kept.
pub(super) struct Kept {
    pub(super) root: Pair,
    pub(super) issuing: Pair,
}

impl Store {
    pub(super) fn new(state: &Path) -> Self {
        Self { state: state.to_owned() }
    }

    /// Loads the authority, or makes it at the first start of this state.
    pub(super) fn open(&self, trust_domain: &TrustDomain, now: UnixTime) -> Result<Kept, PkiError> {
        let folder = self.folder();
        if folder.exists() {
            return self.load(trust_domain, now);
        }
        if self.bundle().exists() {
            return Err(PkiError::Missing { path: folder });
        }
        self.create(trust_domain, now)
    }

    /// Writes what sidecars must trust before their first contact.
    pub(super) fn write_bundle(&self, pem: &str) -> Result<(), PkiError> {
        Ok(files::replace(&self.bundle(), pem.as_bytes(), PUBLIC)?)
    }

    /// Replaces the issuing certificate; its key stays, so no moment exists at which the two differ.
    pub(super) fn write_issuing(&self, certificate: &CertificateDer<'_>) -> Result<(), PkiError> {
        let path = certificate_path(&self.folder(), ISSUING);
        Ok(files::replace(&path, x509::pem(certificate).as_bytes(), PUBLIC)?)
    }

    fn folder(&self) -> PathBuf {
        self.state.join("pki")
    }

    fn bundle(&self) -> PathBuf {
        self.state.join("trust-bundle.pem")
    }

    fn create(&self, trust_domain: &TrustDomain, now: UnixTime) -> Result<Kept, PkiError> {
        let root = ca::make_root(trust_domain, now)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = ca::certify_issuing(trust_domain, &root, &key, now)?;
        let kept = Kept { root, issuing: Pair { certificate, key } };

        files::appear(&self.folder(), |folder| {
            write_pair(folder, ROOT, &kept.root)?;
            write_pair(folder, ISSUING, &kept.issuing)?;
            let recorded = fingerprint(&kept.root);
            files::replace(&fingerprint_path(folder), recorded.as_bytes(), PUBLIC).map_err(PkiError::from)
        })?;
        Ok(kept)
    }

    fn load(&self, trust_domain: &TrustDomain, now: UnixTime) -> Result<Kept, PkiError> {
        let folder = self.folder();
        files::refuse_open(&folder)?;
        let kept = Kept { root: read_pair(&folder, ROOT)?, issuing: read_pair(&folder, ISSUING)? };
        self.check_root(&kept.root, trust_domain, now)?;
        let path = certificate_path(&folder, ISSUING);
        x509::check_signed_by(&kept.issuing.certificate, &kept.root.certificate)
            .map_err(|detail| PkiError::Damaged { path, detail })?;
        Ok(kept)
    }

    /// The root must be the one that was made here, for this trust domain.
    fn check_root(&self, root: &Pair, trust_domain: &TrustDomain, now: UnixTime) -> Result<(), PkiError> {
        let path = fingerprint_path(&self.folder());
        let recorded = present(files::read_optional(&path)?, &path)?;
        if recorded != fingerprint(root).as_bytes() {
            let detail = "it is not the fingerprint of root.pem: one of the two was replaced".to_owned();
            return Err(PkiError::Damaged { path, detail });
        }
        let path = certificate_path(&self.folder(), ROOT);
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

fn write_pair(folder: &Path, name: &str, pair: &Pair) -> Result<(), PkiError> {
    files::replace(&key_path(folder, name), pair.key.serialize_pem().as_bytes(), PRIVATE)?;
    let pem = x509::pem(&pair.certificate);
    Ok(files::replace(&certificate_path(folder, name), pem.as_bytes(), PUBLIC)?)
}

fn read_pair(folder: &Path, name: &str) -> Result<Pair, PkiError> {
    let path = key_path(folder, name);
    let bytes = files::read_private(&path).map_err(|error| missing(error, &path))?;
    let key = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|pem| KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ECDSA_P256_SHA256).ok())
        .ok_or_else(|| damaged(&path, "it is no P-256 private key in PKCS#8 PEM"))?;

    let path = certificate_path(folder, name);
    let bytes = present(files::read_optional(&path)?, &path)?;
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

fn fingerprint_path(folder: &Path) -> PathBuf {
    folder.join("fingerprint")
}

fn key_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.key"))
}

fn certificate_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.pem"))
}
