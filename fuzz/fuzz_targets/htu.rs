//! `htu` against the path of the request: equal exactly if both have one normal form.
#![no_main]

use fuzz::{AUDIENCE, WORLD, plain_url};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: (&str, &str)| {
    let (htu, path) = data;
    let token = WORLD.bound_token();
    let header = Value::from(WORLD.proof_header()).to_string();
    let admits = |htu: &str| {
        let mut claims = WORLD.proof_claims(&token);
        claims.insert("htu".to_owned(), htu.into());
        let claims = Value::from(claims).to_string();
        let proof = WORLD.holder.sign_compact(header.as_bytes(), claims.as_bytes()).unwrap();
        WORLD.admits_proof(path, &token, &proof)
    };
    let wanted = plain_url(&format!("{AUDIENCE}{path}"));
    if admits(htu) {
        assert!(wanted.is_some() && plain_url(htu) == wanted, "{htu} for {path}");
        // A normal form is its own normal form, and stands for the same.
        let normal = plain_url(htu).unwrap();
        assert_eq!(plain_url(&normal).as_deref(), Some(normal.as_str()));
        assert!(admits(&normal));
    }
    if let Ok(path) = fapi::normal_path(path) {
        let url = format!("{AUDIENCE}{path}");
        // A proof has a bound.
        assert!(url.len() > 2000 || admits(&url), "{url}");
    }
});
