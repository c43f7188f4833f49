use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::*;
use crate::{
    SigningKey, crypto,
    jws::tests::rsa,
    testing::{ISSUER, ISSUER_KEY, NOW, OTHER_KEY, PROOF_KEY, SHOP, key_set, other_implementation, published},
};

fn now() -> UnixTime {
    UnixTime::from_secs(NOW)
}

/// The registered keys: two documents, in which one id stands twice.
fn keys() -> Vec<Arc<KeySet>> {
    vec![
        Arc::new(key_set(&[published(&PROOF_KEY, "one"), published(&ISSUER_KEY, "two")])),
        Arc::new(key_set(&[published(&OTHER_KEY, "one")])),
    ]
}

fn header() -> Value {
    json!({"alg": "ES256", "kid": "one"})
}

fn claims() -> Value {
    json!({"iss": SHOP, "sub": SHOP, "aud": ISSUER, "exp": NOW + 60, "iat": NOW, "jti": "a-1"})
}

fn judged(key: &SigningKey, header: &Value, claims: &Value) -> Result<VerifiedAssertion, AssertionFault> {
    let text = key.sign_compact(header.to_string().as_bytes(), claims.to_string().as_bytes()).unwrap();
    let assertion = ClientAssertion::parse(&text)?;
    assert_eq!(assertion.client(), SHOP);
    assertion.verify(ISSUER, &keys(), now())
}

/// The verdict about a good assertion in which this was changed; `null` removes.
fn with(part: &str, changes: Value) -> Result<(), AssertionFault> {
    let (mut header, mut claims) = (header(), claims());
    let bent = if part == "header" { &mut header } else { &mut claims };
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(bent.as_object_mut().unwrap().remove(name)),
            value => bent[name] = value.clone(),
        }
    }
    judged(&PROOF_KEY, &header, &claims).map(|_| ())
}

#[test]
fn a_good_one_is_remembered_for_as_long_as_it_is_taken() {
    let good = judged(&PROOF_KEY, &header(), &claims()).unwrap();
    assert_eq!((good.id(), good.until()), ("a-1", now().plus(65)));
    assert!(judged(&OTHER_KEY, &header(), &claims()).is_ok(), "another key of the client with the same id");
    let text = OTHER_KEY.sign_compact(header().to_string().as_bytes(), claims().to_string().as_bytes()).unwrap();
    let assertion = ClientAssertion::parse(&text).unwrap();
    assert!(assertion.verify(ISSUER, &keys(), good.until().minus(1)).is_ok());
    assert_eq!(assertion.verify(ISSUER, &keys(), good.until()), Err(AssertionFault::Expired));
}

#[test]
fn the_audience_is_the_issuer_as_one_text() {
    for audience in [
        json!([ISSUER]),
        json!([ISSUER, "https://other.example"]),
        json!(format!("{ISSUER}/token")),
        json!(format!("{ISSUER}/")),
        json!(ISSUER.to_uppercase()),
        json!("https://other.example"),
        json!(7),
    ] {
        assert_eq!(with("claims", json!({"aud": audience})), Err(AssertionFault::Audience), "{audience}");
    }
    assert_eq!(with("claims", json!({"aud": null})), Err(AssertionFault::Malformed));
}

#[test]
fn issuer_and_subject_are_the_client() {
    for (changes, fault) in [
        (json!({"sub": null}), AssertionFault::Malformed),
        (json!({"iss": null}), AssertionFault::Malformed),
        (json!({"iss": ISSUER}), AssertionFault::Subject),
        (json!({"sub": "", "iss": ""}), AssertionFault::Subject),
        (json!({"sub": [SHOP]}), AssertionFault::Malformed),
    ] {
        assert_eq!(with("claims", changes.clone()), Err(fault), "{changes}");
    }
}

#[test]
fn times_have_bounds() {
    for (changes, outcome) in [
        (json!({"exp": NOW - 4}), Ok(())),
        (json!({"exp": NOW - 5}), Err(AssertionFault::Expired)),
        (json!({"exp": NOW - 300}), Err(AssertionFault::Expired)),
        (json!({"exp": NOW + 310}), Ok(())),
        (json!({"exp": NOW + 311}), Err(AssertionFault::TooLong)),
        (json!({"exp": null}), Err(AssertionFault::Malformed)),
        (json!({"exp": (NOW + 60).to_string()}), Err(AssertionFault::Malformed)),
        (json!({"exp": 1e30}), Err(AssertionFault::Malformed)),
        (json!({"iat": null}), Ok(())),
        (json!({"iat": NOW + 10, "nbf": NOW + 10}), Ok(())),
        (json!({"iat": NOW + 11}), Err(AssertionFault::NotYetValid)),
        (json!({"nbf": NOW + 61}), Err(AssertionFault::NotYetValid)),
        (json!({"iat": "now"}), Err(AssertionFault::Malformed)),
    ] {
        assert_eq!(with("claims", changes.clone()), outcome, "{changes}");
    }
}

#[test]
fn an_id_is_there_and_short() {
    for id in [json!(null), json!(""), json!(1), json!("x".repeat(257))] {
        assert_eq!(with("claims", json!({"jti": id})), Err(AssertionFault::Malformed), "{id}");
    }
}

#[test]
fn other_jwts_and_algorithms_are_refused() {
    for typ in ["JWT", "jwt", "client-authentication+jwt", "application/client-authentication+jwt"] {
        assert_eq!(with("header", json!({"typ": typ})), Ok(()), "{typ}");
    }
    for typ in ["at+jwt", "dpop+jwt", "oauth-authz-req+jwt", "token-introspection+jwt", ""] {
        assert_eq!(with("header", json!({"typ": typ})), Err(AssertionFault::Type), "{typ}");
    }
    for alg in ["none", "None", "HS256", "RS256", "ES384", "es256", ""] {
        assert_eq!(with("header", json!({"alg": alg})), Err(AssertionFault::Algorithm), "{alg}");
    }
    for name in OWN_KEYS {
        assert_eq!(with("header", json!({name: "x"})), Err(AssertionFault::Malformed), "{name}");
    }
    assert_eq!(with("header", json!({"crit": ["x"]})), Err(AssertionFault::Malformed));
}

#[test]
fn the_key_is_the_clients_by_id_and_algorithm() {
    assert_eq!(with("header", json!({"kid": "three"})), Err(AssertionFault::KeyNotFound));
    assert_eq!(with("header", json!({"alg": "PS256"})), Err(AssertionFault::KeyNotFound));
    assert_eq!(with("header", json!({"kid": "two"})), Err(AssertionFault::Signature));
    let stranger = SigningKey::generate().unwrap();
    assert_eq!(judged(&stranger, &header(), &claims()), Err(AssertionFault::Signature));
    let text = stranger.sign_compact(header().to_string().as_bytes(), claims().to_string().as_bytes()).unwrap();
    let none = ClientAssertion::parse(&text).unwrap().verify(ISSUER, &[], now());
    assert_eq!(none, Err(AssertionFault::KeyNotFound), "a client without keys");
}

#[test]
fn without_a_key_id_no_key_is_tried_after_the_other() {
    let nameless = PROOF_KEY.sign_compact(br#"{"alg":"ES256"}"#, claims().to_string().as_bytes()).unwrap();
    let assertion = ClientAssertion::parse(&nameless).unwrap();
    let own = Arc::new(key_set(&[published(&PROOF_KEY, "one")]));
    let other = Arc::new(key_set(&[published(&OTHER_KEY, "two")]));
    assert!(assertion.verify(ISSUER, std::slice::from_ref(&own), now()).is_ok(), "there is no choice");
    for several in [[own.clone(), other.clone()], [other, own]] {
        assert_eq!(assertion.verify(ISSUER, &several, now()), Err(AssertionFault::KeyNotFound));
    }
}

#[test]
fn assertions_of_another_implementation_are_taken_in_every_algorithm() {
    other_implementation();
    let es256 = EncodingKey::from_ec_der(SigningKey::generate().unwrap().to_pkcs8_der().unwrap().as_ref());
    let eddsa = EncodingKey::from_ed_der(&crypto::testing::ed25519_pkcs8());
    let rsa = rsa(2048);
    for (alg, key, outcome) in [
        (Algorithm::ES256, &es256, Ok(())),
        (Algorithm::EdDSA, &eddsa, Ok(())),
        (Algorithm::PS256, &rsa, Ok(())),
        (Algorithm::RS256, &rsa, Err(AssertionFault::Algorithm)),
    ] {
        let mut jwk = serde_json::to_value(jsonwebtoken::jwk::Jwk::from_encoding_key(key, alg).unwrap()).unwrap();
        jwk["kid"] = "theirs".into();
        let header = Header { kid: Some("theirs".to_owned()), ..Header::new(alg) };
        let text = encode(&header, &claims(), key).unwrap();
        let verdict = ClientAssertion::parse(&text).unwrap().verify(ISSUER, &[Arc::new(key_set(&[jwk]))], now());
        assert_eq!(verdict.map(|_| ()), outcome, "{alg:?}");
    }
}

#[test]
fn only_one_well_formed_jws_is_read() {
    let good = PROOF_KEY.sign_compact(header().to_string().as_bytes(), claims().to_string().as_bytes()).unwrap();
    let long = format!("{good}{}", "A".repeat(5000));
    let cut = good.rsplit_once('.').unwrap().0;
    for text in ["", "x", "a.b.c", cut, &format!(" {good}"), &format!("{good}."), &long] {
        assert_eq!(ClientAssertion::parse(text).map(|_| ()), Err(AssertionFault::Malformed), "{text}");
    }
    let unsigned = format!("{cut}.");
    let unsigned = ClientAssertion::parse(&unsigned).unwrap().verify(ISSUER, &keys(), now());
    assert_eq!(unsigned, Err(AssertionFault::Signature));
}

#[test]
fn what_we_sign_is_taken() {
    let sign = |id: &str| sign_assertion(&OTHER_KEY, SHOP, ISSUER, id, now()).unwrap();
    let text = sign("a-1");
    let assertion = ClientAssertion::parse(&text).unwrap();
    let keys = [Arc::new(key_set(&[published(&OTHER_KEY, OTHER_KEY.kid())]))];
    let good = assertion.verify(ISSUER, &keys, now()).unwrap();
    assert_eq!((assertion.client(), good.id(), good.until()), (SHOP, "a-1", now().plus(65)));
    assert_eq!(assertion.verify("https://other", &keys, now()), Err(AssertionFault::Audience));
    let of_length = |more: usize| {
        let mut claims = claims();
        claims["more"] = "x".repeat(more).into();
        ClientAssertion::parse(&OTHER_KEY.sign_jwt("JWT", &claims).unwrap()).is_ok()
    };
    assert!(of_length(2048) && !of_length(4096));
}
