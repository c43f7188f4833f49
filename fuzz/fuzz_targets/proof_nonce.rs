//! Nonces: only what this process made counts.
#![no_main]

use fapi::UnixTime;
use fuzz::{NOW, WORLD};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: (&str, i16)| {
    let (nonce, offset) = data;
    let token = WORLD.bound_token();
    let mut claims = WORLD.proof_claims(&token);
    let header = Value::from(WORLD.proof_header()).to_string();
    let mut admits = |nonce: &str| {
        claims.insert("nonce".to_owned(), nonce.into());
        let claims = Value::from(claims.clone()).to_string();
        let proof = WORLD.holder.sign_compact(header.as_bytes(), claims.as_bytes()).unwrap();
        WORLD.admits_proof("/transfers", &token, &proof)
    };
    assert!(!admits(nonce), "guessed {nonce}");
    let minted = WORLD.nonces.mint(UnixTime::from_secs(NOW.saturating_add_signed(offset.into())));
    assert_eq!(admits(&minted), (-300..=0).contains(&offset), "{offset}");
});
