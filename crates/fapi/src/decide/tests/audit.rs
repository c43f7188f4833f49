//! `Audit`: what Enforce would refuse passes, and says so; what cannot be judged still does not pass.

use crate::{
    AdmissionKind, Context, Mode, Rejection, Request, decide_again,
    testing::{Call, OTHER_KEY, SHOP, World, compiled, id},
};

#[test]
fn a_good_call_is_proven_in_audit_too() {
    let mut world = World::audit();
    let call = Call::bearer(&world.token().issued());
    assert_eq!(world.admission(&call).kind(), AdmissionKind::Proven);
}

#[test]
fn a_bad_call_is_observed_without_identity() {
    let mut world = World::audit();
    let admission = world.admission(&Call::bare());
    assert_eq!(admission.kind(), AdmissionKind::Observed(Rejection::TokenMissing));
    assert_eq!((admission.client_id(), admission.token_hash(), admission.expires()), (None, None, None));
    let forged = world.token().sign(&OTHER_KEY);
    let admission = world.admission(&Call::bearer(&forged));
    assert_eq!(admission.kind(), AdmissionKind::Observed(Rejection::SignatureInvalid));
    assert_eq!(admission.client_id(), None, "only a good signature says who");
    assert!(admission.token_hash().is_some());
}

#[test]
fn facts_with_a_good_signature_may_be_logged() {
    let mut world = World::audit();
    let token = world.token().issued();
    world.peer.spiffe_id = id("spiffe://bank.example/ns/bank/sa/other");
    let admission = world.admission(&Call::bearer(&token));
    assert_eq!(admission.kind(), AdmissionKind::Observed(Rejection::CallerMismatch));
    assert_eq!((admission.client_id(), admission.caller().service_account()), (Some(SHOP), "other"));
}

#[test]
fn what_cannot_be_judged_does_not_pass() {
    let mut world = World::audit();
    let token = world.token().issued();
    let twice = Call::bearer(&token).header("authorization", "Bearer x");
    assert_eq!(world.refusal(&twice).rejection, Rejection::RequestMalformed);
    let path = Call::bearer(&token).to(http::Method::POST, "/a/../transfers");
    assert_eq!(world.refusal(&path).rejection, Rejection::RequestMalformed);
}

#[test]
fn a_call_in_progress_that_was_observed_goes_on_for_as_long_as_audit_does() {
    let mut world = World::audit();
    let call = Call::bare();
    let grounds = world.admission(&call).grounds();
    for (mode, path, outcome) in [
        (Mode::Audit, "/transfers", Ok(())),
        (Mode::Audit, "/a/../transfers", Err(Rejection::RequestMalformed)),
        (Mode::Enforce, "/transfers", Err(Rejection::TokenMissing)),
    ] {
        world.wire.mode = mode;
        let ctx = Context {
            policy: &compiled(&world.wire),
            keys: &world.keys,
            keys_fresh: true,
            peer: &world.peer,
            nonces: &world.nonces,
            replay: &world.replay,
            revocations: &world.revocations,
            generation: 2,
            now: world.now,
        };
        let request = Request { method: &call.method, path, query: None, headers: &call.headers };
        assert_eq!(decide_again(&ctx, &request, &grounds), outcome, "{mode:?} {path}");
    }
}

#[test]
fn missing_keys_are_still_asked_for() {
    let mut world = World::audit();
    world.keys = crate::IssuerKeys::new();
    world.keys_fresh = false;
    let call = Call::bearer(&world.token().issued());
    assert!(matches!(world.ask(&call), crate::Verdict::NeedKeys(_)));
    world.keys_fresh = true;
    assert_eq!(world.admission(&call).kind(), AdmissionKind::Observed(Rejection::KeyNotFound));
}
