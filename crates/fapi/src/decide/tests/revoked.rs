//! Revocation: by token, certificate, pod, identity and client, each up to its time, and never waived.

use serde_json::json;

use crate::{
    CertThumbprint, Context, Rejection, Request, Revocation, Revoked, UnixTime, decide_again,
    testing::{AUDIENCE, Call, ISSUER, Jwt, NOW, POD, SHOP, World, compiled, id},
};

fn revoke(world: &mut World, revoked: Revoked, issued_before: Option<u64>) {
    let before = issued_before.map(UnixTime::from_secs);
    let entry = Revocation::new(revoked, before, world.now.plus(3600)).unwrap();
    world.revocations = [entry].into_iter().collect();
}

fn issuer() -> crate::Issuer {
    crate::Issuer::parse(ISSUER).unwrap()
}

/// Everything that stands for the caller of [`World::token`].
fn of_the_caller(world: &World) -> [Revoked; 5] {
    [
        Revoked::Token { issuer: issuer(), id: "t-1".into() },
        Revoked::Certificate(world.peer.thumbprint),
        Revoked::Pod(POD.into()),
        Revoked::SpiffeId(id(SHOP)),
        Revoked::Client { issuer: issuer(), id: SHOP.into() },
    ]
}

#[test]
fn whatever_stands_for_the_caller_can_be_revoked() {
    for revoked in of_the_caller(&World::new()) {
        let mut world = World::new();
        revoke(&mut world, revoked.clone(), None);
        let refusal = world.refusal(&Call::bearer(&world.token().issued()));
        assert_eq!(refusal.rejection, Rejection::Revoked, "{revoked:?}");
        assert_eq!(refusal.answer.error.unwrap_or("invalid_token"), "invalid_token");
        assert_eq!(refusal.answer.status, 401);
    }
}

#[test]
fn what_is_revoked_of_others_is_nothing_to_the_caller() {
    let other = crate::Issuer::parse("https://other.example").unwrap();
    for revoked in [
        Revoked::Token { issuer: issuer(), id: "t-2".into() },
        Revoked::Token { issuer: other.clone(), id: "t-1".into() },
        Revoked::Certificate(CertThumbprint::of_der(b"another")),
        Revoked::Pod("another".into()),
        Revoked::SpiffeId(id("spiffe://bank.example/ns/bank/sa/payments")),
        Revoked::Client { issuer: other, id: SHOP.into() },
        Revoked::Client { issuer: issuer(), id: AUDIENCE.into() },
    ] {
        let mut world = World::new();
        revoke(&mut world, revoked, None);
        assert_eq!(world.bearer_reason(&world.token().issued()), None);
    }
}

#[test]
fn a_revoked_token_is_refused_where_it_is_proven_already() {
    let mut world = World::new();
    let call = Call::bearer(&world.token().issued());
    assert_eq!(world.reason(&call), None);
    revoke(&mut world, Revoked::Token { issuer: issuer(), id: "t-1".into() }, None);
    // Even under the same generation, from the cache of the connection.
    assert_eq!(world.reason(&call), Some(Rejection::Revoked));
}

/// A token that web got for itself, payments handed on and the peer, shop, holds.
fn handed_on(world: &World) -> Jwt {
    world.token().claim("sub", WEB).claim("act", json!({"sub": SHOP, "act": {"sub": PAYMENTS}}))
}

const WEB: &str = "spiffe://bank.example/ns/web/sa/web";
const PAYMENTS: &str = "spiffe://bank.example/ns/bank/sa/payments";

#[test]
fn whoever_stands_behind_the_caller_can_be_revoked() {
    for party in [WEB, PAYMENTS] {
        let client = Revoked::Client { issuer: issuer(), id: party.into() };
        for revoked in [Revoked::SpiffeId(id(party)), client] {
            for (before, outcome) in
                [(None, Some(Rejection::Revoked)), (Some(NOW), None), (Some(NOW + 1), Some(Rejection::Revoked))]
            {
                let mut world = World::new();
                revoke(&mut world, revoked.clone(), before);
                let token = handed_on(&world).issued();
                assert_eq!(world.bearer_reason(&token), outcome, "{revoked:?} {before:?}");
                assert_eq!(world.bearer_reason(&world.token().issued()), None, "a call of its own");
            }
        }
    }
    let mut world = World::new();
    revoke(&mut world, Revoked::SpiffeId(id("spiffe://bank.example/ns/bank/sa/ledger")), None);
    let token = handed_on(&world).issued();
    assert_eq!(world.bearer_reason(&token), None);
}

#[test]
fn a_renewed_certificate_does_not_escape_the_revocation_of_its_pod() {
    let mut world = World::new();
    revoke(&mut world, Revoked::Pod(POD.into()), None);
    world.now = world.now.plus(60);
    world.peer.issued = world.now;
    world.peer.thumbprint = CertThumbprint::of_der(b"the next certificate of shop");
    let token = world.token().claim("iat", NOW + 60).issued();
    assert_eq!(world.bearer_reason(&token), Some(Rejection::Revoked));
}

#[test]
fn what_is_issued_from_then_on_is_not_hit() {
    for revoked in of_the_caller(&World::new()).into_iter().filter(|revoked| !matches!(revoked, Revoked::Pod(_))) {
        for (before, outcome) in [(NOW, None), (NOW + 1, Some(Rejection::Revoked))] {
            let mut world = World::new();
            world.peer.issued = world.now;
            revoke(&mut world, revoked.clone(), Some(before));
            assert_eq!(world.bearer_reason(&world.token().issued()), outcome, "{revoked:?} {before}");
        }
    }
}

#[test]
fn a_key_bound_token_does_not_outlive_the_identity_it_was_issued_to() {
    let mut world = World::new();
    revoke(&mut world, Revoked::SpiffeId(id(SHOP)), Some(NOW + 10));
    world.now = world.now.plus(10);
    // The certificate is a new one, which the revocation does not hit; the token is of before.
    world.peer.issued = world.now;
    let token = world.dpop_token().issued();
    let proof = world.proof(&token).proven();
    assert_eq!(world.reason(&Call::dpop(&token, &proof)), Some(Rejection::Revoked));
    let token = world.dpop_token().claim("iat", NOW + 10).issued();
    let proof = world.proof(&token).proven();
    assert_eq!(world.reason(&Call::dpop(&token, &proof)), None);
}

#[test]
fn a_revocation_ends() {
    let mut world = World::new();
    let certificate = Revoked::Certificate(world.peer.thumbprint);
    revoke(&mut world, certificate, None);
    let token = world.token().claim("exp", NOW + 7200).issued();
    world.now = world.now.plus(3599);
    assert_eq!(world.bearer_reason(&token), Some(Rejection::Revoked));
    world.now = world.now.plus(1);
    assert_eq!(world.bearer_reason(&token), None);
}

#[test]
fn audit_waives_no_revocation() {
    let spoilt = |token: Jwt| token.claim("aud", "https://other.bank");
    for revoked in of_the_caller(&World::new()) {
        let mut world = World::audit();
        revoke(&mut world, revoked, None);
        for token in [world.token(), spoilt(world.token())] {
            assert_eq!(world.refusal(&Call::bearer(&token.issued())).rejection, Rejection::Revoked);
        }
    }
    let mut world = World::audit();
    revoke(&mut world, Revoked::Pod(POD.into()), None);
    assert_eq!(world.refusal(&Call::bare()).rejection, Rejection::Revoked, "without a token too");
}

#[test]
fn a_call_in_progress_ends_when_its_token_or_peer_is_revoked() {
    for revoked in of_the_caller(&World::new()) {
        let mut world = World::new();
        let call = Call::bearer(&world.token().issued());
        let grounds = world.admission(&call).grounds();
        let policy = compiled(&world.wire);
        revoke(&mut world, revoked, None);
        let ctx = Context {
            policy: &policy,
            keys: &world.keys,
            keys_fresh: true,
            peer: &world.peer,
            nonces: &world.nonces,
            replay: &world.replay,
            revocations: &world.revocations,
            generation: 2,
            now: world.now,
        };
        let request = Request { method: &call.method, path: &call.path, query: None, headers: &call.headers };
        assert_eq!(decide_again(&ctx, &request, &grounds), Err(Rejection::Revoked));
    }
}

#[test]
fn what_is_not_understood_is_no_revocation() {
    let good = json!({"revoked": {"podUid": POD}, "expires": NOW});
    assert!(serde_json::from_value::<Revocation>(good).is_ok());
    for bad in [
        json!({"revoked": {"podUid": ""}, "expires": NOW}),
        json!({"revoked": {"podUid": POD}, "issuedBefore": NOW, "expires": NOW}),
        json!({"revoked": {"podUid": POD}}),
        json!({"revoked": {"node": "n"}, "expires": NOW}),
        json!({"revoked": {"podUid": POD}, "expires": NOW, "comment": ""}),
        json!({"revoked": {"certificate": "abc"}, "expires": NOW}),
        json!({"revoked": {"spiffeId": "spiffe://bank.example"}, "expires": NOW}),
        json!({"revoked": {"token": {"id": "t-1"}}, "expires": NOW}),
    ] {
        assert!(serde_json::from_value::<Revocation>(bad.clone()).is_err(), "{bad}");
    }
}
