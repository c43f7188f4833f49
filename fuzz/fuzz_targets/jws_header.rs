//! The header of a token that the issuer signed.
#![no_main]

use fuzz::{WORLD, object};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|header: &[u8]| {
    let token = WORLD.issued(header, WORLD.certificate_bound().to_string().as_bytes());
    if WORLD.admits_bearer(&token) {
        let members = object(header).expect("one object, no member twice");
        assert_eq!(members["alg"], "ES256");
        let typ = members["typ"].as_str().unwrap().to_ascii_lowercase();
        assert!(typ == "at+jwt" || typ == "application/at+jwt");
        assert!(members.get("kid").is_none_or(|kid| kid == WORLD.issuer.kid()));
        for name in ["crit", "jwk", "jku", "x5u", "x5c"] {
            assert!(!members.contains_key(name), "{name}");
        }
    }
});
