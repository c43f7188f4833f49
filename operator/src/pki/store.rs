//! The authority as it is kept: what the first start writes, and what every later start demands to find.
//!
//! Its shelf appears in one step, so it is there as a whole or not at all. A state that ever had it (`trust-bundle.pem` tells,
//! in a cluster the record of Secrets) and lacks any of it is refused: sidecars hold the old root, and a new one made
//! silently would cut them all off.
//!
//! One document, `rotation.json`, says which root signs and which others count. It is written before a new root is made and
//! after that is whole, so a root that it does not know was never used. Without the document there was never a rotation.

use std::path::{Path, PathBuf};

use fapi::{TrustDomain, UnixTime};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::ca::{self, Pair};
use super::line::{Issuing, Line, fingerprint};
use super::rotation::{Mark, Rotation, Step};
use super::{PkiError, x509};
use crate::files::{self, FileError, PRIVATE, PUBLIC, TRIES};
use crate::shelf::Shelf;
use crate::state::Folder;

const ROOT: &str = "root";
const ISSUING: &str = "issuing";
/// Of the first root. Never changes, and tells one authority from another.
pub(crate) const FINGERPRINT: &str = "fingerprint";
const ROTATION: &str = "rotation.json";
const REMEDY: &str =
    "restore the whole `pki` folder, in a cluster the Secret, from a backup that was made since the last rotation";

/// Where the parts are.
pub(super) struct Store {
    shelf: Shelf,
    /// What sidecars read before their first contact, if they read a file.
    bundle: Option<PathBuf>,
}

/// What is kept.
pub(super) struct Kept {
    /// The last rotation, or the one that runs.
    pub(super) rotation: Option<Rotation>,
    /// What signs.
    pub(super) signing: Line,
    pub(super) issuing: Issuing,
    /// What counts beside it while a rotation runs.
    pub(super) other: Option<Line>,
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
            self.shelf.appear(|shelf| {
                let root = make(shelf, trust_domain, 1, now)?;
                let fingerprint = format!("{}\n", fingerprint(&root.certificate));
                Ok::<_, PkiError>(shelf.replace(FINGERPRINT, fingerprint.as_bytes(), PUBLIC)?)
            })?;
        }
        self.load(trust_domain, now)
    }

    /// Writes what sidecars must trust before their first contact, unless it stands there.
    pub(super) fn write_bundle(&self, pem: &str) -> Result<(), PkiError> {
        match &self.bundle {
            Some(bundle) if files::read_optional(bundle)?.as_deref() == Some(pem.as_bytes()) => Ok(()),
            Some(bundle) => Ok(files::replace(bundle, pem.as_bytes(), PUBLIC)?),
            None => Ok(()),
        }
    }

    /// Replaces the issuing certificate of a line; its key stays, so no moment exists at which the two differ.
    ///
    /// # Errors
    /// Somebody else has replaced it since `known` was read.
    pub(super) fn write_issuing(
        &self,
        number: u32,
        known: &CertificateDer<'_>,
        certificate: &CertificateDer<'_>,
    ) -> Result<(), PkiError> {
        let name = certificate_name(ISSUING, number);
        if self.shelf.read_optional(&name)?.as_deref() != Some(x509::pem(known).as_bytes()) {
            return Err(FileError::Changed { object: self.shelf.place(&name).display().to_string() }.into());
        }
        Ok(self.shelf.replace(&name, x509::pem(certificate).as_bytes(), PUBLIC)?)
    }

    /// How far the last rotation is; none: there was none.
    pub(super) fn rotation(&self) -> Result<Option<Rotation>, PkiError> {
        if self.shelf.read_optional(ROTATION)?.is_some() {
            return Ok(Some(self.documents().read(ROTATION)?));
        }
        // The second root is made by the first rotation.
        if self.shelf.read_optional(&certificate_name(ROOT, 2))?.is_some() {
            return Err(PkiError::Missing { path: self.shelf.place(ROTATION) });
        }
        Ok(None)
    }

    /// Keeps how far a rotation is, if it still is where it `was`.
    pub(super) fn write_rotation(&self, was: Option<&Rotation>, is: &Rotation) -> Result<(), PkiError> {
        if self.rotation()?.as_ref() != was {
            return Err(FileError::Changed { object: self.shelf.place(ROTATION).display().to_string() }.into());
        }
        Ok(self.documents().write(ROTATION, is)?)
    }

    /// Looks whether the authority is still there whose first root has this fingerprint.
    ///
    /// # Errors
    /// It is not, or it cannot be read.
    pub(super) fn check(&self, first: &str) -> Result<(), PkiError> {
        match self.first() {
            Ok(found) if found == first => Ok(()),
            Err(error) if !error.is_lost() => Err(error),
            other => {
                // What was recorded of it knows best what to do.
                self.shelf.is_there()?;
                other.and_then(|_| Err(replaced(&self.shelf.place(FINGERPRINT))))
            }
        }
    }

    /// The fingerprint of the first root of all.
    pub(super) fn first(&self) -> Result<String, PkiError> {
        let path = self.shelf.place(FINGERPRINT);
        let recorded = present(self.shelf.read_optional(FINGERPRINT)?, &path)?;
        Ok(String::from_utf8_lossy(&recorded).trim_end().to_owned())
    }

    /// Makes the root that comes, in the place of whatever an attempt before has left; how it is known.
    pub(super) fn make(&self, trust_domain: &TrustDomain, number: u32, now: UnixTime) -> Result<Mark, PkiError> {
        make(&self.shelf, trust_domain, number, now)?;
        // As it stands there, whole.
        let line = self.line(&Mark { number, fingerprint: None }, &self.shelf.place(ROTATION))?.0;
        Ok(line.mark())
    }

    /// Removes a line that does not count any more, its keys first.
    pub(super) fn remove(&self, number: u32) -> Result<(), PkiError> {
        for name in [key_name(ROOT, number), key_name(ISSUING, number)]
            .into_iter()
            .chain([certificate_name(ISSUING, number), certificate_name(ROOT, number)])
        {
            if self.shelf.read_optional(&name)?.is_some() {
                self.shelf.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Loads what counts. Where another operator writes at that moment, it is read again.
    pub(super) fn load(&self, trust_domain: &TrustDomain, now: UnixTime) -> Result<Kept, PkiError> {
        let mut tries = 1..TRIES;
        loop {
            let rotation = self.rotation()?;
            match self.load_of(rotation.clone(), trust_domain, now) {
                Err(_) if self.rotation()? != rotation && tries.next().is_some() => {}
                outcome => return outcome,
            }
        }
    }

    fn load_of(&self, rotation: Option<Rotation>, trust_domain: &TrustDomain, now: UnixTime) -> Result<Kept, PkiError> {
        let first = Mark { number: 1, fingerprint: Some(self.first()?) };
        let (signing, other) = match &rotation {
            None => (&first, None),
            Some(rotation) if first.fingerprint.as_ref() != Some(&rotation.first) => {
                return Err(replaced(&self.shelf.place(FINGERPRINT)));
            }
            Some(Rotation { step, old, new, .. }) => match step {
                Step::Begun => (old, None),
                Step::Prepared => (old, Some(new)),
                Step::Active | Step::Tainted => (new, Some(old)),
                Step::Removed => (new, None),
            },
        };
        let says = self.shelf.place(if rotation.is_some() { ROTATION } else { FINGERPRINT });
        let (signing, issuing) = self.line(signing, &says)?;
        let other = other.map(|mark| self.line(mark, &says)).transpose()?.map(|(line, _)| line);
        for line in [&signing].into_iter().chain(&other) {
            self.check_domain(line, trust_domain)?;
        }
        let ended = self.facts(&signing)?.not_after;
        if ended <= now {
            return Err(PkiError::Ended { which: ROOT, ended });
        }
        Ok(Kept { rotation, signing, issuing, other })
    }

    /// A root and the authority below it: the ones that this mark means, which stands in `says`, and no others.
    fn line(&self, mark: &Mark, says: &Path) -> Result<(Line, Issuing), PkiError> {
        let (shelf, number) = (&self.shelf, mark.number);
        let (root, issuing) = (read_pair(shelf, ROOT, number)?, read_pair(shelf, ISSUING, number)?);
        if mark.fingerprint.as_ref().is_some_and(|recorded| *recorded != fingerprint(&root.certificate)) {
            return Err(replaced(says));
        }
        let path = shelf.place(&certificate_name(ISSUING, number));
        x509::check_signed_by(&issuing.certificate, &root.certificate)
            .map_err(|detail| PkiError::Damaged { path: path.clone(), detail })?;
        let key_id =
            x509::key_id(&issuing.certificate).ok_or_else(|| damaged(&path, "it does not say how its key is known"))?;
        let line = Line { number, root, issuing_key: issuing.key, key_id };
        Ok((line, Issuing::read(issuing.certificate, path)?))
    }

    fn check_domain(&self, line: &Line, trust_domain: &TrustDomain) -> Result<(), PkiError> {
        let facts = self.facts(line)?;
        if facts.uri.as_deref() == Some(&ca::domain_uri(trust_domain)) {
            return Ok(());
        }
        let uri = facts.uri.unwrap_or_default();
        let recorded = uri.strip_prefix("spiffe://").unwrap_or(&uri).to_owned();
        Err(PkiError::OtherTrustDomain { recorded, asked: trust_domain.as_str().to_owned() })
    }

    fn facts(&self, line: &Line) -> Result<x509::Facts, PkiError> {
        let path = self.shelf.place(&certificate_name(ROOT, line.number));
        x509::facts(&line.root.certificate).map_err(|detail| PkiError::Damaged { path, detail })
    }

    fn documents(&self) -> Folder {
        Folder::of(self.shelf.clone(), REMEDY)
    }
}

/// Makes a root and the authority below it.
fn make(shelf: &Shelf, trust_domain: &TrustDomain, number: u32, now: UnixTime) -> Result<Pair, PkiError> {
    let root = ca::make_root(trust_domain, number, now)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = ca::certify_issuing(trust_domain, &root, &key, now)?;
    write_pair(shelf, ROOT, number, &root)?;
    write_pair(shelf, ISSUING, number, &Pair { certificate, key })?;
    Ok(root)
}

fn write_pair(shelf: &Shelf, name: &str, number: u32, pair: &Pair) -> Result<(), PkiError> {
    let pem = x509::pem(&pair.certificate);
    for (name, text, mode) in
        [(key_name(name, number), pair.key.serialize_pem(), PRIVATE), (certificate_name(name, number), pem, PUBLIC)]
    {
        // Of a shelf that is shared, what is replaced is what was read.
        shelf.read_optional(&name)?;
        shelf.replace(&name, text.as_bytes(), mode)?;
    }
    Ok(())
}

fn read_pair(shelf: &Shelf, name: &str, number: u32) -> Result<Pair, PkiError> {
    let path = shelf.place(&key_name(name, number));
    let bytes = shelf.read_private(&key_name(name, number)).map_err(|error| missing(error, &path))?;
    let key = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|pem| KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ECDSA_P256_SHA256).ok())
        .ok_or_else(|| damaged(&path, "it is no P-256 private key in PKCS#8 PEM"))?;

    let path = shelf.place(&certificate_name(name, number));
    let bytes = present(shelf.read_optional(&certificate_name(name, number))?, &path)?;
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

fn replaced(path: &Path) -> PkiError {
    damaged(path, "it is not the fingerprint of the root beside it: one of the two was replaced")
}

fn damaged(path: &Path, detail: &str) -> PkiError {
    PkiError::Damaged { path: path.to_owned(), detail: detail.to_owned() }
}

fn key_name(name: &str, number: u32) -> String {
    format!("{}.key", numbered(name, number))
}

fn certificate_name(name: &str, number: u32) -> String {
    format!("{}.pem", numbered(name, number))
}

/// The first of a mesh has no number.
fn numbered(name: &str, number: u32) -> String {
    if number == 1 { name.to_owned() } else { format!("{name}-{number}") }
}
