use super::*;
use crate::testing::{ISSUER, ISSUER_KEY, NOW, POD, SHOP, World, id, key_set, published};

fn at(secs: u64) -> UnixTime {
    UnixTime::from_secs(secs)
}

fn every_kind() -> Vec<Revocation> {
    let issuer = Issuer::parse(ISSUER).unwrap();
    let timed = |revoked| Revocation::new(revoked, Some(at(50)), at(100)).unwrap();
    vec![
        timed(Revoked::Token { issuer: issuer.clone(), id: "t-1".into() }),
        timed(Revoked::Certificate(World::new().peer.thumbprint)),
        Revocation::new(Revoked::Pod(POD.into()), None, at(100)).unwrap(),
        timed(Revoked::SpiffeId(id(SHOP))),
        timed(Revoked::Client { issuer, id: SHOP.into() }),
    ]
}

#[test]
fn json_keeps_every_kind() {
    let all = every_kind();
    let json = serde_json::to_string(&all).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Revocation>>(&json).unwrap(), all);
}

#[test]
fn several_of_one_thing_hold_beside_each_other() {
    let of = |before, expires| Revocation::new(Revoked::SpiffeId(id(SHOP)), Some(at(before)), at(expires)).unwrap();
    let all: Revocations = [of(10, 1000), of(20, 100)].into_iter().collect();
    let hit = |issued, now| all.hit_workload(&id(SHOP), None, at(issued), at(now));
    assert!(hit(15, 99) && !hit(15, 100), "the later time has the earlier end");
    assert!(hit(9, 999) && !hit(9, 1000));
    assert_eq!(all.len(), 2);
}

#[test]
fn an_empty_set_hits_nothing() {
    let none = Revocations::none();
    assert!(none.is_empty());
    assert!(!none.hit_peer(&World::new().peer, at(0)));
    assert!(!none.hit_client(ISSUER, SHOP, at(0), at(0)));
}

#[test]
fn a_workload_is_hit_before_it_has_a_certificate() {
    let all: Revocations = every_kind().into_iter().collect();
    let other = id("spiffe://bank.example/ns/bank/sa/other");
    assert!(all.hit_workload(&other, Some(POD), at(60), at(60)), "the pod, whenever");
    assert!(all.hit_workload(&id(SHOP), Some("another"), at(49), at(60)), "the identity, up to its time");
    assert!(!all.hit_workload(&id(SHOP), Some("another"), at(50), at(60)));
    assert!(all.hit_client(ISSUER, SHOP, at(49), at(60)) && !all.hit_client(ISSUER, SHOP, at(50), at(60)));
}

#[test]
fn a_token_of_ours_is_hit_by_each_thing_alone_that_stands_for_it() {
    let world = World::new();
    let keys = key_set(&[published(&ISSUER_KEY, ISSUER_KEY.kid())]);
    let token = IssuedToken::verify(&world.token().issued(), ISSUER, &keys).unwrap();
    let issuer = Issuer::parse(ISSUER).unwrap();
    let hit = |revoked: Revoked, now| {
        let all: Revocations = [Revocation::new(revoked, None, at(NOW + 60)).unwrap()].into_iter().collect();
        all.hit_token(&token, at(now))
    };
    for revoked in [
        Revoked::Token { issuer: issuer.clone(), id: token.id().into() },
        Revoked::Certificate(world.peer.thumbprint),
        Revoked::SpiffeId(id(SHOP)),
        Revoked::Client { issuer: issuer.clone(), id: SHOP.into() },
    ] {
        assert!(hit(revoked.clone(), NOW + 59), "{revoked:?}");
        assert!(!hit(revoked.clone(), NOW + 60), "{revoked:?} has ended");
    }
    for other in [
        Revoked::Token { issuer: issuer.clone(), id: "another".into() },
        Revoked::Certificate(CertThumbprint::of_der(b"another")),
        Revoked::Pod(POD.into()),
        Revoked::Client { issuer, id: "another".into() },
    ] {
        assert!(!hit(other.clone(), NOW), "{other:?}");
    }
    assert!(!Revocations::none().hit_token(&token, at(NOW)));
}

#[test]
fn a_token_of_ours_is_hit_through_everybody_behind_it() {
    let parties = ["a", "b", "c"].map(|name| id(&format!("spiffe://bank.example/ns/bank/sa/{name}")));
    let [holder, between, subject] = &parties;
    let world = World::new();
    let act = serde_json::json!({"sub": holder.as_str(), "act": {"sub": between.as_str()}});
    let token = world.token().claim("sub", subject.as_str()).claim("client_id", holder.as_str()).claim("act", act);
    let keys = key_set(&[published(&ISSUER_KEY, ISSUER_KEY.kid())]);
    let token = IssuedToken::verify(&token.issued(), ISSUER, &keys).unwrap();
    let hit = |revoked: Revoked| {
        let all: Revocations = [Revocation::new(revoked, None, at(NOW + 60)).unwrap()].into_iter().collect();
        all.hit_token(&token, at(NOW))
    };
    let issuer = Issuer::parse(ISSUER).unwrap();
    for party in &parties {
        assert!(hit(Revoked::SpiffeId(party.clone())), "{party}");
        assert!(hit(Revoked::Client { issuer: issuer.clone(), id: party.as_str().into() }), "{party}");
    }
    assert!(!hit(Revoked::SpiffeId(id(SHOP))));
    assert!(!hit(Revoked::Client {
        issuer: Issuer::parse("https://other.example").unwrap(),
        id: subject.as_str().into()
    }));
}
