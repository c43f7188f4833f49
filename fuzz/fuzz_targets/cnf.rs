//! The confirmation of a token: sent as Bearer it admits with the certificate's thumbprint alone, under DPoP only with the key's.
#![no_main]

use fuzz::{WORLD, object, thumbprint};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|cnf: &str| {
    // Put in as text: a value would lose members that are there twice.
    let claims = WORLD.claims(Value::from("here")).to_string().replace("\"here\"", cnf);
    let token = WORLD.issued(WORLD.token_header().as_bytes(), claims.as_bytes());
    let header = Value::from(WORLD.proof_header()).to_string();
    let proof = Value::from(WORLD.proof_claims(&token)).to_string();
    let proof = WORLD.holder.sign_compact(header.as_bytes(), proof.as_bytes()).unwrap();
    let (x5t, jkt) = (json!(WORLD.peer.thumbprint.to_string()), json!(thumbprint(&WORLD.holder).to_string()));
    let (bearer, dpop) = (WORLD.admits_bearer(&token), WORLD.admits_proof("/transfers", &token, &proof));
    assert!(!(bearer && dpop));
    if bearer || dpop {
        // What stands behind `cnf` may be more than its value: the whole is read anew.
        let members = object(claims.as_bytes()).expect("one object");
        let cnf = members["cnf"].as_object().unwrap();
        assert!(cnf.keys().all(|name| name == "jkt" || name == "x5t#S256"));
        assert_eq!(cnf.get("jkt"), dpop.then_some(&jkt));
        assert!(cnf.get("x5t#S256").is_none_or(|value| *value == x5t) && (dpop || cnf.contains_key("x5t#S256")));
    }
});
