//! What a rule demands of a token beyond scopes: authorization details, age, the chain of actors.

use serde_json::{Value, json};

use crate::{
    Context, Rejection, Request, WireActors, WireDetail, decide_again,
    testing::{Call, NOW, SHOP, World, compiled},
};

fn detail(kind: &str, actions: &[&str]) -> WireDetail {
    WireDetail { kind: kind.to_owned(), actions: crate::testing::texts(actions), ..WireDetail::default() }
}

/// A world whose rule for transfers wants a detail.
fn wanting(detail: WireDetail) -> World {
    let mut world = World::new();
    world.wire.rules[0].authorization_details = vec![detail];
    world
}

fn with_details(details: Value) -> String {
    World::new().token().claim("authorization_details", details).issued()
}

/// A token that names this many actors, the caller as the current one.
fn chain(length: usize) -> String {
    let token = World::new().token();
    let Some(inner) = length.checked_sub(1) else { return token.issued() };
    let history = (0..inner).fold(Value::Null, |inner, _| match inner {
        Value::Null => json!({"sub": "x"}),
        inner => json!({"sub": "x", "act": inner}),
    });
    let act = if history.is_null() { json!({"sub": SHOP}) } else { json!({"sub": SHOP, "act": history}) };
    token.claim("sub", "user").claim("act", act).issued()
}

#[test]
fn a_detail_of_the_rule_is_covered_by_one_of_the_token() {
    let mut world = wanting(detail("payment", &["initiate"]));
    for good in [
        json!([{"type": "payment", "actions": ["initiate"]}]),
        json!([{"type": "other"}, {"type": "payment", "actions": ["status", "initiate"], "datatypes": ["x"]}]),
    ] {
        assert_eq!(world.bearer_reason(&with_details(good)), None);
    }
    for bad in [
        json!([]),
        json!([{"type": "payment"}]),
        json!([{"type": "payment", "actions": ["status"]}]),
        json!([{"type": "other", "actions": ["initiate"]}]),
        json!([{"type": "payment", "actions": ["initiate"], "identifier": "account-1"}]),
        json!([{"type": "payment", "actions": ["initiate"], "locations": ["https://ledger.bank"]}]),
        json!([{"type": "payment", "actions": ["initiate"], "instructedAmount": {"amount": "5"}}]),
    ] {
        assert_eq!(world.bearer_reason(&with_details(bad)), Some(Rejection::ScopeInsufficient));
    }
    let without = world.token().issued();
    assert_eq!(world.bearer_reason(&without), Some(Rejection::ScopeInsufficient));
    assert_eq!(World::new().bearer_reason(&with_details(json!([{"type": "any"}]))), None, "no rule wants one");
}

#[test]
fn missing_details_are_told_as_insufficient_scope() {
    let mut world = wanting(detail("payment", &[]));
    world.wire.rules[0].scopes.clear();
    let refusal = world.refusal(&Call::bearer(&World::new().token().issued()));
    assert_eq!(refusal.answer.www_authenticate.as_deref(), Some(r#"Bearer error="insufficient_scope""#));
    assert_eq!(refusal.answer.status, 403);
}

#[test]
fn details_that_are_none_are_malformed() {
    for bad in [
        json!(null),
        json!("payment"),
        json!({"type": "payment"}),
        json!(["payment"]),
        json!([{}]),
        json!([{"type": 1}]),
        json!([{"type": "payment", "actions": []}]),
        json!([{"type": "payment", "actions": "initiate"}]),
        json!([{"type": "payment", "identifier": null}]),
        Value::from(vec![json!({"type": "p"}); 65]),
    ] {
        let token = with_details(bad);
        assert_eq!(World::new().bearer_reason(&token), Some(Rejection::TokenMalformed), "even where no rule asks");
    }
}

#[test]
fn a_token_may_be_too_old_for_a_rule_before_it_ends() {
    let mut world = World::new();
    world.wire.rules[0].max_token_age = Some(60);
    let call = Call::bearer(&world.token().issued());
    for (age, outcome) in
        [(0, None), (60, None), (61, Some(Rejection::TokenTooOld)), (299, Some(Rejection::TokenTooOld))]
    {
        world.now = crate::UnixTime::from_secs(NOW + age);
        assert_eq!(world.reason(&call), outcome, "{age}");
    }
    let answer = world.refusal(&call).answer;
    let challenge = r#"Bearer error="insufficient_user_authentication", max_age="60""#;
    assert_eq!((answer.status.as_u16(), answer.www_authenticate.as_deref()), (401, Some(challenge)));
    world.now = crate::UnixTime::from_secs(NOW + 305);
    assert_eq!(world.reason(&call), Some(Rejection::TokenExpired), "an ended token is ended");
    let accounts = call.to(http::Method::GET, "/accounts");
    world.now = crate::UnixTime::from_secs(NOW + 299);
    assert_eq!(world.reason(&accounts), None, "the other rule does not ask");
    let ahead = world.token().claim("iat", NOW + 309).claim("exp", NOW + 900).issued();
    assert_eq!(world.bearer_reason(&ahead), None, "a token from ten seconds ahead is new");
}

#[test]
fn a_long_call_may_last_as_long_as_its_token_is_young_enough() {
    let mut world = World::new();
    let call = Call::bearer(&world.token().issued());
    assert_eq!(world.admission(&call).expires(), Some(world.now.plus(300)));
    world.wire.rules[0].max_token_age = Some(60);
    assert_eq!(world.admission(&call).expires(), Some(world.now.plus(60)));
    world.wire.rules[0].max_token_age = Some(3600);
    assert_eq!(world.admission(&call).expires(), Some(world.now.plus(300)));
}

#[test]
fn a_call_in_progress_ends_with_the_age_of_its_token() {
    let mut world = World::new();
    world.wire.rules[0].max_token_age = Some(60);
    let call = Call::bearer(&world.token().issued());
    let grounds = world.admission(&call).grounds();
    let policy = compiled(&world.wire);
    for (age, outcome) in [(60, Ok(())), (61, Err(Rejection::TokenTooOld))] {
        let ctx = Context {
            policy: &policy,
            keys: &world.keys,
            keys_fresh: true,
            peer: &world.peer,
            nonces: &world.nonces,
            replay: &world.replay,
            revocations: &world.revocations,
            generation: 2,
            now: world.now.plus(age),
        };
        let request = Request { method: &call.method, path: &call.path, query: None, headers: &call.headers };
        assert_eq!(decide_again(&ctx, &request, &grounds), outcome, "{age}");
    }
}

#[test]
fn the_chain_of_actors_has_the_length_that_the_rule_takes() {
    for (bounds, good) in [
        (None, 0..=8),
        (Some(WireActors { min: 0, max: 0 }), 0..=0),
        (Some(WireActors { min: 1, max: 8 }), 1..=8),
        (Some(WireActors { min: 2, max: 3 }), 2..=3),
    ] {
        let mut world = World::new();
        world.wire.rules[0].actors = bounds;
        for length in 0..=8 {
            let outcome = (!good.contains(&length)).then_some(Rejection::CallerNotAllowed);
            assert_eq!(world.bearer_reason(&chain(length)), outcome, "{bounds:?} {length}");
        }
        assert_eq!(world.bearer_reason(&chain(9)), Some(Rejection::TokenMalformed));
    }
}
