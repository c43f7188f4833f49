//! Reading certificates, as far as the authority needs it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fapi::UnixTime;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

/// What is read from a certificate of ours.
pub(super) struct Facts {
    /// The DER of its SubjectPublicKeyInfo.
    pub(super) public_key_info: Vec<u8>,
    /// Its first URI SAN.
    pub(super) uri: Option<String>,
    pub(super) not_after: UnixTime,
}

/// Reads a certificate; the error says what is wrong with it.
pub(super) fn facts(certificate: &CertificateDer<'_>) -> Result<Facts, String> {
    let parsed = parse(certificate)?;
    let names = parsed.subject_alternative_name().ok().flatten();
    let uri = names.and_then(|names| {
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        })
    });
    let time = |seconds: i64| UnixTime::from_secs(u64::try_from(seconds).unwrap_or(0));
    Ok(Facts {
        public_key_info: parsed.public_key().raw.to_vec(),
        uri,
        not_after: time(parsed.validity().not_after.timestamp()),
    })
}

/// How the key of an authority is known (RFC 5280 section 4.2.1.2).
pub(super) fn key_id(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    parse(certificate).ok()?.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })
}

/// The key that signed a certificate, as the certificate names it (RFC 5280 section 4.2.1.1). Believe it of a certificate that
/// was verified, and no other.
pub(crate) fn authority_of(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    parse(certificate).ok()?.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => Some(id.key_identifier.as_ref()?.0.to_vec()),
        _ => None,
    })
}

/// Whether `certificate` was signed by the key of `issuer`.
pub(super) fn check_signed_by(certificate: &CertificateDer<'_>, issuer: &CertificateDer<'_>) -> Result<(), String> {
    let issuer = parse(issuer)?;
    parse(certificate)?
        .verify_signature(Some(issuer.public_key()))
        .map_err(|_| "it was not signed by the root beside it".to_owned())
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err("bytes follow the certificate".to_owned()),
        Err(error) => Err(format!("it is no X.509 certificate ({error})")),
    }
}

/// The PEM text of a certificate (RFC 7468).
pub(crate) fn pem(certificate: &CertificateDer<'_>) -> String {
    let body = STANDARD.encode(certificate);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in body.as_bytes().chunks(64) {
        text.extend(line.iter().map(|&byte| char::from(byte)));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}
