//! Algorithms, keys and signatures.

use serde_json::json;

use super::*;
use crate::mint::{base64url, der_signature, dpop_token, ed25519, ed25519_thumbprint, proof, token};

pub(super) fn files() -> Vec<(&'static str, VectorFile)> {
    vec![mismatches(), small_order(), psychic(), confusion(), own_keys(), issuers(), decoys(), unknown_keys()]
}

fn keys(keys: Value) -> Value {
    json!({ISSUER: {"keys": keys}})
}

fn mismatches() -> (&'static str, VectorFile) {
    let bend = |member: &str, value: Value| {
        let mut jwk = Key::Proof.jwk();
        jwk[member] = value;
        jwk
    };
    let bad = || bad_proof("proof_malformed");
    let long = base64url([5; 48]);
    let mut cases = Vec::new();
    for (name, jwk) in [
        ("kty_okp", bend("kty", json!("OKP"))),
        ("kty_rsa", bend("kty", json!("RSA"))),
        ("kty_oct", json!({"kty": "oct", "k": "AAAA"})),
        ("crv_p_384", bend("crv", json!("P-384"))),
        ("p_384_whole", json!({"kty": "EC", "crv": "P-384", "x": long, "y": long})),
        ("crv_ed25519", bend("crv", json!("Ed25519"))),
        ("okp_with_p_256", json!({"kty": "OKP", "crv": "P-256", "x": Key::Proof.jwk()["x"]})),
        ("alg_of_another", bend("alg", json!("PS256"))),
        ("for_encryption", bend("use", json!("enc"))),
        ("not_on_the_curve", bend("y", Key::Proof.jwk()["x"].clone())),
        ("no_y", json!({"kty": "EC", "crv": "P-256", "x": Key::Proof.jwk()["x"]})),
    ] {
        cases.push(Case::new(format!("proof_{name}"), bent(|proof| proof.head("jwk", jwk)), bad()));
    }
    for alg in ["EdDSA", "PS256", "ES384", "ES512", "ES256K"] {
        cases.push(Case::new(format!("proof_with_{alg}"), bent(|proof| proof.head("alg", alg)), bad()));
    }
    for alg in ["EdDSA", "PS256"] {
        cases.push(Case::new(
            format!("token_with_{alg}"),
            bearer(&token().head("alg", alg)),
            bad_token("key_not_found"),
        ));
    }
    let mut says_ps256 = Key::Issuer.published("mesh-1");
    says_ps256["alg"] = json!("PS256");
    let case = Case::new("issuer_key_says_ps256", bearer(&token()), bad_token("key_not_found"));
    cases.push(case.world("issuers", keys(json!([says_ps256]))));
    file("n14_alg_and_key_type", "alg is not tied to kty and crv.", cases)
}

fn small_order() -> (&'static str, VectorFile) {
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    let mut signed_identity = identity;
    signed_identity[31] = 0x80;
    // R is the point, S is 0: under a key of small order this fits every message, or one in eight.
    let signature = |point: [u8; 32]| [point, [0; 32]].concat();
    let mut cases = Vec::new();
    for (name, point) in
        [("identity", identity), ("minus_one", minus_one), ("zero", [0; 32]), ("identity_with_sign", signed_identity)]
    {
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(point)});
        let token_text = token().claim("cnf", json!({"jkt": ed25519_thumbprint(&jwk)})).sign();
        let forged = proof(&token_text).head("alg", "EdDSA").head("jwk", jwk.clone());
        let asked = Asked::dpop(&token_text, &forged.with_signature(&signature(point)));
        cases.push(Case::new(format!("proof_{name}"), asked, bad_proof("proof_malformed")));
        let mut published = jwk;
        published["kid"] = json!("mesh-1");
        let forged = token().head("alg", "EdDSA").with_signature(&signature(point));
        let case = Case::new(format!("token_{name}"), Asked::bearer(&forged), bad_token("key_not_found"));
        cases.push(case.world("issuers", keys(json!([published]))));
    }
    let (jwk, sign) = ed25519();
    let token_text = token().claim("cnf", json!({"jkt": ed25519_thumbprint(&jwk)})).sign();
    let good = proof(&token_text).head("alg", "EdDSA").head("jwk", jwk);
    cases.push(Case::new("a_good_key", Asked::dpop(&token_text, &sign(&good)), admitted()));
    let zero = good.with_signature(&[0; 64]);
    cases.push(Case::new("a_good_key_and_zeros", Asked::dpop(&token_text, &zero), bad_proof("proof_malformed")));
    file("n15_small_order_keys", "An Ed25519 key of small order, under which one signature fits every message.", cases)
}

fn psychic() -> (&'static str, VectorFile) {
    let good = token().sign();
    let text = dpop_token().sign();
    let bound = proof(&text);
    let bad = || bad_token("signature_invalid");
    let mut cases = vec![
        Case::new("token_der", Asked::bearer(&der_signature(&good)), bad()),
        Case::new("proof_der", Asked::dpop(&text, &der_signature(&bound.sign())), bad_proof("proof_malformed")),
    ];
    let mut one = [0; 64];
    (one[31], one[63]) = (1, 1);
    for (name, signature) in [
        ("zeros", vec![0; 64]),
        ("ones", one.to_vec()),
        ("all_bits", vec![0xff; 64]),
        ("empty", vec![]),
        ("too_long", vec![1; 65]),
        ("too_short", vec![1; 63]),
    ] {
        let forged = token().with_signature(&signature);
        cases.push(Case::new(format!("token_{name}"), Asked::bearer(&forged), bad()));
        let forged = Asked::dpop(&text, &bound.with_signature(&signature));
        cases.push(Case::new(format!("proof_{name}"), forged, bad_proof("proof_malformed")));
    }
    file("n16_psychic_signatures", "ECDSA with r and s zero, or in DER instead of r and s.", cases)
}

fn confusion() -> (&'static str, VectorFile) {
    let mut cases = Vec::new();
    for alg in ["none", "None", "NONE", "nOnE", "", "es256", "RS256", "PS384", "ES384", "HS256"] {
        let unsigned = Asked::bearer(&token().head("alg", alg).with_signature(&[]));
        cases.push(Case::new(format!("token {alg:?} unsigned"), unsigned, bad_token("alg_not_allowed")));
        let signed = bearer(&token().head("alg", alg));
        cases.push(Case::new(format!("token {alg:?} signed"), signed, bad_token("alg_not_allowed")));
        let unsigned = bent_text(|proof| proof.head("alg", alg).with_signature(&[]));
        cases.push(Case::new(format!("proof {alg:?}"), unsigned, bad_proof("proof_malformed")));
    }
    let public = Key::Issuer.jwk().to_string();
    let mac = Asked::bearer(&token().head("alg", "HS256").mac(&public));
    cases.push(Case::new("token HS256 by the public key", mac, bad_token("alg_not_allowed")));
    let renamed = Asked::bearer(&token().mac(&public));
    cases.push(Case::new("token MAC named ES256", renamed, bad_token("signature_invalid")));
    let mac = bent_text(|proof| proof.head("alg", "HS256").mac(&Key::Proof.jwk().to_string()));
    cases.push(Case::new("proof HS256 by the public key", mac, bad_proof("proof_malformed")));
    cases.push(Case::new("token without alg", bearer(&token().headless("alg")), bad_token("token_malformed")));
    file("n18_algorithm_confusion", "none, a MAC by the public key, or RS256 is accepted.", cases)
}

fn own_keys() -> (&'static str, VectorFile) {
    let mut cases = Vec::new();
    for (name, value) in [
        ("jwk", Key::Other.jwk()),
        ("jku", json!("https://evil.example/keys")),
        ("x5u", json!("https://evil.example/certificate")),
        ("x5c", json!(["MIIB"])),
    ] {
        let forged = token().head(name, value).by(Key::Other);
        cases.push(Case::new(name, bearer(&forged), bad_token("token_malformed")));
        let asks = Case::new(format!("{name}_asks_for_nothing"), bearer(&forged), bad_token("token_malformed"));
        cases.push(asks.world("keysFresh", false));
    }
    let forged = token().head("kid", "https://evil.example/keys").by(Key::Other);
    cases.push(Case::new("kid_is_a_url", bearer(&forged), bad_token("key_not_found")));
    file("n19_key_in_the_header", "A key or a URL of one in the header of the token is used.", cases)
}

fn issuers() -> (&'static str, VectorFile) {
    let other = "https://other.example";
    let both = json!({ISSUER: {"keys": [Key::Issuer.published("mesh-1")]}, other: {"keys": [Key::Other.published("mesh-1"),
        Key::Other.published("other-1")]}});
    let mut policy = policy();
    policy["issuers"] = json!([ISSUER, other]);
    let cases = [
        ("the_other_signs_for_ours", token().by(Key::Other), bad_token("signature_invalid")),
        ("the_other_kid_in_our_name", token().head("kid", "other-1").by(Key::Other), bad_token("key_not_found")),
        ("ours_signs_for_the_other", token().claim("iss", other), bad_token("signature_invalid")),
        ("the_other_for_itself", token().claim("iss", other).by(Key::Other), admitted()),
        ("an_unlisted_issuer", token().claim("iss", "https://third.example"), bad_token("issuer_not_allowed")),
        ("issuer_with_a_slash", token().claim("iss", format!("{ISSUER}/")), bad_token("issuer_not_allowed")),
    ];
    let cases = cases.map(|(name, token, expect)| {
        Case::new(name, bearer(&token), expect).world("issuers", both.clone()).world("policy", policy.clone())
    });
    file("n24_keys_by_issuer", "Keys are found by kid alone: one issuer signs in the name of another.", cases.into())
}

fn decoys() -> (&'static str, VectorFile) {
    let (mut ed, _) = ed25519();
    ed["kid"] = json!("mesh-1");
    let rsa = json!({"kty": "RSA", "kid": "mesh-1", "e": "AQAB", "n": base64url([0xc5; 256])});
    let junk = [json!({"kty": "oct", "k": "AAAA", "kid": "mesh-1"}), json!({"kty": "EC", "kid": "mesh-1"}), json!("x")];
    let (right, wrong) = (Key::Issuer.published("mesh-1"), Key::Other.published("mesh-1"));
    let set = |list: &[&Value]| keys(json!(list));
    let of_another_use = {
        let mut key = right.clone();
        key["use"] = json!("enc");
        key
    };
    let last = set(&[&junk[0], &junk[1], &junk[2], &ed, &rsa, &wrong, &right]);
    let first = set(&[&right, &wrong, &ed]);
    let cases = vec![
        Case::new("right_key_last", bearer(&token()), admitted()).world("issuers", last),
        Case::new("right_key_first", bearer(&token()), admitted()).world("issuers", first.clone()),
        Case::new("no_right_key", bearer(&token()), bad_token("signature_invalid"))
            .world("issuers", set(&[&ed, &wrong])),
        Case::new("no_key_of_the_kind", bearer(&token()), bad_token("key_not_found"))
            .world("issuers", set(&[&ed, &rsa])),
        Case::new("for_encryption", bearer(&token()), bad_token("key_not_found"))
            .world("issuers", set(&[&of_another_use])),
        Case::new("no_kid_and_a_choice", bearer(&token().headless("kid")), bad_token("key_not_found"))
            .world("issuers", first),
        Case::new("no_kid_and_no_choice", bearer(&token().headless("kid")), admitted()),
    ];
    file("n25_repeated_kid", "Of keys with the same kid the first is taken.", cases)
}

fn unknown_keys() -> (&'static str, VectorFile) {
    let stranger = bearer(&token().head("kid", "unknown"));
    let unlisted = bearer(&token().claim("iss", "https://evil.example"));
    let wanted = || Expected::NeedKeys { issuer: ISSUER.to_owned() };
    let unknown = || Connected::Decided(bad_token("key_not_found"));
    let cases = vec![
        Case::new("asked_for", stranger.clone(), wanted()).world("keysFresh", false).connected(unknown()),
        Case::new("asked_for_no_more", stranger, bad_token("key_not_found")),
        Case::new("never_for_an_unlisted_issuer", unlisted, bad_token("issuer_not_allowed")).world("keysFresh", false),
        Case::new("an_empty_set_is_asked_for", bearer(&token()), wanted())
            .world("keysFresh", false)
            .world("issuers", keys(json!([])))
            .connected(unknown()),
        Case::new("an_empty_set_refuses", bearer(&token()), bad_token("key_not_found"))
            .world("issuers", keys(json!([]))),
        Case::new("a_known_key_needs_none", bearer(&token()), admitted()).world("keysFresh", false),
        Case::new("a_bad_signature_asks_for_none", bearer(&token().by(Key::Other)), bad_token("signature_invalid"))
            .world("keysFresh", false),
    ];
    file(
        "n26_unknown_kid",
        "Unknown key ids cause fetches without end; the shell bounds them, the decision asks once.",
        cases,
    )
}
