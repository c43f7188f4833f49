//! An assertion of a client: the first byte says what is bent, the whole text, its header or its claims.
#![no_main]

use std::sync::{Arc, LazyLock};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use fapi::{AssertionFault, ClientAssertion, KeySet, UnixTime, VerifiedAssertion};
use fuzz::{ISSUER, NOW, SHOP, WORLD, key_set, object, published};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

static KEYS: LazyLock<[Arc<KeySet>; 1]> = LazyLock::new(|| [Arc::new(key_set(&[published(&WORLD.holder)]))]);
static GOOD: LazyLock<String> = LazyLock::new(|| signed(header().as_bytes(), claims().as_bytes()));

fn header() -> String {
    json!({"alg": "ES256", "typ": "client-authentication+jwt", "kid": WORLD.holder.kid()}).to_string()
}

fn claims() -> String {
    json!({"iss": SHOP, "sub": SHOP, "aud": ISSUER, "jti": "a-1", "iat": NOW, "exp": NOW + 60}).to_string()
}

fn signed(header: &[u8], claims: &[u8]) -> String {
    WORLD.holder.sign_compact(header, claims).unwrap()
}

fn verify(text: &str) -> Result<(String, VerifiedAssertion), AssertionFault> {
    let assertion = ClientAssertion::parse(text)?;
    let verified = assertion.verify(ISSUER, &*KEYS, UnixTime::from_secs(NOW))?;
    Ok((assertion.client().to_owned(), verified))
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, bent)) = data.split_first() else { return };
    let text = match choice % 3 {
        0 => String::from_utf8_lossy(bent).replace("$good", &GOOD),
        1 => signed(bent, claims().as_bytes()),
        _ => signed(header().as_bytes(), bent),
    };
    let verdict = verify(&text);
    assert_eq!(verdict, verify(&text));
    let Ok((client, verified)) = verdict else { return };
    assert!(choice % 3 != 0 || text == *GOOD, "nobody has signed it");
    let part = |at: usize| URL_SAFE_NO_PAD.decode(text.split('.').nth(at).unwrap()).unwrap();
    let [header, claims] = [0, 1].map(|at| object(&part(at)).expect("one object, no member twice"));
    judge_header(&header);
    judge_claims(&claims, &client, &verified);
});

fn judge_header(header: &Map<String, Value>) {
    assert_eq!(header["alg"], "ES256");
    assert!(header.get("kid").is_none_or(|kid| kid == WORLD.holder.kid()));
    let typ = header.get("typ").map(|typ| typ.as_str().unwrap().to_ascii_lowercase());
    let known = ["jwt", "client-authentication+jwt", "application/client-authentication+jwt"];
    assert!(typ.is_none_or(|typ| known.contains(&&*typ)));
    assert!(!["jwk", "jku", "x5u", "x5c", "crit"].iter().any(|name| header.contains_key(*name)));
}

fn judge_claims(claims: &Map<String, Value>, client: &str, verified: &VerifiedAssertion) {
    assert!(claims["iss"] == client && claims["sub"] == client && !client.is_empty());
    assert_eq!(claims["aud"], ISSUER);
    assert_eq!(claims["jti"], verified.id());
    assert!((1..=256).contains(&verified.id().len()));
    let time = |name: &str| claims.get(name).map(|value| value.as_u64().expect("whole and not below zero"));
    let exp = time("exp").unwrap();
    assert!(NOW < exp + 5 && exp <= NOW + 400);
    assert!(time("iat").unwrap_or(0) <= NOW + 30 && time("nbf").unwrap_or(0) <= NOW + 30);
    assert_eq!(verified.until(), UnixTime::from_secs(exp + 5));
}
