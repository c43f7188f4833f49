//! Where the decision and the second opinion differed once: each row of `docs/second-opinion.md`, as it was settled.

use serde_json::json;

use super::*;
use crate::mint::{base64url, token};

pub(super) fn files() -> Vec<(&'static str, VectorFile)> {
    let cases = [urls(), headers(), claims(), details(), keys()].concat();
    vec![file("second_opinion", "What two readers of the RFCs took for different things, as it was settled.", cases)]
}

fn urls() -> Vec<Case> {
    let htu = |htu: &str| Case::new(format!("htu {htu}"), bent(|proof| proof.claim("htu", htu)), admitted());
    vec![
        Case::new("a_path_with_braces", bearer(&token()).path("/transfers{1}"), bad_request()),
        htu("https://payments.bank/transfers?%zz"),
        htu("https://payments.bank/transfers#%zz"),
    ]
}

fn headers() -> Vec<Case> {
    let unsigned = Asked::bearer(&token().head("alg", "none").with_signature(&[]));
    let mut cases = vec![Case::new("none_without_signature", unsigned, bad_token("alg_not_allowed"))];
    for name in ["alg", "kid", "typ"] {
        let bad = bearer(&token().head(name, 1));
        cases.push(Case::new(format!("{name}_is_a_number"), bad, bad_token("token_malformed")));
    }
    let long = bent(|proof| proof.head("note", "x".repeat(600)));
    cases.push(Case::new("a_proof_with_a_long_header", long, admitted()));
    cases
}

fn claims() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, reason) in [
        ("sub", "token_malformed"),
        ("client_id", "token_malformed"),
        ("iss", "issuer_not_allowed"),
        ("jti", "token_malformed"),
    ] {
        let bad = bearer(&token().claim(name, ""));
        cases.push(Case::new(format!("{name}_is_empty"), bad, bad_token(reason)));
    }
    let stranger = token().claim("iss", "https://other.example").claim("scope", 1);
    cases.push(Case::new("a_stranger_with_a_bad_claim", bearer(&stranger), bad_token("issuer_not_allowed")));
    let nobody = bearer(&token().claim("aud", json!([])));
    cases.push(Case::new("aud_is_an_empty_list", nobody, bad_token("token_malformed")));
    let signed = token().claim("nbf", NOW).texts();
    let negative =
        mint::signed_texts(Key::Issuer, &signed.0, &signed.1.replace(&format!("\"nbf\":{NOW}"), "\"nbf\":-0"));
    cases.push(Case::new("a_time_of_minus_zero", Asked::bearer(&negative), bad_token("token_malformed")));
    cases
}

/// payments asks for a detail that is used at one of two places.
fn details() -> Vec<Case> {
    let mut policy = policy();
    policy["rules"][0]["authorizationDetails"] = json!([{"type": "transfer", "locations": [AUDIENCE]}]);
    let detail = |locations: Value| json!([{"type": "transfer", "locations": locations}]);
    [
        ("two_locations", detail(json!([AUDIENCE, "https://ledger.bank"])), admitted()),
        ("locations_are_a_text", detail(json!(AUDIENCE)), bad_token("token_malformed")),
        ("locations_are_an_empty_list", detail(json!([])), bad_token("token_malformed")),
    ]
    .map(|(name, details, expect)| {
        let asked = bearer(&token().claim("authorization_details", details));
        Case::new(name, asked, expect).world("policy", policy.clone())
    })
    .into()
}

fn keys() -> Vec<Case> {
    let even = json!({"kty": "RSA", "e": "AQAB", "n": base64url([0xc4; 256])});
    let no_point = json!({"kty": "OKP", "crv": "Ed25519", "x": base64url([&[2][..], &[0; 31]].concat())});
    [("even_rsa", even, "PS256", 256), ("no_point_of_ed25519", no_point, "EdDSA", 64)]
        .map(|(name, mut jwk, alg, length)| {
            jwk["kid"] = json!("mesh-1");
            let asked = Asked::bearer(&token().head("alg", alg).with_signature(&vec![7; length]));
            Case::new(name, asked, bad_token("signature_invalid")).world("issuers", json!({ISSUER: {"keys": [jwk]}}))
        })
        .into()
}
