//! Properties over many inputs.

use http::HeaderValue;

use crate::{
    Rejection, Verdict,
    testing::{Call, World},
};

/// Every text that differs from `good` in one bit and can be sent in a header.
fn flips(good: &str) -> impl Iterator<Item = String> {
    (0..good.len() * 8).filter_map(move |bit| {
        let mut bytes = good.as_bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let sendable = HeaderValue::from_bytes(&bytes).is_ok();
        String::from_utf8(bytes).ok().filter(|_| sendable)
    })
}

#[test]
fn no_flipped_bit_of_a_token_is_ever_admitted() {
    let mut world = World::new();
    let good = world.token().issued();
    assert_eq!(world.bearer_reason(&good), None);
    let mut tried = 0;
    for bad in flips(&good) {
        tried += 1;
        assert!(world.bearer_reason(&bad).is_some(), "{bad}");
    }
    assert!(tried > good.len() * 5);
    assert_eq!(world.bearer_reason(&good), None);
}

#[test]
fn no_flipped_bit_of_a_proof_is_ever_admitted() {
    let mut world = World::new();
    let token = world.dpop_token().issued();
    // Its header is known from here on, as on a connection in use.
    let first = world.proof(&token).claim("jti", "p-0").proven();
    assert_eq!(world.reason(&Call::dpop(&token, &first)), None);
    let good = world.proof(&token).proven();
    for bad in flips(&good) {
        assert!(world.reason(&Call::dpop(&token, &bad)).is_some(), "{bad}");
    }
    assert_eq!(world.reason(&Call::dpop(&token, &good)), None, "nothing was reserved by the bad ones");
    assert_eq!(world.reason(&Call::dpop(&token, &good)), Some(Rejection::ProofReplayed));
}

#[test]
fn a_verdict_does_not_depend_on_what_was_proven_before() {
    let maker = World::new();
    let tokens = [
        maker.token().issued(),
        maker.token().claim("scope", "accounts:read").issued(),
        maker.token().claim("aud", "https://ledger.bank").issued(),
        maker.token().claim("exp", crate::testing::NOW + 20).issued(),
        maker.token().claim("sub", "someone else").issued(),
        maker.token().head("typ", "JWT").issued(),
        maker.dpop_token().issued(),
        maker.token().without("cnf").issued(),
        maker.token().claim("jti", "t-2").issued(),
        maker.token().claim("jti", "t-3").issued(),
        "a.b.c".to_owned(),
    ];
    let mut warm = World::new();
    let mut steps = 0_u64;
    for later in [0, 10, 24, 25, 26, 304, 305] {
        for method in [http::Method::POST, http::Method::GET] {
            for path in ["/transfers", "/accounts/1", "/nowhere"] {
                for token in &tokens {
                    steps += 1;
                    let call = Call::bearer(token).to(method.clone(), path);
                    let mut cold = World::new();
                    cold.now = cold.now.plus(later);
                    warm.now = cold.now;
                    warm.generation = steps / 100;
                    assert_eq!(warm.reason(&call), cold.reason(&call), "{method} {path} {later}");
                }
            }
        }
    }
}

#[test]
fn only_what_was_bound_here_is_kept() {
    let mut world = World::new();
    let token = world.token().issued();
    let theirs = world.peer.thumbprint;
    world.peer.thumbprint = crate::CertThumbprint::of_der(b"other");
    assert_eq!(world.bearer_reason(&token), Some(Rejection::BindingCertMismatch));
    world.peer.thumbprint = theirs;
    world.keys = crate::IssuerKeys::new();
    world.keys_fresh = false;
    assert!(matches!(world.ask(&Call::bearer(&token)), Verdict::NeedKeys(_)), "it was not kept");
}

#[test]
fn nothing_printed_for_debugging_shows_a_token() {
    let mut world = World::new();
    let token = world.token().issued();
    let call = Call::bearer(&token).query("secret=1");
    let request =
        crate::Request { method: &call.method, path: &call.path, query: call.query.as_deref(), headers: &call.headers };
    let verdict = world.ask(&call);
    let text = format!("{request:?} {verdict:?} {:?}", world.proven);
    let (_, signature) = token.rsplit_once('.').unwrap();
    assert!(!text.contains(signature) && !text.contains("secret"), "{text}");
}
