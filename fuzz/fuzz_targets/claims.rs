//! The claims of a token that the issuer signed.
#![no_main]

use fuzz::{AUDIENCE, ISSUER, NOW, SHOP, WORLD, object};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|claims: &[u8]| {
    let token = WORLD.issued(WORLD.token_header().as_bytes(), claims);
    if WORLD.admits_bearer(&token) {
        let members = object(claims).expect("one object, no member twice");
        assert_eq!(members["iss"], ISSUER);
        let sender = members.get("act").map_or(&members["sub"], |actor| &actor["sub"]);
        assert_eq!(sender, SHOP);
        assert!(members["client_id"].is_string() && members["jti"].is_string());
        let is_ours = |value: &Value| value == AUDIENCE;
        assert!(is_ours(&members["aud"]) || members["aud"].as_array().is_some_and(|list| list.iter().any(is_ours)));
        let time = |name: &str| members.get(name).map(|value| value.as_u64().expect("whole and not below zero"));
        assert!(time("exp").unwrap() + 5 > NOW);
        assert!(time("iat").unwrap() <= NOW + 30 && time("nbf").unwrap_or(0) <= NOW + 30);
        let scopes = members["scope"].as_str().unwrap();
        assert!(scopes.split(' ').any(|scope| scope == "transfers:write"));
        let cnf = members["cnf"].as_object().unwrap();
        assert_eq!(cnf.len(), 1);
        assert_eq!(cnf["x5t#S256"], WORLD.peer.thumbprint.to_string());
    }
});
