#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};

use super::*;

const ID: &str = "spiffe://bank.example/ns/bank/sa/shop";

fn params(uris: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn read(params: CertificateParams) -> Result<Peer, LeafError> {
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    peer_from_leaf(certificate.der())
}

#[test]
fn the_facts_of_a_leaf() {
    let mut params = params(&[ID]);
    let mut uid = vec![0x0c, 5];
    uid.extend(b"uid-1");
    params.custom_extensions = vec![CustomExtension::from_oid_content(POD_UID_OID, uid)];
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2030, 1, 1);
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let peer = peer_from_leaf(certificate.der()).unwrap();
    assert_eq!(peer.spiffe_id.as_str(), ID);
    assert_eq!(peer.pod_uid.as_deref(), Some("uid-1"));
    assert_eq!(peer.issued, UnixTime::from_secs(1_577_836_800 + BACKDATED_SECONDS));
    assert_eq!(peer.not_after, UnixTime::from_secs(1_893_456_000));
    assert_eq!(peer.thumbprint, CertThumbprint::of_der(certificate.der()));
    assert_eq!(not_after(certificate.der()), Some(peer.not_after));
    assert_eq!(not_after(&[certificate.der().as_ref(), b"x"].concat()), None);
}

#[test]
fn exactly_one_uri_name() {
    assert_eq!(read(params(&[])).unwrap_err(), LeafError::UriNames(0));
    assert_eq!(read(params(&[ID, "spiffe://bank.example/ns/bank/sa/ledger"])).unwrap_err(), LeafError::UriNames(2));
    assert_eq!(read(params(&["spiffe://bank.example/shop"])).unwrap_err(), LeafError::SpiffeId);
}

#[test]
fn only_leaves_for_tls() {
    let mut ca = params(&[ID]);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert!(matches!(read(ca), Err(LeafError::Usage(_))));
    let mut signer = params(&[ID]);
    signer.key_usages.push(KeyUsagePurpose::KeyCertSign);
    assert!(matches!(read(signer), Err(LeafError::Usage(_))));
    let mut client_only = params(&[ID]);
    client_only.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    assert!(matches!(read(client_only), Err(LeafError::Usage(_))));
    let mut no_usage = params(&[ID]);
    no_usage.key_usages.clear();
    assert!(matches!(read(no_usage), Err(LeafError::Usage(_))));
}

#[test]
fn garbage_is_malformed() {
    assert_eq!(peer_from_leaf(b"").unwrap_err(), LeafError::Malformed);
    let certificate = params(&[ID]).self_signed(&KeyPair::generate().unwrap()).unwrap();
    let mut der = certificate.der().to_vec();
    der.push(0);
    assert_eq!(peer_from_leaf(&der).unwrap_err(), LeafError::Malformed);
}

#[test]
fn a_strange_pod_uid_is_refused() {
    for content in [vec![0x0c, 0], vec![0x02, 1, 7], vec![0x0c, 9, b'x'], vec![0x0c, 1, b'x', 0]] {
        let mut params = params(&[ID]);
        params.custom_extensions = vec![CustomExtension::from_oid_content(POD_UID_OID, content)];
        assert_eq!(read(params).unwrap_err(), LeafError::PodUid);
    }
}

#[test]
fn a_trust_domain_is_compared_as_a_whole() {
    let certificate = params(&[ID]).self_signed(&KeyPair::generate().unwrap()).unwrap();
    assert!(member_from_leaf(certificate.der(), &TrustDomain::parse("bank.example").unwrap()).is_ok());
    for other in ["bank.exampl", "bank.example.evil", "example"] {
        let error = member_from_leaf(certificate.der(), &TrustDomain::parse(other).unwrap()).unwrap_err();
        assert_eq!(error.rejection(), Rejection::TrustDomainNotAllowed);
    }
}

/// A certificate that openssl made, and why it is no leaf of a workload, if it is none.
#[derive(serde::Deserialize)]
struct Minted {
    name: String,
    der: String,
    fault: String,
}

#[test]
fn certificates_of_openssl() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/openssl.json");
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let all: Vec<Minted> = serde_json::from_value(file["certificates"].clone()).unwrap();
    let mut good = 0;
    for Minted { name, der, fault } in &all {
        let der: Vec<u8> =
            (0..der.len()).step_by(2).map(|at| u8::from_str_radix(&der[at..at + 2], 16).unwrap()).collect();
        let found = match peer_from_leaf(&der) {
            Ok(peer) => {
                assert_eq!(peer.spiffe_id.as_str(), ID, "{name}");
                good += 1;
                ""
            }
            Err(LeafError::Malformed) => "Malformed",
            Err(LeafError::UriNames(_)) => "UriNames",
            Err(LeafError::SpiffeId) => "SpiffeId",
            Err(LeafError::Usage(_)) => "Usage",
            Err(other) => panic!("{name}: {other}"),
        };
        assert_eq!(found, fault, "{name}");
    }
    assert!(good > 5 && all.len() > 3 * good, "{good} of {}", all.len());
}
