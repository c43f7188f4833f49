use std::fs;
use std::os::unix::fs::PermissionsExt;

use fapi::UnixTime;
use serde_json::{Value, json};

use super::*;
use crate::shelf::Shelf;
use crate::testing::{NOW, TempDir};

const DAY: u64 = 24 * 3600;
const HOUR: Duration = Duration::from_secs(3600);

fn open(dir: &TempDir, clock: &Clock) -> Result<Keys, KeysError> {
    open_with(dir, Rotation::DEFAULT, clock)
}

fn open_with(dir: &TempDir, rotation: Duration, clock: &Clock) -> Result<Keys, KeysError> {
    let create = |folder: &Folder| Keys::create(folder, clock.now());
    let folder = Folder::open(Shelf::Folder(dir.path().join("issuer")), "restore it from a backup", create)?;
    Keys::open(folder, Rotation::every(rotation), clock.clone())
}

fn refused(dir: &TempDir) -> KeysError {
    open(dir, &Clock::manual(NOW)).map(|_| ()).unwrap_err()
}

fn kids(keys: &Keys) -> Vec<String> {
    let jwks: Value = serde_json::from_slice(&keys.published().borrow().jwks).unwrap();
    let kid = |key: &Value| key["kid"].as_str().unwrap().to_owned();
    jwks["keys"].as_array().unwrap().iter().map(kid).collect()
}

fn signer(keys: &Keys) -> String {
    keys.ring().signer().kid().to_owned()
}

/// Moves the clock and does what is due.
fn pass(keys: &Keys, clock: &Clock, seconds: u64) {
    clock.advance(Duration::from_secs(seconds));
    keys.tick().unwrap();
}

#[test]
fn a_later_start_finds_the_same_keys() {
    let dir = TempDir::new();
    let clock = Clock::manual(NOW);
    let first = open(&dir, &clock).unwrap();
    first.sign(&json!({}), HOUR).unwrap();
    let second = open(&dir, &clock).unwrap();
    assert_eq!(kids(&first), kids(&second));
    assert_eq!(second.ring().signing.longest, 3600);
    let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("issuer"), mode("issuer/keys.json")), (0o700, 0o600));
}

#[test]
fn keys_that_are_lost_are_told_of_at_the_next_look_and_go_on() {
    let dir = TempDir::new();
    let keys = open(&dir, &Clock::manual(NOW)).unwrap();
    keys.sign(&json!({}), HOUR).unwrap();
    let (kept, away) = (dir.path().join("issuer"), dir.path().join("away"));
    for leads in [true, false] {
        keys.step(leads).unwrap();
        fs::rename(&kept, &away).unwrap();
        let lost = keys.step(leads).unwrap_err().to_string();
        assert!(lost.contains("keys.json is missing: restore it"), "{lost}");
        keys.sign(&json!({}), HOUR).unwrap();
        fs::rename(&away, &kept).unwrap();
        keys.step(leads).unwrap();
    }
}

#[test]
fn tokens_name_their_type_and_key() {
    let dir = TempDir::new();
    let keys = open(&dir, &Clock::manual(NOW)).unwrap();
    let token = keys.sign(&json!({"sub": "x"}), HOUR).unwrap();
    use base64::Engine;
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    assert_eq!(header, json!({"alg": "ES256", "typ": "at+jwt", "kid": signer(&keys)}));
}

#[test]
fn keys_are_published_before_they_sign_and_after_they_stop() {
    let dir = TempDir::new();
    let clock = Clock::manual(NOW);
    let keys = open(&dir, &clock).unwrap();
    let (first, second) = (kids(&keys)[0].clone(), kids(&keys)[1].clone());
    assert_eq!(signer(&keys), first);
    keys.sign(&json!({}), HOUR).unwrap();

    pass(&keys, &clock, DAY - 1);
    assert_eq!(signer(&keys), first);
    pass(&keys, &clock, 1);
    assert_eq!(signer(&keys), second, "the key published first signs next");
    assert_eq!(kids(&keys).len(), 3);
    assert!(kids(&keys).contains(&first));

    // The last token of the first key ends an hour after the change.
    pass(&keys, &clock, 3600);
    assert!(kids(&keys).contains(&first), "clocks differ a little");
    pass(&keys, &clock, 60);
    assert!(!kids(&keys).contains(&first));
    assert_eq!(kids(&keys).len(), 2);
}

#[test]
fn a_hundred_rotations_never_surprise_a_verifier() {
    let dir = TempDir::new();
    let clock = Clock::manual(NOW);
    let keys = open_with(&dir, Duration::from_secs(600), &clock).unwrap();
    // A verifier asks for keys as seldom as it may; tokens live for an hour.
    let mut known = kids(&keys);
    let mut asked = clock.now();
    let mut tokens: Vec<(String, UnixTime)> = Vec::new();
    let mut signers = std::collections::HashSet::new();
    for _ in 0..6_000 {
        pass(&keys, &clock, 10);
        keys.sign(&json!({}), HOUR).unwrap();
        tokens.push((signer(&keys), clock.now().plus(3600)));
        signers.insert(signer(&keys));
        if clock.now() >= asked.plus(keys.max_age().as_secs()) {
            (known, asked) = (kids(&keys), clock.now());
        }
        tokens.retain(|(_, end)| *end > clock.now());
        assert!(tokens.iter().all(|(kid, _)| known.contains(kid)));
    }
    assert_eq!(signers.len(), 101);
    assert!(kids(&keys).len() <= 10);
}

#[test]
fn the_next_key_waits_for_every_stream() {
    let dir = TempDir::new();
    let clock = Clock::manual(NOW);
    let keys = open(&dir, &clock).unwrap();
    let first = signer(&keys);
    let delivered = keys.delivered();
    let (one, two) = (delivered.open(), delivered.open());
    one.sent(&keys.published().borrow().digest);
    pass(&keys, &clock, DAY);
    assert_eq!(signer(&keys), first, "one stream was sent nothing");
    two.sent("of long ago");
    pass(&keys, &clock, 1);
    assert_eq!(signer(&keys), first, "one stream has other keys");
    drop(two);
    pass(&keys, &clock, 1);
    assert_ne!(signer(&keys), first);
    drop(one);
}

#[test]
fn a_restart_waits_until_sidecars_are_back() {
    let dir = TempDir::new();
    let clock = Clock::manual(NOW);
    let first = signer(&open(&dir, &clock).unwrap());
    clock.advance(Duration::from_secs(30 * DAY));
    let keys = open(&dir, &clock).unwrap();
    pass(&keys, &clock, 1);
    assert_eq!(signer(&keys), first);
    pass(&keys, &clock, 300);
    assert_ne!(signer(&keys), first);
}

#[test]
fn retired_keys_are_bounded() {
    let dir = TempDir::new();
    let clock = Clock::manual(NOW);
    let keys = open_with(&dir, Duration::ZERO, &clock).unwrap();
    for _ in 0..100 {
        keys.sign(&json!({}), Duration::from_secs(12 * 3600)).unwrap();
        pass(&keys, &clock, 10);
    }
    assert_eq!(kids(&keys).len(), 34);
}

#[test]
fn lost_keys_are_not_replaced_silently() {
    let dir = TempDir::new();
    open(&dir, &Clock::manual(NOW)).unwrap();
    fs::remove_file(dir.path().join("issuer/keys.json")).unwrap();
    let error = refused(&dir);
    assert!(matches!(error, KeysError::State(StateError::Missing { .. })));
    assert!(error.to_string().contains("keys.json") && error.to_string().contains("backup"), "{error}");
}

#[test]
fn a_torn_or_changed_file_is_named_and_not_quoted() {
    let dir = TempDir::new();
    open(&dir, &Clock::manual(NOW)).unwrap();
    let path = dir.path().join("issuer/keys.json");
    let good = fs::read_to_string(&path).unwrap();
    let document: Value = serde_json::from_str(&good).unwrap();
    let secret = document["signing"]["key"]["privateKey"].as_str().unwrap().to_owned();
    let other = document["next"]["key"]["privateKey"].as_str().unwrap();
    let torn = good[..good.len() / 2].to_owned();
    let swapped = good.replace(&secret, other);
    let unknown = good.replacen("\"retired\"", "\"surprise\"", 1);
    let wrong_type = good.replacen(&format!("\"{secret}\""), "7", 1);
    for damaged in [String::new(), torn, swapped, unknown, wrong_type, "[]".to_owned()] {
        fs::write(&path, &damaged).unwrap();
        let error = refused(&dir);
        assert!(
            matches!(&error, KeysError::State(StateError::Damaged { path: named, .. }) if *named == path),
            "{error}"
        );
        assert!(!error.to_string().contains(&secret[..16]), "{error}");
    }
}

#[test]
fn keys_open_to_others_are_refused() {
    let dir = TempDir::new();
    open(&dir, &Clock::manual(NOW)).unwrap();
    let path = dir.path().join("issuer/keys.json");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(refused(&dir), KeysError::State(StateError::File(FileError::TooOpen { .. }))));
}
