//! The one shape of a leaf certificate.

use std::net::IpAddr;

use control::identity::{BACKDATED_SECONDS, POD_UID_OID};
use fapi::{SpiffeId, UnixTime};
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType,
};

use super::{PkiError, ca};

/// The longest UTF8String whose length fits one byte (X.690 section 8.1.3.4); a Kubernetes uid has 36.
const MAX_UID: usize = 127;
const UTF8_STRING: u8 = 0x0c;

/// A leaf that names `id` and nothing else. The subject is empty, which makes the name critical (RFC 5280 section 4.1.2.6).
pub(super) fn params(id: &SpiffeId) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Says which pod the leaf belongs to: a private, non-critical extension.
pub(super) fn add_pod_uid(params: &mut CertificateParams, uid: &str) -> Result<(), PkiError> {
    let length = u8::try_from(uid.len()).map_err(|_| PkiError::Subject("so long a pod uid"))?;
    if uid.is_empty() || uid.len() > MAX_UID {
        return Err(PkiError::Subject("an empty pod uid, or one above 127 bytes"));
    }
    let mut content = vec![UTF8_STRING, length];
    content.extend_from_slice(uid.as_bytes());
    params.custom_extensions.push(CustomExtension::from_oid_content(POD_UID_OID, content));
    Ok(())
}

/// Adds names by which clients outside the mesh can check the operator: IP addresses and DNS names.
pub(super) fn add_hosts(params: &mut CertificateParams, hosts: &[String]) -> Result<(), PkiError> {
    for host in hosts {
        let name = match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(host.as_str().try_into()?),
        };
        if !params.subject_alt_names.contains(&name) {
            params.subject_alt_names.push(name);
        }
    }
    Ok(())
}

/// Sets the validity and a random serial; returns the serial in hexadecimal.
pub(crate) fn set_validity(params: &mut CertificateParams, now: UnixTime, not_after: UnixTime) -> String {
    ca::set_validity(params, now.minus(BACKDATED_SECONDS), not_after);
    let serial = ca::serial();
    let text = serial.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    params.serial_number = Some(serial);
    text
}
