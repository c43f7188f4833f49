//! The key in a proof: public, of its algorithm, and the one that the token is bound to.
#![no_main]

use fuzz::{WORLD, object};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|jwk: &str| {
    let token = WORLD.bound_token();
    let claims = Value::from(WORLD.proof_claims(&token)).to_string();
    let header = format!(r#"{{"alg":"ES256","typ":"dpop+jwt","jwk":{jwk}}}"#);
    let proof = WORLD.holder.sign_compact(header.as_bytes(), claims.as_bytes()).unwrap();
    if WORLD.admits_proof("/transfers", &token, &proof) {
        let header = object(header.as_bytes()).expect("one object, no member twice");
        let (jwk, own) = (header["jwk"].as_object().unwrap(), WORLD.holder.public_jwk());
        for name in ["kty", "crv", "x", "y"] {
            assert_eq!(jwk[name], own[name], "{name}");
        }
        for name in ["d", "p", "q", "dp", "dq", "qi", "k", "oth"] {
            assert!(!jwk.contains_key(name), "{name}");
        }
    }
});
