use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode, jwk::ThumbprintHash};
use serde_json::json;

use super::*;
use crate::{
    Issuer, IssuerKeys, crypto,
    json::Members,
    jwk::Jwk,
    testing::{Call, ISSUER, World, key_set, other_implementation},
};

#[test]
fn another_implementation_reads_what_we_sign() {
    other_implementation();
    let key = SigningKey::generate().unwrap();
    let token = key.sign_jwt("at+jwt", &json!({"sub": "x", "exp": 4_000_000_000_u64})).unwrap();
    let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(key.public_jwk()).unwrap();
    let decoded =
        decode::<Value>(&token, &DecodingKey::from_jwk(&jwk).unwrap(), &Validation::new(Algorithm::ES256)).unwrap();
    assert_eq!(decoded.claims["sub"], "x");
    assert_eq!(decoded.header.kid.as_deref(), Some(key.kid()));
    assert_eq!(decoded.header.typ.as_deref(), Some("at+jwt"));
    assert_eq!(jwk.thumbprint(ThumbprintHash::SHA256).unwrap(), key.kid());
}

#[test]
fn a_jws_may_have_as_many_bytes_as_that() {
    let text = SigningKey::generate().unwrap().sign_jwt("at+jwt", &json!({"sub": "x"})).unwrap();
    assert!(Compact::parse(&text, text.len()).is_ok());
    assert!(Compact::parse(&text, text.len() - 1).is_err());
}

/// A token signed by jsonwebtoken, and the verdict about it.
fn judged(alg: Algorithm, key: &EncodingKey, spelled: Option<&str>) -> Option<crate::Rejection> {
    let mut world = World::new();
    let mut jwk = serde_json::to_value(jsonwebtoken::jwk::Jwk::from_encoding_key(key, alg).unwrap()).unwrap();
    jwk["kid"] = "theirs".into();
    world.keys = IssuerKeys::new();
    world.keys.insert(Issuer::parse(ISSUER).unwrap(), key_set(&[jwk]));
    let header = Header { typ: Some("at+jwt".to_owned()), kid: Some("theirs".to_owned()), ..Header::new(alg) };
    let claims = world.token().claims;
    let token = match spelled {
        None => encode(&header, &claims, key).unwrap(),
        Some(name) => {
            let header = json!({"typ": "at+jwt", "kid": "theirs", "alg": name}).to_string();
            let text =
                format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(json!(claims).to_string()));
            let signature = jsonwebtoken::crypto::sign(text.as_bytes(), key, alg).unwrap();
            format!("{text}.{signature}")
        }
    };
    world.reason(&Call::bearer(&token))
}

pub(crate) fn rsa(bits: usize) -> EncodingKey {
    let body = base64::engine::general_purpose::STANDARD.encode(crypto::testing::rsa_pkcs8(bits));
    let lines: Vec<_> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
    EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap()
}

#[test]
fn tokens_of_another_implementation_are_admitted() {
    other_implementation();
    let es256 = EncodingKey::from_ec_der(SigningKey::generate().unwrap().to_pkcs8_der().unwrap().as_ref());
    assert_eq!(judged(Algorithm::ES256, &es256, None), None);
    let eddsa = EncodingKey::from_ed_der(&crypto::testing::ed25519_pkcs8());
    assert_eq!(judged(Algorithm::EdDSA, &eddsa, None), None);
    assert_eq!(judged(Algorithm::EdDSA, &eddsa, Some("Ed25519")), None);
    let rsa = rsa(2048);
    assert_eq!(judged(Algorithm::PS256, &rsa, None), None);
    assert_eq!(judged(Algorithm::RS256, &rsa, None), Some(crate::Rejection::AlgNotAllowed));
    assert_eq!(judged(Algorithm::RS256, &rsa, Some("PS256")), Some(crate::Rejection::KeyNotFound), "key says RS256");
}

#[test]
fn a_key_survives_being_stored() {
    let key = SigningKey::generate().unwrap();
    let again = SigningKey::from_pkcs8_der(key.to_pkcs8_der().unwrap().as_ref()).unwrap();
    assert_eq!((key.kid(), key.public_jwk()), (again.kid(), again.public_jwk()));
    for bad in [&b""[..], b"junk", &crypto::testing::ed25519_pkcs8()] {
        assert_eq!(SigningKey::from_pkcs8_der(bad).unwrap_err(), SigningError::NotAKey);
    }
    assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.kid()));
}

#[test]
fn a_published_proof_is_read_and_verifies() {
    // RFC 9449 section 4.1, figure 1; the thumbprint is that of section 6.1.
    let text = concat!(
        "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJo",
        "RjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.",
        "eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0",
        "IjoxNTYyMjYyNjE2fQ.",
        "2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg",
    );
    let jws = Compact::parse(text, 4096).unwrap();
    let header = jws.header().unwrap();
    let jwk = Jwk::parse(Members::of(header.view().value("jwk").unwrap()).unwrap()).unwrap();
    assert!(jws.is_signed_by(&jwk.key));
    assert_eq!(jwk.thumbprint.to_string(), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
    assert_eq!(jws.payload().text("htm"), Ok(Some("POST")));
}
