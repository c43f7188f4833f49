//! Key sets: bounded, and a token passes only if the set holds the key that signed it.
#![no_main]

use fapi::{Issuer, IssuerKeys, KeySet};
use fuzz::{ISSUER, WORLD};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Ok(set) = KeySet::from_jwks_json(data) else { return };
    assert!(data.len() <= 64 * 1024 && set.len() <= 64);
    let document: Value = serde_json::from_slice(data).expect("JSON");
    let listed = document["keys"].as_array().unwrap();
    assert!(set.len() <= listed.len());
    let mut keys = IssuerKeys::new();
    keys.insert(Issuer::parse(ISSUER).unwrap(), set);
    let token = WORLD.issued(WORLD.token_header().as_bytes(), WORLD.certificate_bound().to_string().as_bytes());
    let authorization = format!("Bearer {token}");
    if WORLD.admits_with(&keys, "/transfers", None, &[("authorization", authorization.as_bytes())]) {
        let own = WORLD.issuer.public_jwk();
        let is_own = |key: &Value| {
            ["kty", "crv", "x", "y"].iter().all(|name| key[*name] == own[*name])
                && key["kid"] == WORLD.issuer.kid()
                && key.get("d").is_none()
                && key.get("use").is_none_or(|usage| usage == "sig")
        };
        assert!(listed.iter().any(is_own), "{document}");
    }
});
