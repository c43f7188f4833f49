//! What ties a token to its sender.

use serde_json::json;

use super::*;
use crate::mint::{certificate, dpop_token, proof, thumbprint, token};

pub(super) fn files() -> Vec<(&'static str, VectorFile)> {
    vec![own_key(), as_bearer(), downgrades(), unbound(), thumbprints()]
}

fn own_key() -> (&'static str, VectorFile) {
    let own = bent(|proof| proof.head("jwk", Key::Other.jwk()).by(Key::Other));
    let cases = vec![
        Case::new("own_key_and_right_ath", own, bad_bound_token("proof_key_mismatch")),
        Case::new("shown_key_did_not_sign", bent(|proof| proof.by(Key::Other)), bad_proof("proof_malformed")),
        Case::new("no_key_shown", bent(|proof| proof.headless("jwk")), bad_proof("proof_malformed")),
    ];
    file("n5_proof_key_not_compared", "The key of the proof is not compared with cnf.jkt.", cases)
}

fn as_bearer() -> (&'static str, VectorFile) {
    let token = dpop_token().sign();
    let proof = proof(&token).sign();
    let small = Asked::bare().header("authorization", &format!("bearer {token}"));
    let cases = vec![
        Case::new("as_bearer", Asked::bearer(&token), bad_token(AS_BEARER)),
        Case::new("as_bearer_in_small_letters", small, bad_token(AS_BEARER)),
        Case::new("as_bearer_with_its_proof", Asked::bearer(&token).header("dpop", &proof), bad_token(AS_BEARER)),
        Case::new("as_it_should_be", Asked::dpop(&token, &proof), admitted()),
    ];
    file("n6_bound_token_as_bearer", "A DPoP-bound token passes under the Bearer scheme.", cases)
}

fn downgrades() -> (&'static str, VectorFile) {
    let (x5t, jkt) = (certificate(), thumbprint(Key::Proof));
    let other = thumbprint(Key::Other);
    let with = |cnf: Value| {
        let token = token().claim("cnf", cnf).sign();
        let proof = proof(&token).sign();
        (
            Asked::dpop(&token, &proof),
            Asked::bearer(&token),
            Asked::bare().header("authorization", &format!("DPoP {token}")),
        )
    };
    let (both, as_bearer, without_proof) = with(json!({"x5t#S256": x5t, "jkt": jkt}));
    let (by_certificate, ..) = with(json!({"x5t#S256": x5t}));
    let (wrong_certificate, ..) = with(json!({"x5t#S256": other, "jkt": jkt}));
    let (wrong_key, wrong_key_as_bearer, _) = with(json!({"x5t#S256": x5t, "jkt": other}));
    let (unknown, ..) = with(json!({"x5t#S256": x5t, "jkt": jkt, "kid": "1"}));
    let (_, unknown_as_bearer, _) = with(json!({"x5t#S256": x5t, "x5t": "1"}));
    let only = |constraint: &str| {
        let mut policy = policy();
        policy["senderConstraints"] = json!([constraint]);
        policy
    };
    let cases = vec![
        Case::new("both_proven", both, admitted()),
        Case::new("both_sent_as_bearer", as_bearer, bad_token(AS_BEARER)),
        Case::new("both_without_proof", without_proof, bad_proof("proof_missing")),
        Case::new("certificate_bound_with_a_proof", by_certificate, bad_bound_token("binding_missing")),
        Case::new("both_and_the_certificate_is_another", wrong_certificate, bad_bound_token("binding_cert_mismatch")),
        Case::new("both_and_the_key_is_another", wrong_key, bad_bound_token("proof_key_mismatch")),
        Case::new("both_and_the_key_is_not_shown", wrong_key_as_bearer, bad_token(AS_BEARER)),
        Case::new("a_third_that_is_unknown", unknown, bad_bound_token("binding_unknown")),
        Case::new("a_second_that_is_unknown", unknown_as_bearer, bad_token("binding_unknown")),
        Case::new("policy_wants_dpop", bearer(&token()), bad_token("binding_missing")).world("policy", only("DPoP")),
        Case::new("policy_wants_mtls", bent(|proof| proof), bad_bound_token("binding_missing"))
            .world("policy", only("MTLS")),
    ];
    file("n7_cross_downgrade", "One of two bindings is checked, or one in place of the other.", cases)
}

fn unbound() -> (&'static str, VectorFile) {
    let plain = token().without("cnf");
    let text = plain.sign();
    let cases = vec![
        Case::new("no_cnf", bearer(&plain), bad_token("binding_missing")),
        Case::new("no_cnf_with_a_proof", Asked::dpop(&text, &proof(&text).sign()), bad_bound_token("binding_missing")),
        Case::new("empty_cnf", bearer(&token().claim("cnf", json!({}))), bad_token("binding_missing")),
        Case::new("cnf_null", bearer(&token().claim("cnf", Value::Null)), bad_token("token_malformed")),
        Case::new("cnf_text", bearer(&token().claim("cnf", "x5t#S256")), bad_token("token_malformed")),
        Case::new("bound", bearer(&token()), admitted()),
    ];
    file("n8_no_binding", "A token without cnf is taken as a plain bearer token.", cases)
}

fn thumbprints() -> (&'static str, VectorFile) {
    let (x5t, pem) = (certificate(), peers::certificate(SHOP));
    let cnf = |value: Value| bearer(&token().claim("cnf", json!({"x5t#S256": value})));
    let hex = "3c".repeat(32);
    let malformed = || bad_token("token_malformed");
    let of_another = |bytes: &[u8]| fapi::CertThumbprint::of_der(bytes).to_string();
    let cases = vec![
        Case::new("hex", cnf(json!(hex)), malformed()),
        Case::new("hex_with_colons", cnf(json!("3C:".repeat(31) + "3C")), malformed()),
        Case::new("padded", cnf(json!(format!("{x5t}="))), malformed()),
        Case::new("with_a_space", cnf(json!(format!("{x5t} "))), malformed()),
        Case::new("too_short", cnf(json!(x5t[1..])), malformed()),
        Case::new("list", cnf(json!([x5t])), malformed()),
        Case::new("of_the_pem_text", cnf(json!(of_another(pem.as_bytes()))), bad_token(OTHER_CERTIFICATE)),
        Case::new("of_the_root", cnf(json!(of_another(&peers::der(peers::ROOT)))), bad_token(OTHER_CERTIFICATE)),
        Case::new("sha_1", bearer(&token().claim("cnf", json!({"x5t": "AAAA"}))), bad_token("binding_unknown")),
        Case::new("right", cnf(json!(x5t)), admitted()),
    ];
    file("n31_thumbprint_spelling", "A thumbprint of the wrong bytes, or in another spelling, is taken.", cases)
}

const AS_BEARER: &str = "bound_token_sent_as_bearer";
const OTHER_CERTIFICATE: &str = "binding_cert_mismatch";
