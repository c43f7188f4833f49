//! The token itself: form, issuer, key, signature, type, times, audience.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{
    Issuer, IssuerKeys, Rejection,
    testing::{AUDIENCE, Call, ISSUER, ISSUER_KEY, Jwt, NOW, OTHER_KEY, World, key_set, published},
};

fn reason(token: &Jwt) -> Option<Rejection> {
    World::new().bearer_reason(&token.issued())
}

#[track_caller]
fn refused(token: &Jwt, rejection: Rejection) {
    assert_eq!(reason(token), Some(rejection));
}

/// A token whose header and claims are these very texts.
fn raw(header: &str, claims: &str) -> String {
    ISSUER_KEY.sign_compact(header.as_bytes(), claims.as_bytes()).unwrap()
}

fn texts_of(token: &Jwt) -> (String, String) {
    (Value::from(token.header.clone()).to_string(), Value::from(token.claims.clone()).to_string())
}

#[test]
fn what_is_no_compact_jws_is_malformed() {
    let token = World::new().token().issued();
    let parts: Vec<_> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!() };
    let array = URL_SAFE_NO_PAD.encode("[]");
    for text in [
        "x".to_owned(),
        "a.b".to_owned(),
        format!("{header}.{claims}"),
        format!("{token}.x"),
        format!("{header}.{claims}.{signature}="),
        format!("{header}.{claims}.{}", signature.replace(['-', '_'], "+")) + "+",
        format!("{header}..{signature}"),
        format!(".{claims}.{signature}"),
        format!("{array}.{claims}.{signature}"),
        format!("{header}.{array}.{signature}"),
        format!("{header}\u{e9}.{claims}.{signature}"),
        "a".repeat(8193),
    ] {
        let mut call = Call::bare();
        let value = http::HeaderValue::from_bytes(format!("Bearer {text}").as_bytes()).unwrap();
        call.headers.insert("authorization", value);
        assert_eq!(World::new().reason(&call), Some(Rejection::TokenMalformed), "{text}");
    }
}

#[test]
fn a_token_of_eight_kilobytes_is_read_and_a_larger_one_is_not() {
    let world = World::new();
    let small = world.token().claim("padding", "x".repeat(5000)).issued();
    assert!(small.len() <= 8192);
    assert_eq!(World::new().bearer_reason(&small), None);
    refused(&world.token().claim("padding", "x".repeat(8192)), Rejection::TokenMalformed);
}

#[test]
fn every_required_claim_is_required() {
    for name in ["iss", "sub", "client_id", "aud", "jti", "iat", "exp"] {
        refused(&World::new().token().without(name), Rejection::TokenMalformed);
        refused(&World::new().token().claim(name, Value::Null), Rejection::TokenMalformed);
        refused(&World::new().token().claim(name, json!({})), Rejection::TokenMalformed);
    }
    for name in ["sub", "client_id", "jti"] {
        refused(&World::new().token().claim(name, ""), Rejection::TokenMalformed);
    }
}

#[test]
fn numbers_are_whole_and_in_range() {
    for name in ["exp", "iat", "nbf"] {
        for bad in ["\"1800000000\"", "1e30", "-1", "1800000000.0", "99999999999999999999", "null", "[1]"] {
            let bad: Value = serde_json::from_str(bad).unwrap();
            refused(&World::new().token().claim(name, bad), Rejection::TokenMalformed);
        }
    }
}

#[test]
fn members_given_twice_are_malformed() {
    let (header, claims) = texts_of(&World::new().token());
    assert_eq!(World::new().bearer_reason(&raw(&header, &claims)), None);
    for (header, claims) in [
        (header.replacen('{', r#"{"alg":"ES256","#, 1), claims.clone()),
        (header.replacen('{', r#"{"x":{"y":1,"y":1},"#, 1), claims.clone()),
        (header.clone(), claims.replacen('{', r#"{"sub":"x","#, 1)),
        (header.clone(), claims.replacen(r#""cnf":{"#, r#""cnf":{"x5t#S256":"x","#, 1)),
        (header.clone(), claims.replacen('{', r#"{"other":[{"y":1,"y":1}],"#, 1)),
    ] {
        assert_eq!(World::new().bearer_reason(&raw(&header, &claims)), Some(Rejection::TokenMalformed));
    }
}

#[test]
fn extensions_and_keys_in_the_header_are_malformed() {
    let jwk = OTHER_KEY.public_jwk();
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("jwk", jwk),
        ("jku", json!("https://evil.example/keys")),
        ("x5u", json!("https://evil.example/cert")),
        ("x5c", json!(["MIIB"])),
        ("kid", json!(1)),
        ("typ", json!(["at+jwt"])),
    ] {
        refused(&World::new().token().head(name, value), Rejection::TokenMalformed);
    }
    assert_eq!(reason(&World::new().token().head("x-extension", "ignored")), None);
}

#[test]
fn only_listed_issuers_count() {
    for issuer in ["https://evil.example", "https://issuer.fapi-mesh/", "HTTPS://issuer.fapi-mesh", ""] {
        refused(&World::new().token().claim("iss", issuer), Rejection::IssuerNotAllowed);
    }
}

#[test]
fn other_algorithms_are_not_allowed() {
    for alg in ["none", "None", "NONE", "HS256", "RS256", "PS384", "ES384", "es256", "ES256K", "ed25519", ""] {
        refused(&World::new().token().head("alg", alg), Rejection::AlgNotAllowed);
    }
    refused(&World::new().token().headless("alg"), Rejection::TokenMalformed);
    // As attackers send it: nothing behind the second dot.
    let (_, claims) = texts_of(&World::new().token());
    let unsigned =
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"at+jwt"}"#), URL_SAFE_NO_PAD.encode(claims));
    assert_eq!(World::new().bearer_reason(&unsigned), Some(Rejection::AlgNotAllowed));
}

#[test]
fn the_public_key_as_a_shared_secret_does_not_help() {
    crate::testing::other_implementation();
    let token = World::new().token();
    let header = jsonwebtoken::Header {
        typ: Some("at+jwt".to_owned()),
        kid: Some(ISSUER_KEY.kid().to_owned()),
        ..jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256)
    };
    let secret = jsonwebtoken::EncodingKey::from_secret(ISSUER_KEY.public_jwk().to_string().as_bytes());
    let forged = jsonwebtoken::encode(&header, &token.claims, &secret).unwrap();
    assert_eq!(World::new().bearer_reason(&forged), Some(Rejection::AlgNotAllowed));
    // The same under the name of an allowed algorithm.
    let (_, rest) = forged.split_once('.').unwrap();
    let (header, _) = texts_of(&token);
    let renamed = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
    assert_eq!(World::new().bearer_reason(&renamed), Some(Rejection::SignatureInvalid));
}

#[test]
fn keys_are_found_by_issuer_kid_and_algorithm() {
    let token = World::new().token();
    refused(&token.clone().head("kid", "unknown"), Rejection::KeyNotFound);
    refused(&token.clone().head("alg", "PS256"), Rejection::KeyNotFound);
    refused(&token.clone().head("alg", "EdDSA"), Rejection::KeyNotFound);
    assert_eq!(reason(&token.headless("kid")), None, "without kid, the only key");
}

#[test]
fn a_key_of_another_issuer_does_not_count_even_with_the_same_kid() {
    let mut world = World::new();
    let other = "https://other.example";
    world.wire.issuers.push(other.to_owned());
    world.keys.insert(Issuer::parse(other).unwrap(), key_set(&[published(&OTHER_KEY, ISSUER_KEY.kid())]));
    let forged = world.token().sign(&OTHER_KEY);
    assert_eq!(world.bearer_reason(&forged), Some(Rejection::SignatureInvalid));
    let honest = world.token().claim("iss", other).sign(&OTHER_KEY);
    assert_eq!(world.bearer_reason(&honest), None);
}

#[test]
fn a_kid_that_repeats_is_no_obstacle() {
    let mut world = World::new();
    let kid = ISSUER_KEY.kid();
    let ed = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": kid});
    let decoys = [ed, published(&OTHER_KEY, kid), published(&ISSUER_KEY, kid)];
    world.keys = IssuerKeys::new();
    world.keys.insert(Issuer::parse(ISSUER).unwrap(), key_set(&decoys));
    let token = world.token();
    assert_eq!(world.bearer_reason(&token.issued()), None);
    assert_eq!(world.bearer_reason(&token.headless("kid").issued()), Some(Rejection::KeyNotFound), "two keys fit");
}

#[test]
fn a_signature_by_another_key_or_over_another_text_is_invalid() {
    let world = World::new();
    let (good, forged) = (world.token().issued(), world.token().claim("scope", "admin").sign(&OTHER_KEY));
    assert_eq!(World::new().bearer_reason(&forged), Some(Rejection::SignatureInvalid));
    let (_, signature) = good.rsplit_once('.').unwrap();
    let (signed, _) = forged.rsplit_once('.').unwrap();
    for signature in [signature, "", &URL_SAFE_NO_PAD.encode([0; 64]), &URL_SAFE_NO_PAD.encode([0xff; 64])] {
        let text = format!("{signed}.{signature}");
        assert_eq!(World::new().bearer_reason(&text), Some(Rejection::SignatureInvalid));
    }
}

#[test]
fn only_access_tokens_are_access_tokens() {
    for typ in
        ["JWT", "at+jwt ", "dpop+jwt", "logout+jwt", "application/jwt", "secevent+jwt", "token-introspection+jwt", ""]
    {
        refused(&World::new().token().head("typ", typ), Rejection::TokenType);
    }
    refused(&World::new().token().headless("typ"), Rejection::TokenType);
    for typ in ["AT+JWT", "at+jwt", "application/at+jwt", "Application/At+Jwt"] {
        assert_eq!(reason(&World::new().token().head("typ", typ)), None, "{typ}");
    }
}

#[test]
fn tokens_end_five_seconds_after_exp() {
    let token = World::new().token().issued();
    for (age, outcome) in [
        (0, None),
        (299, None),
        (304, None),
        (305, Some(Rejection::TokenExpired)),
        (9999, Some(Rejection::TokenExpired)),
    ] {
        let mut world = World::new();
        world.now = world.now.plus(age);
        assert_eq!(world.bearer_reason(&token), outcome, "{age}");
    }
    refused(&World::new().token().claim("exp", 0), Rejection::TokenExpired);
}

#[test]
fn iat_and_nbf_may_lie_ten_seconds_ahead() {
    for name in ["iat", "nbf"] {
        for (ahead, outcome) in [
            (0, None),
            (8, None),
            (10, None),
            (11, Some(Rejection::TokenNotYetValid)),
            (61, Some(Rejection::TokenNotYetValid)),
        ] {
            assert_eq!(reason(&World::new().token().claim(name, NOW + ahead)), outcome, "{name} {ahead}");
        }
    }
}

#[test]
fn the_audience_is_this_service() {
    let token = World::new().token();
    for audience in
        [json!("https://ledger.bank"), json!("https://payments.bank/"), json!(["https://ledger.bank"]), json!("")]
    {
        refused(&token.clone().claim("aud", audience), Rejection::AudienceMismatch);
    }
    for audience in [json!([AUDIENCE]), json!(["https://ledger.bank", AUDIENCE])] {
        assert_eq!(reason(&token.clone().claim("aud", audience)), None);
    }
    for audience in [json!([]), json!([1]), json!([AUDIENCE, null]), json!(true)] {
        refused(&token.clone().claim("aud", audience), Rejection::TokenMalformed);
    }
}
