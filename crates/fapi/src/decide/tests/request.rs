//! What happens before the token is read: policy state, and exactly one token.

use std::sync::Arc;

use http::Method;

use crate::{
    AdmissionKind, Mode, PortPolicy, Rejection, SpiffeId, TcpPolicy, TokenHash, TrustDomain, WireTcpPolicy,
    testing::{Call, SHOP, World, namespace},
};

#[test]
fn a_good_call_is_admitted_with_its_facts() {
    let mut world = World::new();
    let token = world.token().issued();
    for scheme in ["Bearer", "bearer", "BEARER", "Bearer  "] {
        let admission = world.admission(&Call::bare().header("authorization", &format!("{scheme} {token}")));
        assert_eq!(admission.kind(), AdmissionKind::Proven);
        assert_eq!(admission.client_id(), Some(SHOP));
        assert_eq!(admission.caller().as_str(), SHOP);
        assert_eq!(admission.token_hash(), Some(&TokenHash::of(&token)));
        assert_eq!(admission.expires(), Some(world.now.plus(300)));
        assert_eq!(admission.policy(), "bank/payments");
    }
}

#[test]
fn without_a_policy_nothing_passes() {
    let mut world = World::audit();
    let call = Call::bearer(&world.token().issued());
    world.policy = Some(PortPolicy::Missing);
    let refusal = world.refusal(&call);
    assert_eq!((refusal.rejection, refusal.policy), (Rejection::PolicyMissing, None));
    assert_eq!(refusal.answer.status, 503);
    world.policy = Some(PortPolicy::Invalid { name: Arc::from("bank/broken") });
    let refusal = world.refusal(&call);
    assert_eq!((refusal.rejection, refusal.policy.as_deref()), (Rejection::PolicyInvalid, Some("bank/broken")));
    let wire = WireTcpPolicy { name: "bank/db".to_owned(), mode: Mode::Audit, callers: vec![namespace("bank")] };
    let domain = TrustDomain::parse("bank.example").unwrap();
    world.policy = Some(PortPolicy::Tcp(Arc::new(TcpPolicy::compile(&domain, &wire).unwrap())));
    let refusal = world.refusal(&call);
    assert_eq!((refusal.rejection, refusal.policy.as_deref()), (Rejection::OpaqueNotAllowed, Some("bank/db")));
}

#[test]
fn without_a_token_the_answer_names_no_error() {
    let mut world = World::new();
    for call in [
        Call::bare(),
        Call::bare().header("authorization", ""),
        Call::bare().header("authorization", "Bearer"),
        Call::bare().header("authorization", "Bearer "),
        Call::bare().header("authorization", "Basic c2hvcDpwYXNzd29yZA=="),
        Call::bare().header("authorization", "Bearerx y"),
        Call::bare().header("authorization", "Bearer\ta.b.c"),
        Call::bare().header("x-forwarded-access-token", "a.b.c"),
    ] {
        let refusal = world.refusal(&call);
        assert_eq!(refusal.rejection, Rejection::TokenMissing);
        assert_eq!((refusal.answer.error, refusal.client_id), (None, None));
        assert!(refusal.token_hash.is_none());
    }
}

#[test]
fn more_than_one_token_is_malformed() {
    let mut world = World::new();
    let token = world.token().issued();
    let good = Call::bearer(&token);
    for call in [
        good.clone().header("authorization", &format!("Bearer {token}")),
        good.clone().header("authorization", "Basic x"),
        Call::bare().header("authorization", &format!("Bearer {token}, DPoP {token}")),
        Call::bare().header("authorization", &format!("Bearer {token},{token}")),
        Call::bare().header("authorization", &format!("Bearer \t{token}")),
        Call::bare().header("authorization", &format!("Bearer {token} ")),
        good.clone().header("dpop", "a").header("dpop", "b"),
        good.clone().query(&format!("access_token={token}")),
        Call::bare().query("x=1&%61ccess_token=1"),
    ] {
        assert_eq!(world.reason(&call), Some(Rejection::RequestMalformed));
    }
    assert_eq!(world.reason(&good.query("page=2")), None);
}

#[test]
fn a_path_that_can_be_read_twice_is_malformed() {
    let mut world = World::new();
    let token = world.token().issued();
    for path in ["/accounts/../transfers", "/transfers;x", "//transfers", "/%74ransfers", "/transfers%2f", "*", ""] {
        let call = Call::bearer(&token).to(Method::POST, path);
        assert_eq!(world.reason(&call), Some(Rejection::RequestMalformed), "{path}");
    }
}

#[test]
fn keys_that_are_missing_are_asked_for_once() {
    let mut world = World::new();
    world.keys = crate::IssuerKeys::new();
    world.keys_fresh = false;
    let call = Call::bearer(&world.token().issued());
    let crate::Verdict::NeedKeys(issuer) = world.ask(&call) else { panic!("no keys were asked for") };
    assert_eq!(issuer.as_str(), crate::testing::ISSUER);
    world.keys_fresh = true;
    assert_eq!(world.reason(&call), Some(Rejection::KeyNotFound));
}

#[test]
fn the_caller_is_the_connection_whatever_headers_say() {
    let mut world = World::new();
    let call = Call::bearer(&world.token().issued())
        .header("x-fapi-caller", "spiffe://bank.example/ns/bank/sa/ledger")
        .header("x-forwarded-client-cert", "By=spiffe://bank.example/ns/bank/sa/ledger");
    assert_eq!(world.admission(&call).caller(), &SpiffeId::parse(SHOP).unwrap());
}
