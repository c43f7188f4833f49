//! The authority that vouches for the webhook to API servers, and for nothing else.
//!
//! It is no part of the mesh's own: whoever could sign for the webhook could put any container into any opted-in pod. Its key
//! stays, and its certificate is made anew from the same key before it ends, so old and new are trusted alike. One that is lost
//! is simply made anew: nobody trusts it but the API server, which is told.

use std::sync::Arc;

use fapi::UnixTime;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::files::{FileError, PRIVATE, PUBLIC, TRIES};
use crate::pki::{self, PkiError};
use crate::shelf::Shelf;

/// A year, of which a third is left when it is made anew.
const LIFE: u64 = 365 * 24 * 3600;

/// An authority.
pub(crate) struct Authority {
    key: KeyPair,
    certificate: CertificateDer<'static>,
    not_after: UnixTime,
}

/// An authority in force.
pub(crate) type Shared = Arc<Authority>;

/// What is kept of one, wherever: PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The private key, PKCS#8.
    pub(crate) key: String,
    /// The certificate.
    pub(crate) certificate: String,
}

const KEY: &str = "authority.key";
const CERTIFICATE: &str = "authority.pem";

impl Kept {
    fn read(shelf: &Shelf) -> Result<Self, FileError> {
        let text = |name| -> Result<String, FileError> {
            let bytes = shelf.read_optional(name)?;
            Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default())
        };
        Ok(Self { key: text(KEY)?, certificate: text(CERTIFICATE)? })
    }

    /// Writes what is another than `before`. The key comes first: a certificate of another key is made anew.
    fn write(&self, shelf: &Shelf, before: &Self) -> Result<(), FileError> {
        if self.key != before.key {
            shelf.replace(KEY, self.key.as_bytes(), PRIVATE)?;
        }
        if self.certificate != before.certificate {
            shelf.replace(CERTIFICATE, self.certificate.as_bytes(), PUBLIC)?;
        }
        Ok(())
    }
}

impl Authority {
    /// Makes one.
    pub(crate) fn make(now: UnixTime) -> Result<Self, PkiError> {
        Self::certify(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?, now)
    }

    /// Reads what was kept; `None` if it is damaged or its certificate is due: then the key, if it can be read, stays.
    pub(crate) fn restore(kept: &Kept, now: UnixTime) -> Result<Self, PkiError> {
        let Ok(key) = KeyPair::from_pkcs8_pem_and_sign_algo(&kept.key, &PKCS_ECDSA_P256_SHA256) else {
            return Self::make(now);
        };
        let certificate = CertificateDer::from_pem_slice(kept.certificate.as_bytes()).ok();
        let known = certificate.and_then(|certificate| Some((pki::validity_end(&certificate, &key)?, certificate)));
        match known {
            Some((not_after, certificate)) if not_after > now.plus(LIFE / 3) => {
                Ok(Self { key, certificate, not_after })
            }
            _ => Self::certify(key, now),
        }
    }

    /// The one that a shelf holds, made if there is none. Replicas that begin together have the one of whoever was first.
    pub(crate) fn open(shelf: &Shelf, now: UnixTime) -> Result<Self, PkiError> {
        if !shelf.is_there()? {
            let made = Self::make(now)?.kept();
            shelf.appear(|draft| made.write(draft, &Kept::default()))?;
        }
        let mut tries = 1..=TRIES;
        loop {
            let kept = Kept::read(shelf)?;
            let authority = Self::restore(&kept, now)?;
            match authority.kept().write(shelf, &kept) {
                Ok(()) => return Ok(authority),
                Err(error) if error.is_changed() && tries.next().is_some() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What to keep of it.
    pub(crate) fn kept(&self) -> Kept {
        Kept { key: self.key.serialize_pem(), certificate: pki::pem(&self.certificate) }
    }

    /// Whom API servers have to trust, PEM.
    pub(crate) fn bundle(&self) -> String {
        pki::pem(&self.certificate)
    }

    /// When its certificate ends.
    pub(super) fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// Signs the certificate of a replica.
    pub(super) fn sign(&self, params: CertificateParams, key: &KeyPair) -> Result<CertificateDer<'static>, PkiError> {
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key)?;
        Ok(params.signed_by(key, &issuer)?.into())
    }

    fn certify(key: KeyPair, now: UnixTime) -> Result<Self, PkiError> {
        let mut params = CertificateParams::default();
        let not_after = now.plus(LIFE);
        pki::set_validity(&mut params, now, not_after);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "fapi-mesh webhook");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.into();
        Ok(Self { key, certificate, not_after })
    }
}
