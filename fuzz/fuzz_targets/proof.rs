//! The claims of a proof that the holder signed.
#![no_main]

use fuzz::{NOW, WORLD, object, plain_url};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|claims: &str| {
    let token = WORLD.bound_token();
    let good = WORLD.proof_claims(&token);
    // Hashes cannot be guessed: these two words stand for the right ones.
    let claims = ["ath", "nonce"]
        .iter()
        .fold(claims.to_owned(), |claims, name| claims.replace(&format!("${name}"), good[*name].as_str().unwrap()));
    let header = Value::from(WORLD.proof_header()).to_string();
    let proof = WORLD.holder.sign_compact(header.as_bytes(), claims.as_bytes()).unwrap();
    if WORLD.admits_proof("/transfers", &token, &proof) {
        let members = object(claims.as_bytes()).expect("one object, no member twice");
        for name in ["htm", "ath", "nonce"] {
            assert_eq!(members[name], good[name], "{name}");
        }
        assert!(members["jti"].as_str().unwrap().len() <= 256);
        assert_eq!(plain_url(members["htu"].as_str().unwrap()).as_deref(), Some(fuzz::URL));
        let iat = members["iat"].as_u64().unwrap();
        assert!((NOW - 60..=NOW + 30).contains(&iat), "{iat}");
    }
});
