mod rotation;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use control::identity::peer_from_leaf;
use control::tls::TrustBundle;

use super::*;
use crate::clock::Clock;
use crate::files::FileError;
use crate::testing::{NOW, P256, TempDir, authority, domain, greedy_csr, id, openssl};

const HOUR: Duration = Duration::from_secs(3600);
const UID: &str = "1b2f8a5e-6f0c-4c55-9d0e-0a4f7f1f2c11";

fn open(dir: &TempDir) -> Result<Authority, PkiError> {
    authority(dir.path(), &domain(), NOW)
}

fn issuing(authority: &Authority) -> Issuing {
    authority.in_force().issuing.clone()
}

fn refused(dir: &TempDir) -> PkiError {
    open(dir).map(|_| ()).unwrap_err()
}

fn key(dir: &TempDir) -> PublicKey {
    PublicKey::from_csr(&greedy_csr(dir.path(), P256)).unwrap()
}

fn leaf_of(dir: &TempDir, authority: &Authority) -> Issued {
    authority.issue_pod(&id("shop"), UID, &key(dir), HOUR, NOW).unwrap()
}

/// What openssl reads in a certificate.
fn text(dir: &Path, certificate: &CertificateDer<'_>) -> String {
    fs::write(dir.join("cert.pem"), pem(certificate)).unwrap();
    String::from_utf8(openssl(dir, &["x509", "-in", "cert.pem", "-noout", "-text"]).unwrap()).unwrap()
}

#[test]
fn a_later_start_finds_the_same_authority() {
    let dir = TempDir::new();
    let first = open(&dir).unwrap();
    let second = open(&dir).unwrap();
    assert_eq!(first.bundle_pem(), second.bundle_pem());
    assert_eq!(issuing(&first).certificate, issuing(&second).certificate);
    assert_eq!(fs::read_to_string(dir.path().join("trust-bundle.pem")).unwrap(), *second.bundle_pem());
}

#[test]
fn keys_are_for_the_operator_alone() {
    let dir = TempDir::new();
    open(&dir).unwrap();
    let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("pki"), 0o700);
    assert_eq!(mode("pki/root.key"), 0o600);
    assert_eq!(mode("pki/issuing.key"), 0o600);
    let names = fs::read_dir(dir.path().join("pki")).unwrap().count();
    assert_eq!(names, 5, "root and issuing, .pem and .key, and the fingerprint");
}

#[test]
fn nothing_missing_is_ever_remade() {
    for name in ["pki/root.pem", "pki/root.key", "pki/issuing.pem", "pki/issuing.key", "pki/fingerprint", "pki"] {
        let dir = TempDir::new();
        open(&dir).unwrap();
        let path = dir.path().join(name);
        let gone = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        gone.unwrap();
        let error = refused(&dir);
        assert!(matches!(&error, PkiError::Missing { path: named } if *named == path), "{error}");
        assert!(error.to_string().contains("backup"), "{error}");
        assert!(!path.exists());
    }
}

#[test]
fn a_start_that_was_cut_short_begins_anew() {
    let dir = TempDir::new();
    fs::create_dir(dir.path().join(".pki.new")).unwrap();
    fs::write(dir.path().join(".pki.new/root.key"), "half a k").unwrap();
    open(&dir).unwrap();
    assert!(!dir.path().join(".pki.new").exists());
}

#[test]
fn damaged_files_are_named() {
    for name in ["root.pem", "root.key", "issuing.pem", "issuing.key", "fingerprint"] {
        let dir = TempDir::new();
        open(&dir).unwrap();
        let path = dir.path().join("pki").join(name);
        fs::write(&path, "-----BEGIN NONSENSE-----").unwrap();
        let error = refused(&dir);
        assert!(matches!(&error, PkiError::Damaged { path: named, .. } if *named == path), "{name}: {error}");
    }
}

#[test]
fn parts_of_another_authority_are_refused() {
    let other = TempDir::new();
    open(&other).unwrap();
    for (names, blamed) in [
        (&["root.key"][..], "root.pem"),
        (&["root.pem", "root.key"], "fingerprint"),
        (&["issuing.key"], "issuing.pem"),
        (&["issuing.pem", "issuing.key"], "issuing.pem"),
    ] {
        let dir = TempDir::new();
        open(&dir).unwrap();
        for name in names {
            fs::copy(other.path().join("pki").join(name), dir.path().join("pki").join(name)).unwrap();
        }
        let error = refused(&dir);
        let named = matches!(&error, PkiError::Damaged { path, .. } if path.ends_with(blamed));
        assert!(named, "{names:?}: {error}");
    }
}

#[test]
fn keys_open_to_others_are_refused() {
    for (name, mode) in [("pki", 0o755), ("pki/root.key", 0o640), ("pki/issuing.key", 0o604)] {
        let dir = TempDir::new();
        open(&dir).unwrap();
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        let error = refused(&dir);
        assert!(matches!(error, PkiError::File(FileError::TooOpen { mode: found, .. }) if found == mode), "{error}");
    }
}

#[test]
fn a_state_keeps_its_trust_domain() {
    let dir = TempDir::new();
    open(&dir).unwrap();
    let other = TrustDomain::parse("evil.example").unwrap();
    let error = authority(dir.path(), &other, NOW).map(|_| ()).unwrap_err();
    assert!(matches!(&error, PkiError::OtherTrustDomain { recorded, .. } if recorded == "bank.example"), "{error}");
}

#[test]
fn an_ended_root_is_said_so() {
    let dir = TempDir::new();
    open(&dir).unwrap();
    let later = NOW.plus(11 * 365 * 24 * 3600);
    let error = authority(dir.path(), &domain(), later).map(|_| ()).unwrap_err();
    assert!(matches!(error, PkiError::Ended { which: "root", .. }));
}

#[test]
fn leaves_have_the_one_shape() {
    let dir = TempDir::new();
    let authority = open(&dir).unwrap();
    let issued = leaf_of(&dir, &authority);
    let peer = peer_from_leaf(&issued.chain[0]).unwrap();
    assert_eq!(peer.spiffe_id, id("shop"));
    assert_eq!(peer.pod_uid.as_deref(), Some(UID));
    assert_eq!(peer.not_after, NOW.plus(3600));
    assert_eq!(issued.not_after, peer.not_after);

    let text = text(dir.path(), &issued.chain[0]);
    let after = |heading: &str| text.split(heading).nth(1).unwrap_or_default().trim_start().lines().next().unwrap();
    assert_eq!(after("X509v3 Subject Alternative Name: critical"), "URI:spiffe://bank.example/ns/bank/sa/shop");
    assert_eq!(after("X509v3 Key Usage: critical"), "Digital Signature");
    assert_eq!(after("X509v3 Basic Constraints: critical"), "CA:FALSE");
    let extended = after("X509v3 Extended Key Usage:");
    assert_eq!(extended.trim(), "TLS Web Server Authentication, TLS Web Client Authentication");
    assert!(text.contains("ASN1 OID: prime256v1"), "{text}");
    assert!(text.contains("Signature Algorithm: ecdsa-with-SHA256"), "{text}");
    assert!(text.contains("Subject: \n") || text.contains("Subject:\n"), "{text}");
    assert!(text.contains(UID), "{text}");
    assert!(text.contains("Jan 15 07:59:00 2027 GMT"), "backdated by 60 s: {text}");
    assert_eq!(issued.serial.len(), 32);
    assert_ne!(leaf_of(&dir, &authority).serial, issued.serial);
}

#[test]
fn openssl_accepts_the_chain() {
    let dir = TempDir::new();
    let authority = open(&dir).unwrap();
    let issued = leaf_of(&dir, &authority);
    fs::write(dir.path().join("leaf.pem"), pem(&issued.chain[0])).unwrap();
    let time = NOW.as_secs().to_string();
    let verify = |root: &str, purpose: &str| {
        let arguments = ["verify", "-x509_strict", "-attime", &time, "-purpose", purpose, "-CAfile", root];
        let arguments = [&arguments[..], &["-untrusted", "pki/issuing.pem", "leaf.pem"]].concat();
        openssl(dir.path(), &arguments).is_some()
    };
    assert!(verify("trust-bundle.pem", "sslserver"));
    assert!(verify("trust-bundle.pem", "sslclient"));
    assert!(!verify("leaf.pem", "sslclient"));
}

#[test]
fn authorities_are_bounded() {
    let dir = TempDir::new();
    let authority = open(&dir).unwrap();
    let issuing = text(dir.path(), &issuing(&authority).certificate);
    assert!(issuing.contains("CA:TRUE, pathlen:0"), "{issuing}");
    assert!(issuing.contains("Certificate Sign, CRL Sign"), "{issuing}");
    let root = text(dir.path(), &authority.in_force().signing.root.certificate);
    assert!(root.contains("CA:TRUE, pathlen:1"), "{root}");
    assert!(root.contains("URI:spiffe://bank.example"), "{root}");
}

#[test]
fn only_the_public_key_of_a_request_counts() {
    let dir = TempDir::new();
    let authority = open(&dir).unwrap();
    // The request asked for a CA certificate in the operator's name.
    let leaf = leaf_of(&dir, &authority).chain[0].clone();
    let wanted = openssl(dir.path(), &["pkey", "-in", "csr.key", "-pubout", "-outform", "DER"]).unwrap();
    assert_eq!(x509::facts(&leaf).unwrap().public_key_info, wanted);
    let text = text(dir.path(), &leaf);
    assert!(!text.contains("fapi-operator") && !text.contains("CA:TRUE"), "{text}");
}

#[test]
fn other_requests_are_refused() {
    let dir = TempDir::new();
    let csr = |algorithm: &[&str]| PublicKey::from_csr(&greedy_csr(dir.path(), algorithm)).unwrap_err();
    assert_eq!(csr(&["ec", "-pkeyopt", "ec_paramgen_curve:P-384"]), CsrError::KeyType);
    assert_eq!(csr(&["rsa:2048"]), CsrError::KeyType);
    assert_eq!(csr(&["ed25519"]), CsrError::KeyType);

    let good = greedy_csr(dir.path(), P256);
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(PublicKey::from_csr(&forged).unwrap_err(), CsrError::Signature);
    let longer = [&good[..], b"x"].concat();
    assert_eq!(PublicKey::from_csr(&longer).unwrap_err(), CsrError::Malformed);
    assert_eq!(PublicKey::from_csr(&good[..good.len() - 1]).unwrap_err(), CsrError::Malformed);
    assert_eq!(PublicKey::from_csr(&[]).unwrap_err(), CsrError::Malformed);
    assert_eq!(PublicKey::from_csr(&vec![0x30; 5000]).unwrap_err(), CsrError::TooLarge);
}

#[test]
fn the_authoritys_own_keys_are_known() {
    let dir = TempDir::new();
    let authority = open(&dir).unwrap();
    let line = authority.in_force().signing.clone();
    for pair in [&line.root.key, &line.issuing_key] {
        assert!(authority.owns(&PublicKey::from_info(&pair.subject_public_key_info()).unwrap()));
    }
    assert!(!authority.owns(&key(&dir)));
}

#[test]
fn a_pod_uid_that_fits_no_certificate_is_refused() {
    let dir = TempDir::new();
    let authority = open(&dir).unwrap();
    let key = key(&dir);
    for uid in ["", &"x".repeat(128), &"x".repeat(300)] {
        let error = authority.issue_pod(&id("shop"), uid, &key, HOUR, NOW).map(|_| ()).unwrap_err();
        assert!(matches!(error, PkiError::Subject(_)));
    }
    assert!(authority.issue_pod(&id("shop"), &"x".repeat(127), &key, HOUR, NOW).is_ok());
}

#[test]
fn no_leaf_outlives_the_issuing_certificate() {
    let dir = TempDir::new();
    let authority = open(&dir).unwrap();
    let end = issuing(&authority).not_after;
    let issued = authority.issue_pod(&id("shop"), UID, &key(&dir), HOUR, end.minus(60)).unwrap();
    assert_eq!(issued.not_after, end);
    let error = authority.issue_pod(&id("shop"), UID, &key(&dir), HOUR, end).map(|_| ()).unwrap_err();
    assert!(matches!(error, PkiError::Ended { which: "issuing", .. }));
}

#[test]
fn the_issuing_certificate_is_renewed_in_time() {
    let dir = TempDir::new();
    let authority = open(&dir).unwrap();
    let first = issuing(&authority);
    authority.renew_issuing(NOW.plus(200 * 24 * 3600)).unwrap();
    assert_eq!(issuing(&authority).certificate, first.certificate);
    let later = NOW.plus(250 * 24 * 3600);
    authority.renew_issuing(later).unwrap();
    let renewed = issuing(&authority);
    assert!(renewed.not_after > first.not_after);
    // The same state opens again, and a certificate from before still verifies: the key has not changed.
    let reopened = crate::testing::authority(dir.path(), &domain(), later).unwrap();
    assert_eq!(issuing(&reopened).certificate, renewed.certificate);
}

#[test]
fn the_operators_identity_is_renewed_with_a_new_key() {
    let dir = TempDir::new();
    let authority = Arc::new(open(&dir).unwrap());
    let clock = Clock::manual(NOW);
    let own = identity_of(&authority, "fapi-mesh").unwrap();
    let mut serving = Serving::start(authority, own.clone(), "127.0.0.1", clock.clone()).unwrap();
    let identity = serving.identity();
    let first = identity.borrow().leaf().unwrap().clone();
    let peer = peer_from_leaf(&first).unwrap();
    assert_eq!((peer.spiffe_id, peer.pod_uid), (own, None));
    let text = text(dir.path(), &first);
    assert!(text.contains("IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1, DNS:localhost"), "{text}");

    serving.tick().unwrap();
    assert!(!identity.has_changed().unwrap());
    clock.advance(Duration::from_secs(12 * 3600));
    serving.tick().unwrap();
    assert!(identity.has_changed().unwrap());
    let second = identity.borrow().leaf().unwrap().clone();
    let key = |certificate: &CertificateDer<'_>| x509::facts(certificate).unwrap().public_key_info;
    assert_ne!(key(&first), key(&second));
}
