//! The certificates of the two authorities: a root that only signs the issuing one, and the issuing one.
//!
//! No URI name constraints: rustls-webpki refuses every chain that carries one. The mesh is bounded by
//! pathLen and by the verifiers, which compare the whole trust domain.

use std::time::Duration;

use fapi::{TrustDomain, UnixTime};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;

use crate::crypto;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The anchor that sidecars hold: replacing it is a rotation of its own, so it lives long.
const ROOT_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Renewed by the root at two thirds, without anybody noticing: sidecars receive it with their leaf. A year
/// bounds what a copied issuing certificate is worth and leaves four months to notice a failing renewal.
pub(super) const ISSUING_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// A CA certificate and its key.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: KeyPair,
}

/// Makes a new root. While two are trusted, their names tell them apart.
pub(super) fn make_root(trust_domain: &TrustDomain, number: u32, now: UnixTime) -> Result<Pair, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let name = if number == 1 { "fapi-mesh root".to_owned() } else { format!("fapi-mesh root {number}") };
    let mut params = authority(trust_domain, &name, now, ROOT_LIFE)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    let certificate = params.self_signed(&key)?.into();
    Ok(Pair { certificate, key })
}

/// Has the root certify `key` as the issuing authority.
pub(super) fn certify_issuing(
    trust_domain: &TrustDomain,
    root: &Pair,
    key: &KeyPair,
    now: UnixTime,
) -> Result<CertificateDer<'static>, rcgen::Error> {
    let mut params = authority(trust_domain, "fapi-mesh issuing", now, ISSUING_LIFE)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.use_authority_key_identifier_extension = true;
    let issuer = Issuer::from_ca_cert_der(&root.certificate, &root.key)?;
    Ok(params.signed_by(key, &issuer)?.into())
}

fn authority(
    trust_domain: &TrustDomain,
    name: &str,
    now: UnixTime,
    life: Duration,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    // A day back: machines whose clocks lag still accept leaves of a mesh made a moment ago.
    set_validity(&mut params, now.minus(DAY.as_secs()), now.plus(life.as_secs()));
    params.serial_number = Some(serial());
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // The trust domain that this authority speaks for (X509-SVID section 3.2: no path).
    params.subject_alt_names = vec![SanType::URI(domain_uri(trust_domain).as_str().try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// How a CA certificate names its trust domain.
pub(super) fn domain_uri(trust_domain: &TrustDomain) -> String {
    format!("spiffe://{}", trust_domain.as_str())
}

/// 128 random bits: no two certificates of a mesh share a serial, and none can be foretold.
pub(super) fn serial() -> SerialNumber {
    SerialNumber::from_slice(&crypto::random::<16>())
}

/// Sets the validity, from `start` to `end`.
pub(super) fn set_validity(params: &mut CertificateParams, start: UnixTime, end: UnixTime) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(start.as_secs());
    params.not_after = epoch + Duration::from_secs(end.as_secs());
}
