//! The proof: every check of RFC 9449 section 4.3, each broken alone.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Method;
use serde_json::{Value, json};

use crate::{
    NonceMinter, ProofClaims, ProofSigner, Rejection, ReplaySet, SigningKey, TokenHash,
    testing::{Call, Jwt, NOW, OTHER_KEY, PROOF_KEY, World},
};

/// The outcome of a transfer whose good proof was bent.
fn outcome(bend: impl Fn(Jwt) -> Jwt) -> Option<Rejection> {
    let mut world = World::new();
    let token = world.dpop_token().issued();
    let proof = bend(world.proof(&token)).proven();
    world.reason(&Call::dpop(&token, &proof))
}

#[track_caller]
fn refused(rejection: Rejection, bend: impl Fn(Jwt) -> Jwt) {
    assert_eq!(outcome(bend), Some(rejection));
}

#[test]
fn a_good_proof_is_admitted_once() {
    let mut world = World::new();
    let token = world.dpop_token().issued();
    let call = Call::dpop(&token, &world.proof(&token).proven());
    assert_eq!(world.reason(&call), None);
    assert_eq!(world.reason(&call), Some(Rejection::ProofReplayed));
    // Another text with the same jti and key, as a changed ECDSA signature would be, is the same proof.
    let again = Call::dpop(&token, &world.proof(&token).claim("extra", 1).proven());
    assert_eq!(world.reason(&again), Some(Rejection::ProofReplayed));
    let next = Call::dpop(&token, &world.proof(&token).claim("jti", "p-2").proven());
    assert_eq!(world.reason(&next), None);
}

#[test]
fn scheme_names_have_no_case() {
    let mut world = World::new();
    let token = world.dpop_token().issued();
    for (index, scheme) in ["DPoP", "dpop", "DPOP"].into_iter().enumerate() {
        let proof = world.proof(&token).claim("jti", format!("p-{index}")).proven();
        let call = Call::bare().header("authorization", &format!("{scheme} {token}")).header("dpop", &proof);
        assert_eq!(world.reason(&call), None);
    }
}

#[test]
fn our_own_proofs_are_good() {
    let mut world = World::new();
    let signer = ProofSigner::generate().unwrap();
    let token = world.token().claim("cnf", json!({"jkt": signer.thumbprint().to_string()})).issued();
    let (hash, nonce) = (TokenHash::of(&token), world.nonces.mint(world.now));
    let htu = "https://payments.bank/transfers?x=1#y";
    let claims = ProofClaims { htm: "POST", htu, ath: Some(&hash), nonce: Some(&nonce), jti: "1", now: world.now };
    let proof = signer.proof(&claims).unwrap();
    assert_eq!(world.reason(&Call::dpop(&token, &proof).query("x=1")), None);
}

#[test]
fn without_a_proof_the_scheme_is_empty() {
    let mut world = World::new();
    let token = world.dpop_token().issued();
    let call = Call::bare().header("authorization", &format!("DPoP {token}"));
    assert_eq!(world.reason(&call), Some(Rejection::ProofMissing));
}

#[test]
fn what_is_no_proof_is_malformed() {
    let malformed = Rejection::ProofMalformed;
    for name in ["typ", "alg", "jwk"] {
        refused(malformed, |proof| proof.headless(name));
    }
    for name in ["jti", "htm", "htu", "iat"] {
        refused(malformed, |proof| proof.without(name));
        refused(malformed, |proof| proof.claim(name, Value::Null));
    }
    for typ in ["JWT", "dpop", "DPoP+jwt ", "at+jwt"] {
        refused(malformed, |proof| proof.head("typ", typ));
    }
    for alg in ["none", "HS256", "RS256", "ES384", "PS256", "EdDSA", "es256"] {
        refused(malformed, |proof| proof.head("alg", alg));
    }
    refused(malformed, |proof| proof.head("crit", json!(["htm"])));
    refused(malformed, |proof| proof.claim("jti", ""));
    refused(malformed, |proof| proof.claim("jti", "x".repeat(257)));
    refused(malformed, |proof| proof.claim("iat", NOW.to_string()));
    refused(malformed, |proof| proof.claim("ath", 1));
    refused(malformed, |proof| proof.claim("nonce", json!(["x"])));
    refused(malformed, |proof| proof.claim("padding", "x".repeat(4096)));
    for text in ["", "x", "a.b.c", "e30.e30.", "\u{e9}"] {
        let mut call = Call::bare().header("authorization", &format!("DPoP {}", World::new().dpop_token().issued()));
        call.headers.insert("dpop", http::HeaderValue::from_bytes(text.as_bytes()).unwrap());
        assert_eq!(World::new().reason(&call), Some(malformed), "{text}");
    }
    assert_eq!(outcome(|proof| proof.claim("jti", "x".repeat(256))), None);
}

#[test]
fn a_key_in_a_proof_is_public_and_fits_the_algorithm() {
    let malformed = Rejection::ProofMalformed;
    for name in ["d", "p", "q", "dp", "dq", "qi", "k", "oth"] {
        let mut jwk = PROOF_KEY.public_jwk();
        jwk[name] = "AA".into();
        refused(malformed, |proof| proof.head("jwk", jwk.clone()));
    }
    let with = |name: &str, value: Value| {
        let mut jwk = PROOF_KEY.public_jwk();
        jwk[name] = value;
        jwk
    };
    for jwk in [
        with("kty", json!("OKP")),
        with("kty", json!("oct")),
        with("crv", json!("P-384")),
        with("crv", json!("Ed25519")),
        with("x", json!("AA")),
        with("y", PROOF_KEY.public_jwk()["x"].clone()),
        with("alg", json!("PS256")),
        with("use", json!("enc")),
        json!("jwk"),
        json!({}),
    ] {
        refused(malformed, |proof| proof.head("jwk", jwk.clone()));
    }
    assert_eq!(outcome(|proof| proof.head("jwk", with("alg", json!("ES256")))), None);
    assert_eq!(outcome(|proof| proof.head("jwk", with("kid", json!("any")))), None);
}

#[test]
fn a_proof_signed_by_another_key_than_it_shows_is_malformed() {
    let mut world = World::new();
    let token = world.dpop_token().issued();
    let proof = world.proof(&token).sign(&OTHER_KEY);
    assert_eq!(world.reason(&Call::dpop(&token, &proof)), Some(Rejection::ProofMalformed));
    let own = world.proof(&token).head("jwk", OTHER_KEY.public_jwk()).sign(&OTHER_KEY);
    assert_eq!(world.reason(&Call::dpop(&token, &own)), Some(Rejection::ProofKeyMismatch));
}

#[test]
fn a_header_seen_before_proves_nothing() {
    let mut world = World::new();
    let token = world.dpop_token().issued();
    let good = world.proof(&token);
    assert_eq!(world.reason(&Call::dpop(&token, &good.proven())), None);
    let next = good.claim("jti", "p-2");
    assert_eq!(world.reason(&Call::dpop(&token, &next.sign(&OTHER_KEY))), Some(Rejection::ProofMalformed));
    let keys: Vec<_> = (0..6).map(|_| SigningKey::generate().unwrap()).collect();
    for key in keys.iter().chain(&keys) {
        // More keys than are remembered: each is still told apart.
        let stranger = next.clone().head("jwk", key.public_jwk());
        assert_eq!(world.reason(&Call::dpop(&token, &stranger.sign(key))), Some(Rejection::ProofKeyMismatch));
        assert_eq!(world.reason(&Call::dpop(&token, &stranger.proven())), Some(Rejection::ProofMalformed));
    }
    assert_eq!(world.reason(&Call::dpop(&token, &next.proven())), None);
}

#[test]
fn members_given_twice_are_malformed() {
    let mut world = World::new();
    let token = world.dpop_token().issued();
    let proof = world.proof(&token);
    let (header, claims) = (Value::from(proof.header).to_string(), Value::from(proof.claims).to_string());
    for (header, claims) in [
        (header.replacen('{', r#"{"typ":"dpop+jwt","#, 1), claims.clone()),
        (header.replacen(r#""jwk":{"#, r#""jwk":{"kty":"EC","#, 1), claims.clone()),
        (header.clone(), claims.replacen('{', r#"{"htm":"POST","#, 1)),
    ] {
        let proof = PROOF_KEY.sign_compact(header.as_bytes(), claims.as_bytes()).unwrap();
        assert_eq!(world.reason(&Call::dpop(&token, &proof)), Some(Rejection::ProofMalformed));
    }
}

#[test]
fn method_and_url_are_those_of_the_request() {
    for method in ["GET", "post", "PUT", ""] {
        refused(Rejection::ProofHtm, |proof| proof.claim("htm", method));
    }
    for htu in [
        "https://payments.bank/accounts",
        "https://ledger.bank/transfers",
        "http://payments.bank/transfers",
        "/transfers",
        "",
    ] {
        refused(Rejection::ProofHtu, |proof| proof.claim("htu", htu));
    }
    for htu in [
        "https://payments.bank/transfers?x=1#y",
        "HTTPS://PAYMENTS.bank:443/transfers",
        "https://api.bank.example/transfers",
    ] {
        assert_eq!(outcome(|proof| proof.claim("htu", htu)), None, "{htu}");
    }
}

#[test]
fn host_and_forwarded_headers_do_not_move_the_url() {
    let mut world = World::new();
    let token = world.dpop_token().issued();
    let proof = world.proof(&token).claim("htu", "https://evil.example/transfers").proven();
    let call = Call::dpop(&token, &proof)
        .header("host", "evil.example")
        .header("x-forwarded-host", "evil.example")
        .header("forwarded", "host=evil.example;proto=https");
    assert_eq!(world.reason(&call), Some(Rejection::ProofHtu));
}

#[test]
fn origins_count_only_with_their_own_audience() {
    let mut world = World::new();
    let other = crate::WireResource {
        audience: "https://ledger.bank".to_owned(),
        origins: vec!["https://ledger.bank".to_owned()],
    };
    world.wire.resources.push(other);
    let token = world.dpop_token().issued();
    let proof = world.proof(&token).claim("htu", "https://ledger.bank/transfers").proven();
    assert_eq!(world.reason(&Call::dpop(&token, &proof)), Some(Rejection::ProofHtu));
}

#[test]
fn the_proof_is_for_this_token() {
    refused(Rejection::ProofAth, |proof| proof.without("ath"));
    refused(Rejection::ProofAth, |proof| proof.claim("ath", TokenHash::of("another").ath()));
    refused(Rejection::ProofAth, |proof| proof.claim("ath", ""));
}

#[test]
fn proofs_are_young() {
    for (iat, outcome_wanted) in [
        (NOW - 60, None),
        (NOW - 61, Some(Rejection::ProofStale)),
        (NOW + 10, None),
        (NOW + 11, Some(Rejection::ProofStale)),
        (NOW - 3600, Some(Rejection::ProofStale)),
        (0, Some(Rejection::ProofStale)),
    ] {
        assert_eq!(outcome(|proof| proof.claim("iat", iat)), outcome_wanted, "{iat}");
    }
    refused(Rejection::ProofStale, |proof| proof.claim("exp", NOW - 6));
    refused(Rejection::ProofStale, |proof| proof.claim("nbf", NOW + 11));
    assert_eq!(outcome(|proof| proof.claim("exp", NOW + 60).claim("nbf", NOW)), None);
    // A stale proof is told so, whatever its nonce.
    refused(Rejection::ProofStale, |proof| proof.claim("iat", NOW - 61).without("nonce"));
}

#[test]
fn a_nonce_of_this_process_is_wanted() {
    refused(Rejection::ProofNonceRequired, |proof| proof.without("nonce"));
    let of_another = NonceMinter::new([8; 32]).mint(World::new().now);
    let flipped = URL_SAFE_NO_PAD.encode([0; 24]);
    for nonce in [of_another.as_str(), flipped.as_str(), "", "x"] {
        refused(Rejection::ProofNonceStale, |proof| proof.claim("nonce", nonce));
    }
    for (age, outcome_wanted) in [(300, None), (301, Some(Rejection::ProofNonceStale))] {
        let old = World::new().nonces.mint(World::new().now.minus(age));
        assert_eq!(outcome(|proof| proof.claim("nonce", old.as_str())), outcome_wanted, "{age}");
    }
    let mut world = World::new();
    let token = world.dpop_token().issued();
    let refusal = world.refusal(&Call::dpop(&token, &world.proof(&token).without("nonce").proven()));
    assert!(refusal.answer.wants_nonce);
    assert_eq!(refusal.answer.error, Some("use_dpop_nonce"));
}

#[test]
fn nothing_is_reserved_for_a_call_that_is_refused() {
    let mut world = World::new();
    let token = world.dpop_token().issued();
    let proof = world.proof(&token).proven();
    let (signed, _) = proof.rsplit_once('.').unwrap();
    let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode([1; 64]));
    assert_eq!(world.reason(&Call::dpop(&token, &forged)), Some(Rejection::ProofMalformed));
    let narrow = world.dpop_token().claim("scope", "none").issued();
    let refused = world.proof(&narrow).proven();
    assert_eq!(world.reason(&Call::dpop(&narrow, &refused)), Some(Rejection::ScopeInsufficient));
    assert_eq!(world.reason(&Call::dpop(&token, &proof)), None, "the same jti is still free");
}

#[test]
fn a_full_store_refuses() {
    let mut world = World::new();
    world.replay = ReplaySet::new(0, 0);
    let token = world.dpop_token().issued();
    let refusal = world.refusal(&Call::dpop(&token, &world.proof(&token).proven()));
    assert_eq!((refusal.rejection, refusal.answer.status.as_u16()), (Rejection::ReplayStoreFull, 503));
}

#[test]
fn a_certificate_bound_token_ignores_a_proof_beside_it() {
    let mut world = World::new();
    let call = Call::bearer(&world.token().issued()).header("dpop", "anything").to(Method::POST, "/transfers");
    assert_eq!(world.reason(&call), None);
}
