#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};

use super::*;

const SHOP: &str = "spiffe://bank.example/ns/bank/sa/shop";

fn identity() -> Identity {
    let key = Key::generate().unwrap();
    let pair = KeyPair::try_from(key.pkcs8()).unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(SHOP.try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.self_signed(&pair).unwrap();
    let bundle = certificate.pem();
    Identity::new(vec![certificate.der().clone()], key, bundle, "here").unwrap()
}

#[test]
fn a_saved_identity_is_loaded_again() {
    let folder = std::env::temp_dir().join(format!("fapictl-identity-{}", std::process::id()));
    let before = identity();
    before.save(&folder).unwrap();
    let after = Identity::load(&folder).unwrap();
    assert_eq!(after.spiffe_id.as_str(), SHOP);
    assert_eq!(after.chain, before.chain);
    assert_eq!(after.key.thumbprint(), before.key.thumbprint());
    assert!(after.towards_operator("fapi-mesh", b"http/1.1").is_ok());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn an_empty_folder_says_what_to_do() {
    let error = Identity::load(Path::new("/nonexistent")).err().unwrap().to_string();
    assert!(error.contains("fapictl identity") && error.contains("/nonexistent"), "{error}");
}

#[test]
fn pem_has_lines_of_64() {
    let pem = pem("X", &[0; 60]);
    let lengths: Vec<usize> = pem.lines().map(str::len).collect();
    assert_eq!(lengths, [17, 64, 16, 15]);
}
