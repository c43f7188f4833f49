//! The binding: every member of `cnf`, the scheme, the current actor.

use serde_json::{Value, json};

use crate::{
    CertThumbprint, Rejection, SenderConstraint,
    testing::{Call, OTHER_KEY, PROOF_KEY, SHOP, World, id, stranger},
};

#[track_caller]
fn refused(cnf: Value, rejection: Rejection) {
    let token = World::new().token().claim("cnf", cnf).issued();
    assert_eq!(World::new().bearer_reason(&token), Some(rejection));
    let proof = World::new().proof(&token).proven();
    assert!(World::new().reason(&Call::dpop(&token, &proof)).is_some());
}

#[test]
fn a_token_without_binding_is_no_token() {
    let token = World::new().token().without("cnf").issued();
    assert_eq!(World::new().bearer_reason(&token), Some(Rejection::BindingMissing));
    let proof = World::new().proof(&token).proven();
    assert_eq!(World::new().reason(&Call::dpop(&token, &proof)), Some(Rejection::BindingMissing));
    refused(json!({}), Rejection::BindingMissing);
}

#[test]
fn what_is_not_understood_refuses_even_beside_what_is() {
    let thumbprint = World::new().peer.thumbprint.to_string();
    refused(json!({"x5t#S256": thumbprint, "kid": "1"}), Rejection::BindingUnknown);
    refused(json!({"x5t#S256": thumbprint, "x5t": "1"}), Rejection::BindingUnknown);
    refused(json!({"jwk": PROOF_KEY.public_jwk()}), Rejection::BindingUnknown);
}

#[test]
fn a_thumbprint_has_one_spelling() {
    let der = b"the certificate of shop";
    let text = CertThumbprint::of_der(der).to_string();
    let hex: String = (0..64).map(|_| 'a').collect();
    for bad in [
        json!(format!("{text}=")),
        json!(hex),
        json!(&text[1..]),
        json!(format!(" {text}")),
        json!(null),
        json!([text]),
        json!(""),
    ] {
        refused(json!({"x5t#S256": bad}), Rejection::TokenMalformed);
        refused(json!({"jkt": bad}), Rejection::TokenMalformed);
    }
    refused(json!("x5t#S256"), Rejection::TokenMalformed);
    refused(json!(null), Rejection::TokenMalformed);
}

#[test]
fn a_stolen_certificate_bound_token_is_useless() {
    let mut thief = World::new();
    let token = thief.token().issued();
    thief.peer.thumbprint = CertThumbprint::of_der(b"the certificate of intruder");
    thief.peer.spiffe_id = id("spiffe://bank.example/ns/evil/sa/intruder");
    let refusal = thief.refusal(&Call::bearer(&token));
    assert_eq!(refusal.rejection, Rejection::BindingCertMismatch);
    assert_eq!(refusal.client_id.as_deref(), Some(SHOP), "the signature was good");
}

#[test]
fn the_ca_or_an_older_certificate_of_the_same_pod_does_not_count() {
    let mut world = World::new();
    let token = world.token().issued();
    world.peer.thumbprint = CertThumbprint::of_der(b"the next certificate of shop");
    assert_eq!(world.bearer_reason(&token), Some(Rejection::BindingCertMismatch));
}

#[test]
fn the_scheme_must_be_that_of_the_binding() {
    let mut world = World::new();
    let bound = world.dpop_token().issued();
    assert_eq!(world.bearer_reason(&bound), Some(Rejection::BoundTokenSentAsBearer));
    let with_proof = Call::bearer(&bound).header("dpop", &world.proof(&bound).proven());
    assert_eq!(world.reason(&with_proof), Some(Rejection::BoundTokenSentAsBearer));
    let by_certificate = world.token().issued();
    let proof = world.proof(&by_certificate).proven();
    assert_eq!(world.reason(&Call::dpop(&by_certificate, &proof)), Some(Rejection::BindingMissing));
}

#[test]
fn both_members_are_proven_or_none_counts() {
    let world = World::new();
    let (x5t, jkt) = (world.peer.thumbprint.to_string(), PROOF_KEY.thumbprint().to_string());
    let other = CertThumbprint::of_der(b"other").to_string();
    let cases = [
        (json!({"x5t#S256": x5t, "jkt": jkt}), None),
        (json!({"x5t#S256": other, "jkt": jkt}), Some(Rejection::BindingCertMismatch)),
        (json!({"x5t#S256": x5t, "jkt": stranger().to_string()}), Some(Rejection::ProofKeyMismatch)),
    ];
    for (cnf, outcome) in cases {
        let token = world.token().claim("cnf", cnf).issued();
        let proof = world.proof(&token).proven();
        assert_eq!(World::new().reason(&Call::dpop(&token, &proof)), outcome);
        assert!(World::new().bearer_reason(&token).is_some());
    }
}

#[test]
fn the_policy_says_which_bindings_it_takes() {
    for (taken, mtls, dpop) in [
        (SenderConstraint::Mtls, None, Some(Rejection::BindingMissing)),
        (SenderConstraint::Dpop, Some(Rejection::BindingMissing), None),
    ] {
        let mut world = World::new();
        world.wire.sender_constraints = vec![taken];
        let token = world.token().issued();
        assert_eq!(world.bearer_reason(&token), mtls);
        let token = world.dpop_token().issued();
        let proof = world.proof(&token).proven();
        assert_eq!(world.reason(&Call::dpop(&token, &proof)), dpop);
    }
}

#[test]
fn the_current_actor_is_the_peer() {
    let gateway = "spiffe://bank.example/ns/bank/sa/gateway";
    let token = World::new().token();
    for (act, outcome) in [
        (json!({"sub": gateway}), Some(Rejection::CallerMismatch)),
        (json!({"sub": SHOP}), None),
        (json!({"sub": SHOP, "act": {"sub": gateway}}), None),
        (json!({"sub": gateway, "act": {"sub": SHOP}}), Some(Rejection::CallerMismatch)),
        (json!({"act": {"sub": SHOP}}), Some(Rejection::TokenMalformed)),
        (json!(SHOP), Some(Rejection::TokenMalformed)),
    ] {
        let token = token.clone().claim("act", act).issued();
        assert_eq!(World::new().bearer_reason(&token), outcome);
    }
    let of_another = token.claim("sub", gateway).issued();
    assert_eq!(World::new().bearer_reason(&of_another), Some(Rejection::CallerMismatch));
}

#[test]
fn an_admission_says_for_whom_the_call_is_made() {
    let mut world = World::new();
    let admission = world.admission(&Call::bearer(&world.token().issued()));
    assert_eq!(admission.subject(), None, "for the caller itself");
    let (web, other) = ("spiffe://bank.example/ns/web/sa/web", "spiffe://bank.example/ns/web/sa/other");
    let token = world.token().claim("sub", web).claim("act", json!({"sub": SHOP, "act": {"sub": other}})).issued();
    let admission = world.admission(&Call::bearer(&token));
    assert_eq!(admission.subject(), Some(web));
    assert_eq!(admission.caller().as_str(), SHOP);
}

#[test]
fn only_a_proven_token_can_be_exchanged() {
    let token = World::new().token().issued();
    let call = Call::bearer(&token);
    assert_eq!(World::new().admission(&call).exchangeable(&call.headers), Some(&*token));
    let mut world = World::audit();
    let observed = Call::bearer(&world.token().claim("aud", "https://other.bank").issued());
    assert_eq!(world.admission(&observed).exchangeable(&observed.headers), None);
}

#[test]
fn actors_nest_eight_deep_and_no_deeper() {
    let nested = |depth: usize| {
        let inner = (1..depth).fold(json!({"sub": "x"}), |inner, _| json!({"sub": "x", "act": inner}));
        let mut act = inner;
        act["sub"] = SHOP.into();
        World::new().token().claim("act", act).issued()
    };
    assert_eq!(World::new().bearer_reason(&nested(8)), None);
    assert_eq!(World::new().bearer_reason(&nested(9)), Some(Rejection::TokenMalformed));
}

#[test]
fn a_stolen_proof_key_does_not_help_on_another_connection() {
    let mut thief = World::new();
    let token = thief.dpop_token().issued();
    let proof = thief.proof(&token).proven();
    thief.peer.spiffe_id = id("spiffe://bank.example/ns/evil/sa/intruder");
    assert_eq!(thief.reason(&Call::dpop(&token, &proof)), Some(Rejection::CallerMismatch));
    let own_key = thief.proof(&token).head("jwk", OTHER_KEY.public_jwk()).sign(&OTHER_KEY);
    assert_eq!(thief.reason(&Call::dpop(&token, &own_key)), Some(Rejection::ProofKeyMismatch));
}
