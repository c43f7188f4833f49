//! Rules, callers, scopes; and what stays true on a connection that has proven its token.

use http::Method;

use crate::{
    Rejection,
    testing::{Call, World, account, id},
};

#[test]
fn the_reason_is_the_furthest_reached() {
    let mut world = World::new();
    let token = world.token().issued();
    let call = Call::bearer(&token);
    assert_eq!(world.reason(&call.clone().to(Method::POST, "/nowhere")), Some(Rejection::RuleNotMatched));
    assert_eq!(world.reason(&call.clone().to(Method::DELETE, "/transfers")), Some(Rejection::RuleNotMatched));
    assert_eq!(world.reason(&call.clone().to(Method::GET, "/accounts/7")), None);
    let narrow = world.token().claim("scope", "accounts:read").issued();
    let refusal = world.refusal(&Call::bearer(&narrow));
    assert_eq!((refusal.rejection, refusal.answer.status.as_u16()), (Rejection::ScopeInsufficient, 403));
    let challenge = refusal.answer.www_authenticate.unwrap();
    assert_eq!(challenge, r#"Bearer error="insufficient_scope", scope="transfers:write""#);
    let without = world.token().without("scope").issued();
    assert_eq!(world.bearer_reason(&without), Some(Rejection::ScopeInsufficient));
}

#[test]
fn a_good_token_of_a_caller_that_no_rule_names_is_refused() {
    let mut world = World::new();
    let ledger = "spiffe://bank.example/ns/bank/sa/ledger";
    world.peer.spiffe_id = id(ledger);
    let token = world.token().claim("sub", ledger).claim("client_id", ledger).issued();
    let refusal = world.refusal(&Call::bearer(&token));
    assert_eq!((refusal.rejection, refusal.answer.status.as_u16()), (Rejection::CallerNotAllowed, 403));
    assert_eq!((refusal.answer.error, refusal.answer.www_authenticate), (Some("access_denied"), None));
    assert_eq!(world.reason(&Call::bearer(&token).to(Method::GET, "/accounts")), None);
}

#[test]
fn a_policy_change_counts_at_the_next_request() {
    let mut world = World::new();
    let call = Call::bearer(&world.token().issued());
    assert_eq!(world.reason(&call), None);
    world.wire.rules[0].callers = vec![account("bank", "other")];
    world.generation += 1;
    assert_eq!(world.reason(&call), Some(Rejection::CallerNotAllowed));
    world.wire = crate::testing::wire_policy();
    world.generation += 1;
    assert_eq!(world.reason(&call), None);
}

#[test]
fn a_proven_token_is_judged_again_each_time() {
    let fresh = || {
        let mut world = World::new();
        let call = Call::bearer(&world.token().issued());
        assert_eq!(world.reason(&call), None);
        (world, call)
    };
    let (mut world, call) = fresh();
    world.now = world.now.plus(305);
    assert_eq!(world.reason(&call), Some(Rejection::TokenExpired));
    let (mut world, call) = fresh();
    world.now = world.now.minus(11);
    assert_eq!(world.reason(&call), Some(Rejection::TokenNotYetValid));
    let (mut world, call) = fresh();
    world.peer.thumbprint = crate::CertThumbprint::of_der(b"other");
    assert_eq!(world.reason(&call), Some(Rejection::BindingCertMismatch));
    let (mut world, call) = fresh();
    world.peer.spiffe_id = id("spiffe://bank.example/ns/bank/sa/other");
    assert_eq!(world.reason(&call), Some(Rejection::CallerMismatch));
    let (mut world, call) = fresh();
    world.wire.resources[0].audience = "https://ledger.bank".to_owned();
    assert_eq!(world.reason(&call), Some(Rejection::AudienceMismatch), "even without a new generation");
    let (mut world, call) = fresh();
    assert_eq!(world.reason(&call.to(Method::POST, "/nowhere")), Some(Rejection::RuleNotMatched));
}

#[test]
fn keys_that_are_gone_count_at_the_next_generation() {
    let mut world = World::new();
    let call = Call::bearer(&world.token().issued());
    assert_eq!(world.reason(&call), None);
    world.keys = crate::IssuerKeys::new();
    assert_eq!(world.reason(&call), None, "proven under this generation");
    world.generation += 1;
    assert_eq!(world.reason(&call), Some(Rejection::KeyNotFound));
}
