//! From a leaf certificate to the facts about its holder, by the rules of X509-SVID.

use std::sync::Arc;

use fapi::{CertThumbprint, Peer, Rejection, SpiffeId, TrustDomain, UnixTime};
use x509_parser::prelude::*;

/// The private, non-critical extension that names the pod: a UTF8String with its uid.
pub const POD_UID_OID: &[u64] = &[2, 25, 6_171_293_846_512_837_465];

/// How long before it is issued a leaf begins, so that machines whose clocks lag a little take it at once.
pub const BACKDATED_SECONDS: u64 = 60;

/// The longest pod uid that is read; a Kubernetes uid has 36 characters.
const POD_UID_MAX: usize = 128;

/// Why a certificate does not name a workload of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// Not a certificate at all.
    #[error("not an X.509 certificate; present the DER that the operator issued")]
    Malformed,
    /// It has no URI name, or more than one.
    #[error("{0} URI names instead of exactly one (X509-SVID section 2); enrol with the operator for a certificate")]
    UriNames(usize),
    /// The URI name is not the identity of a workload.
    #[error("its URI name is not `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`")]
    SpiffeId,
    /// A CA certificate, or a leaf with the wrong key usage.
    #[error("not a leaf for TLS: {0} (X509-SVID section 4)")]
    Usage(&'static str),
    /// Its life begins or ends before 1970.
    #[error("its notBefore or notAfter is out of range")]
    Validity,
    /// The pod uid is not a string of bounded length.
    #[error("its pod uid extension cannot be read")]
    PodUid,
    /// Another trust domain; compared as a whole.
    #[error("trust domain `{found}` is not `{expected}`")]
    TrustDomain {
        /// The one of the certificate.
        found: String,
        /// The one of the mesh.
        expected: String,
    },
    /// A server that is not the one that was called.
    #[error("the peer is `{found}`, which is not the identity expected here")]
    NotExpected {
        /// The identity of the certificate.
        found: String,
    },
}

impl LeafError {
    /// The reason id of a handshake that this ended.
    pub fn rejection(&self) -> Rejection {
        match self {
            Self::TrustDomain { .. } => Rejection::TrustDomainNotAllowed,
            Self::NotExpected { .. } => Rejection::PeerIdentityMismatch,
            Self::Malformed | Self::UriNames(_) | Self::SpiffeId | Self::Usage(_) | Self::Validity | Self::PodUid => {
                Rejection::PeerCertificateUntrusted
            }
        }
    }
}

/// When a certificate ends, whatever it is for; `None` if it is none. It verifies nothing.
pub fn not_after(der: &[u8]) -> Option<UnixTime> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    let end = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    rest.is_empty().then(|| UnixTime::from_secs(end))
}

/// Reads the facts out of a leaf whose chain has been verified; it verifies no signature itself.
///
/// # Errors
/// [`LeafError`] if the certificate is not an X509-SVID of a workload.
pub fn peer_from_leaf(der: &[u8]) -> Result<Peer, LeafError> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| LeafError::Malformed)?;
    if !rest.is_empty() {
        return Err(LeafError::Malformed);
    }
    check_usage(&certificate)?;
    let time = |time: ASN1Time| {
        let secs = u64::try_from(time.timestamp()).map_err(|_| LeafError::Validity)?;
        Ok::<_, LeafError>(UnixTime::from_secs(secs))
    };
    let validity = certificate.validity();
    Ok(Peer {
        spiffe_id: spiffe_id(&certificate)?,
        thumbprint: CertThumbprint::of_der(der),
        pod_uid: pod_uid(&certificate)?,
        issued: time(validity.not_before)?.plus(BACKDATED_SECONDS),
        not_after: time(validity.not_after)?,
    })
}

/// As [`peer_from_leaf`], for a leaf that must belong to `trust_domain`.
///
/// # Errors
/// [`LeafError`], also for a leaf of another trust domain.
pub fn member_from_leaf(der: &[u8], trust_domain: &TrustDomain) -> Result<Peer, LeafError> {
    let peer = peer_from_leaf(der)?;
    if peer.spiffe_id.trust_domain() != trust_domain.as_str() {
        return Err(LeafError::TrustDomain {
            found: peer.spiffe_id.trust_domain().to_owned(),
            expected: trust_domain.as_str().to_owned(),
        });
    }
    Ok(peer)
}

fn check_usage(certificate: &X509Certificate<'_>) -> Result<(), LeafError> {
    let malformed = |_| LeafError::Malformed;
    if certificate.basic_constraints().map_err(malformed)?.is_some_and(|basic| basic.value.ca) {
        return Err(LeafError::Usage("it is a CA certificate"));
    }
    let usage = certificate.key_usage().map_err(malformed)?.ok_or(LeafError::Usage("it has no key usage"))?.value;
    if !usage.digital_signature() || usage.key_cert_sign() || usage.crl_sign() {
        return Err(LeafError::Usage("its key usage is not digitalSignature alone"));
    }
    let extended = certificate.extended_key_usage().map_err(malformed)?;
    if !extended.is_some_and(|extended| extended.value.server_auth && extended.value.client_auth) {
        return Err(LeafError::Usage("its extended key usage lacks serverAuth or clientAuth"));
    }
    Ok(())
}

fn spiffe_id(certificate: &X509Certificate<'_>) -> Result<SpiffeId, LeafError> {
    let names = certificate.subject_alternative_name().map_err(|_| LeafError::Malformed)?;
    let mut uris = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let (first, more) = (uris.next(), uris.count());
    match first {
        Some(uri) if more == 0 => SpiffeId::parse(uri).map_err(|_| LeafError::SpiffeId),
        Some(_) => Err(LeafError::UriNames(more + 1)),
        None => Err(LeafError::UriNames(0)),
    }
}

fn pod_uid(certificate: &X509Certificate<'_>) -> Result<Option<Arc<str>>, LeafError> {
    let oid = der_parser::oid::Oid::from(POD_UID_OID).map_err(|_| LeafError::PodUid)?;
    let Some(extension) = certificate.get_extension_unique(&oid).map_err(|_| LeafError::PodUid)? else {
        return Ok(None);
    };
    let (rest, uid) = asn1_rs::Utf8String::from_der(extension.value).map_err(|_| LeafError::PodUid)?;
    let uid = uid.as_ref();
    if !rest.is_empty() || uid.is_empty() || uid.len() > POD_UID_MAX {
        return Err(LeafError::PodUid);
    }
    Ok(Some(Arc::from(uid)))
}

#[cfg(test)]
mod tests;
