//! What is taken from a certificate signing request (RFC 2986): the public key, and nothing else.
//!
//! Names, usages and the CA flag that a request asks for are not even looked at; the operator sets them.

use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SubjectPublicKeyInfo};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

/// A request of ours has about 300 bytes.
const MAX_REQUEST: usize = 4096;
/// An uncompressed point of P-256: one byte of format and two coordinates (SEC 1, section 2.3.3).
const POINT: usize = 65;

/// A P-256 public key whose owner has shown to hold the private one.
#[derive(Clone, Debug)]
pub(crate) struct PublicKey(SubjectPublicKeyInfo);

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CsrError {
    /// Larger than any honest request.
    #[error("the request has more than {MAX_REQUEST} bytes")]
    TooLarge,
    /// Not a PKCS#10 request in DER.
    #[error("not a PKCS#10 request in DER")]
    Malformed,
    /// Another kind of key than the mesh uses.
    #[error("the key is not P-256 in uncompressed form")]
    KeyType,
    /// The requester does not hold the private key.
    #[error("the request is not signed by the key that it names")]
    Signature,
}

impl PublicKey {
    /// Reads the key of a request whose signature it verifies.
    pub(crate) fn from_csr(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > MAX_REQUEST {
            return Err(CsrError::TooLarge);
        }
        let ([], request) = X509CertificationRequest::from_der(der).map_err(|_| CsrError::Malformed)? else {
            return Err(CsrError::Malformed);
        };
        let key = Self::from_info(request.certification_request_info.subject_pki.raw)?;
        request.verify_signature().map_err(|_| CsrError::Signature)?;
        Ok(key)
    }

    /// Reads the DER of a SubjectPublicKeyInfo.
    pub(super) fn from_info(der: &[u8]) -> Result<Self, CsrError> {
        let info = SubjectPublicKeyInfo::from_der(der).map_err(|_| CsrError::KeyType)?;
        let point = info.der_bytes();
        let uncompressed = point.len() == POINT && point.first() == Some(&4);
        if info.algorithm() == &PKCS_ECDSA_P256_SHA256 && uncompressed {
            Ok(Self(info))
        } else {
            Err(CsrError::KeyType)
        }
    }

    /// Whether a SubjectPublicKeyInfo in DER names this key.
    pub(crate) fn is(&self, public_key_info: &[u8]) -> bool {
        self.0.subject_public_key_info() == public_key_info
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.0.algorithm()
    }
}
