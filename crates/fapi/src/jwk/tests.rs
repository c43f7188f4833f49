use serde_json::{Value, json};

use super::*;
use crate::json::Members;

fn parse(jwk: &Value) -> Option<Jwk> {
    Jwk::parse(Members::of(jwk).unwrap())
}

fn rsa_example() -> Value {
    // RFC 7638 section 3.1.
    let n = concat!(
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs",
        "tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5ha",
        "jrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
    );
    json!({"kty": "RSA", "n": n, "e": "AQAB", "kid": "2011-04-29"})
}

fn ed_example() -> Value {
    // RFC 8037 appendix A.2.
    json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
}

fn ec_example() -> Value {
    let x = "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs";
    json!({"kty": "EC", "crv": "P-256", "x": x, "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"})
}

#[test]
fn thumbprints_are_those_of_the_documents() {
    let of = |jwk: &Value| parse(jwk).unwrap().thumbprint.to_string();
    assert_eq!(of(&rsa_example()), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    assert_eq!(of(&ed_example()), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    assert_eq!(of(&ec_example()), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
}

#[test]
fn each_kind_of_key_has_one_algorithm() {
    for (jwk, alg) in
        [(rsa_example(), SigningAlg::Ps256), (ed_example(), SigningAlg::EdDsa), (ec_example(), SigningAlg::Es256)]
    {
        assert_eq!(parse(&jwk).unwrap().key.alg(), alg);
        for name in ["ES256", "PS256", "EdDSA", "Ed25519", "RS256", "none", "HS256"] {
            let mut named = jwk.clone();
            named["alg"] = name.into();
            assert_eq!(parse(&named).is_some(), SigningAlg::from_jose(name) == Some(alg), "{name}");
        }
    }
}

#[test]
fn members_have_their_exact_length_and_alphabet() {
    let bend = |jwk: Value, name: &str, value: Value| {
        let mut jwk = jwk;
        jwk[name] = value;
        parse(&jwk).is_none()
    };
    for bad in [
        json!(""),
        json!("AA"),
        json!(null),
        json!(7),
        json!("\"}"),
        json!("A".repeat(44)),
        json!("l8tFrhx+34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs"),
    ] {
        assert!(bend(ec_example(), "x", bad.clone()), "{bad}");
        assert!(bend(ec_example(), "y", bad.clone()), "{bad}");
        assert!(bend(ed_example(), "x", bad.clone()), "{bad}");
        assert!(bend(rsa_example(), "n", bad), "n");
    }
    for bad in ["", "AA", "AAEAAQ", "AQAB=", "AQABAQABAQAB"] {
        assert!(bend(rsa_example(), "e", json!(bad)), "{bad}");
    }
    assert!(!bend(rsa_example(), "e", json!("AQAAAAE")), "2^32 + 1");
}

#[test]
fn rsa_keys_have_2048_to_8192_bits() {
    let with = |bytes: usize, first: u8| {
        let mut n = vec![0xff; bytes];
        n[0] = first;
        let mut jwk = rsa_example();
        jwk["n"] = URL_SAFE_NO_PAD.encode(n).into();
        parse(&jwk).is_some()
    };
    assert!(!with(128, 0xff) && !with(255, 0xff) && !with(256, 0x7f) && !with(257, 0x00));
    assert!(with(256, 0x80) && with(1024, 0xff));
    assert!(!with(1025, 0x01) && !with(2048, 0xff));
}

#[test]
fn private_symmetric_and_foreign_keys_are_none() {
    for example in [rsa_example(), ed_example(), ec_example()] {
        for name in PRIVATE {
            let mut jwk = example.clone();
            jwk[name] = json!(null);
            assert!(parse(&jwk).is_none(), "{name}");
        }
    }
    for (kty, crv) in [
        ("oct", ""),
        ("EC", "P-384"),
        ("EC", "P-521"),
        ("EC", "secp256k1"),
        ("OKP", "Ed448"),
        ("OKP", "X25519"),
        ("OKP", "P-256"),
        ("EC", "Ed25519"),
        ("", ""),
        ("ec", "P-256"),
    ] {
        let mut jwk = ec_example();
        (jwk["kty"], jwk["crv"]) = (kty.into(), crv.into());
        assert!(parse(&jwk).is_none(), "{kty} {crv}");
    }
}

#[test]
fn a_key_for_something_else_is_none() {
    for (name, value, good) in [
        ("use", json!("sig"), true),
        ("use", json!("enc"), false),
        ("use", json!(1), false),
        ("key_ops", json!(["verify"]), true),
        ("key_ops", json!(["sign"]), false),
        ("key_ops", json!([]), false),
        ("key_ops", json!("verify"), false),
    ] {
        let mut jwk = ec_example();
        jwk[name] = value;
        assert_eq!(parse(&jwk).is_some(), good, "{jwk}");
    }
}
