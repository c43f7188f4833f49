use serde_json::json;

use super::*;
use crate::testing::{ISSUER_KEY, OTHER_KEY, published};

fn read(document: &Value) -> Result<KeySet, JwksError> {
    KeySet::from_jwks_json(document.to_string().as_bytes())
}

#[test]
fn unusable_keys_are_skipped() {
    let mut private = published(&OTHER_KEY, "private");
    private["d"] = "AA".into();
    let mut numbered = published(&OTHER_KEY, "x");
    numbered["kid"] = 1.into();
    let keys =
        [json!({"kty": "oct", "k": "AA"}), json!(1), json!({}), private, numbered, published(&ISSUER_KEY, "good")];
    let set = read(&json!({"keys": keys, "extra": true})).unwrap();
    assert_eq!((set.len(), set.is_empty()), (1, false));
    assert_eq!(set.candidates(Some("good"), SigningAlg::Es256).len(), 1);
    assert!(set.candidates(Some("private"), SigningAlg::Es256).is_empty());
    assert!(read(&json!({"keys": []})).unwrap().is_empty());
}

#[test]
fn a_key_without_kid_is_found_only_by_tokens_without_one() {
    let mut set = read(&json!({"keys": [ISSUER_KEY.public_jwk()]})).unwrap();
    assert_eq!(set.candidates(None, SigningAlg::Es256).len(), 1);
    assert!(set.candidates(Some(""), SigningAlg::Es256).is_empty());
    set = read(&json!({"keys": [ISSUER_KEY.public_jwk(), published(&OTHER_KEY, "x")]})).unwrap();
    assert_eq!(set.len(), 2);
    assert!(set.candidates(None, SigningAlg::Es256).is_empty(), "a choice is no key");
}

#[test]
fn documents_are_strict_and_bounded() {
    for bad in [json!([]), json!({}), json!({"keys": {}}), json!("keys")] {
        assert_eq!(read(&bad).unwrap_err(), JwksError::NotAKeySet);
    }
    assert_eq!(KeySet::from_jwks_json(br#"{"keys":[],"keys":[]}"#).unwrap_err(), JwksError::NotAKeySet);
    assert_eq!(KeySet::from_jwks_json(b"<html>").unwrap_err(), JwksError::NotAKeySet);
    assert_eq!(read(&json!({"keys": vec![json!({}); 65]})).unwrap_err(), JwksError::TooManyKeys);
    assert!(read(&json!({"keys": vec![json!({}); 64]})).is_ok());
    let of_length = |length: usize| format!("{{\"keys\":[],\"x\":\"{}\"}}", "y".repeat(length - 18));
    assert_eq!(of_length(65536).len(), 65536);
    assert!(KeySet::from_jwks_json(of_length(65536).as_bytes()).is_ok());
    assert_eq!(KeySet::from_jwks_json(of_length(65537).as_bytes()).unwrap_err(), JwksError::TooLarge);
}
