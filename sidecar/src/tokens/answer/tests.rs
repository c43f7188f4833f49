#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::{Value, json};

use super::*;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn thumbprint() -> CertThumbprint {
    CertThumbprint::of_der(b"our certificate")
}

fn key() -> JwkThumbprint {
    fapi::ProofSigner::generate().unwrap().thumbprint()
}

fn mtls() -> Binding {
    Binding { certificate: thumbprint(), proof_key: None }
}

fn wanted<'a>(binding: &Binding, scope: &'a str, opaque: bool) -> Wanted<'a> {
    let Binding { certificate, proof_key } = *binding;
    Wanted { binding: Binding { certificate, proof_key }, scope, opaque, exchanged: false }
}

/// An answer with a token of these claims.
fn answer(token_type: &str, claims: &Value) -> Value {
    let token = ["e30", &URL_SAFE_NO_PAD.encode(claims.to_string()), "c2ln"].join(".");
    json!({ "access_token": token, "token_type": token_type, "expires_in": 60 })
}

fn claims(cnf: &Value) -> Value {
    json!({ "exp": NOW.as_secs() + 100, "cnf": cnf })
}

fn read_ok(answer: &Value, binding: &Binding) -> Result<Granted, FetchError> {
    read(StatusCode::OK, answer.to_string().as_bytes(), &wanted(binding, "", false), NOW)
}

#[test]
fn a_token_bound_as_asked_is_taken_until_the_earlier_of_its_two_ends() {
    let cnf = json!({ "x5t#S256": thumbprint().to_string() });
    let granted = read_ok(&answer("bearer", &claims(&cnf)), &mtls()).unwrap();
    assert_eq!(granted.expires, NOW.plus(60));
    let mut late = answer("Bearer", &claims(&cnf));
    late["expires_in"] = json!(1000);
    assert_eq!(read_ok(&late, &mtls()).unwrap().expires, NOW.plus(100));
    let key = key();
    let binding = Binding { certificate: thumbprint(), proof_key: Some(key) };
    read_ok(&answer("DPoP", &claims(&json!({ "jkt": key.to_string() }))), &binding).unwrap();
}

#[test]
fn a_token_that_is_not_what_was_asked_for_is_refused() {
    let ours = json!({ "x5t#S256": thumbprint().to_string() });
    let other = json!({ "x5t#S256": CertThumbprint::of_der(b"another").to_string() });
    let jkt = json!({ "jkt": key().to_string() });
    let unknown = json!({ "x5t#S256": thumbprint().to_string(), "kid": "x" });
    for answer in [
        answer("DPoP", &claims(&ours)),
        answer("N_A", &claims(&ours)),
        answer("Bearer", &claims(&other)),
        answer("Bearer", &claims(&jkt)),
        answer("Bearer", &claims(&unknown)),
        answer("Bearer", &claims(&json!({}))),
        answer("Bearer", &json!({ "exp": NOW.as_secs() + 100 })),
        answer("Bearer", &json!({ "exp": NOW.as_secs(), "cnf": ours })),
        json!({ "access_token": "not a jwt", "token_type": "Bearer" }),
        json!({ "access_token": "a.b\r\nx: y.c", "token_type": "Bearer" }),
        json!({ "access_token": "a".repeat(9000), "token_type": "Bearer" }),
        json!({}),
    ] {
        let refused = read_ok(&answer, &mtls());
        assert!(matches!(refused, Err(FetchError::Answer(_))), "{answer}");
    }
    let binding = Binding { certificate: thumbprint(), proof_key: Some(key()) };
    for cnf in [&ours, &jkt] {
        assert!(read_ok(&answer("DPoP", &claims(cnf)), &binding).is_err(), "{cnf}");
    }
}

#[test]
fn errors_are_told_apart_by_their_code_alone() {
    let code = |code: &str| {
        let body = json!({ "error": code, "error_description": "secret" }).to_string();
        read(StatusCode::BAD_REQUEST, body.as_bytes(), &wanted(&mtls(), "", false), NOW).map(|_| ()).unwrap_err()
    };
    for granted in ["invalid_target", "invalid_scope", "access_denied"] {
        assert_eq!(code(granted).rejection(), fapi::Rejection::NotGranted);
    }
    for (other, told) in [
        ("invalid_client", "invalid_client"),
        ("server_error", "server_error"),
        ("invalid_client_metadata", "invalid_client_metadata"),
        ("made_up", "a code that is not known here"),
    ] {
        assert_eq!(code(other).rejection(), fapi::Rejection::TokenUnavailable);
        let text = code(other).to_string();
        assert!(text.contains(told) && !text.contains("secret") && !text.contains("made_up"), "{text}");
    }
    assert!(matches!(code("use_dpop_nonce"), FetchError::Nonce));
    let broken = read(StatusCode::BAD_GATEWAY, b"<html>", &wanted(&mtls(), "", false), NOW).map(|_| ()).unwrap_err();
    assert!(matches!(broken, FetchError::Status(StatusCode::BAD_GATEWAY)));
}

#[test]
fn the_scope_of_the_answer_is_what_was_asked_for_or_more() {
    let cnf = json!({ "x5t#S256": thumbprint().to_string() });
    let read_for = |scope: &str, given: Option<&str>| {
        let mut answer = answer("Bearer", &claims(&cnf));
        if let Some(given) = given {
            answer["scope"] = given.into();
        }
        read(StatusCode::OK, answer.to_string().as_bytes(), &wanted(&mtls(), scope, false), NOW).map(|_| ())
    };
    for (scope, given) in [("a b", None), ("a b", Some("b a")), ("a", Some("a b")), ("", Some("a")), ("", Some(""))] {
        read_for(scope, given).unwrap();
    }
    for (scope, given) in [("a b", "a"), ("a", ""), ("a", "A"), ("a", "ab")] {
        assert!(matches!(read_for(scope, Some(given)), Err(FetchError::NotGranted(_))), "{scope} {given}");
    }
}

#[test]
fn a_token_that_cannot_be_read_needs_a_type_and_an_end() {
    let read_as = |opaque: bool, answer: Value| {
        read(StatusCode::OK, answer.to_string().as_bytes(), &wanted(&mtls(), "", opaque), NOW)
    };
    let answer = json!({ "access_token": "abc", "token_type": "Bearer", "expires_in": 60 });
    assert_eq!(read_as(true, answer.clone()).unwrap().expires, NOW.plus(60));
    assert!(matches!(read_as(false, answer), Err(FetchError::Answer(why)) if why.contains("tokenFormat: Opaque")));
    for bad in [
        json!({ "access_token": "abc", "token_type": "Bearer" }),
        json!({ "access_token": "abc", "token_type": "DPoP", "expires_in": 60 }),
        json!({ "access_token": "abc", "token_type": "Bearer", "expires_in": 0 }),
    ] {
        assert!(matches!(read_as(true, bad.clone()), Err(FetchError::Answer(_))), "{bad}");
    }
}

#[test]
fn what_is_exchanged_says_what_it_is() {
    let mut answer = answer("Bearer", &claims(&json!({ "x5t#S256": thumbprint().to_string() })));
    let wanted = Wanted { exchanged: true, ..wanted(&mtls(), "", false) };
    let read = |answer: &Value| read(StatusCode::OK, answer.to_string().as_bytes(), &wanted, NOW);
    assert!(matches!(read(&answer), Err(FetchError::Answer(_))));
    answer["issued_token_type"] = json!("urn:ietf:params:oauth:token-type:jwt");
    assert!(matches!(read(&answer), Err(FetchError::Answer(_))));
    answer["issued_token_type"] = json!(ACCESS_TOKEN);
    assert_eq!(read(&answer).unwrap().expires, NOW.plus(60));
}
