//! The decision about a request whose token was proven on its connection allocates nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{alloc::System, sync::Arc};

use fapi::{
    CertThumbprint, Context, Issuer, IssuerKeys, KeySet, Mode, NonceMinter, Peer, Policy, PortPolicy, ProvenTokens,
    ReplaySet, Request, Revocations, SenderConstraint, SigningKey, SpiffeId, TrustDomain, UnixTime, Verdict,
    WireCaller, WirePolicy, WireResource, WireRule, decide,
};
use http::{HeaderMap, Method};
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ISSUER: &str = "https://issuer.fapi-mesh";
const AUDIENCE: &str = "https://payments.bank";
const SHOP: &str = "spiffe://bank.example/ns/bank/sa/shop";

#[test]
fn a_cached_decision_allocates_nothing() {
    let now = UnixTime::from_secs(1_800_000_000);
    let peer = Peer {
        spiffe_id: SpiffeId::parse(SHOP).unwrap(),
        thumbprint: CertThumbprint::of_der(b"the certificate of shop"),
        pod_uid: None,
        issued: now,
        not_after: now.plus(3600),
    };
    let key = SigningKey::generate().unwrap();
    let (keys, token) = (published(&key), token(&key, &peer, now));
    let policy = PortPolicy::Policy(Arc::new(policy()));
    let (nonces, replay) = (NonceMinter::new([7; 32]), ReplaySet::new(16, 16));
    let ctx = Context {
        policy: &policy,
        keys: &keys,
        keys_fresh: true,
        peer: &peer,
        nonces: &nonces,
        replay: &replay,
        revocations: &Revocations::none(),
        generation: 1,
        now,
    };
    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    let request = Request { method: &Method::GET, path: "/accounts/1", query: None, headers: &headers };
    let mut proven = ProvenTokens::new();
    assert!(matches!(decide(&ctx, &request, &mut proven), Verdict::Admit(_)));

    let region = Region::new(ALLOCATOR);
    for _ in 0..100 {
        assert!(matches!(decide(&ctx, &request, &mut proven), Verdict::Admit(_)));
    }
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (0, 0), "{change:?}");
}

fn published(key: &SigningKey) -> IssuerKeys {
    let mut jwk = key.public_jwk();
    jwk["kid"] = key.kid().into();
    let set = KeySet::from_jwks_json(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap();
    let mut keys = IssuerKeys::new();
    keys.insert(Issuer::parse(ISSUER).unwrap(), set);
    keys
}

fn token(key: &SigningKey, peer: &Peer, now: UnixTime) -> String {
    let header = json!({"typ": "at+jwt", "alg": "ES256", "kid": key.kid()});
    let claims = json!({
        "iss": ISSUER, "sub": SHOP, "client_id": SHOP, "aud": AUDIENCE, "jti": "t-1", "iat": now.as_secs(),
        "exp": now.plus(300).as_secs(), "scope": "accounts:read",
        "cnf": {"x5t#S256": peer.thumbprint.to_string()},
    });
    key.sign_compact(header.to_string().as_bytes(), claims.to_string().as_bytes()).unwrap()
}

fn policy() -> Policy {
    let wire = WirePolicy {
        name: "bank/payments".to_owned(),
        mode: Mode::Enforce,
        resources: vec![WireResource { audience: AUDIENCE.to_owned(), origins: vec![AUDIENCE.to_owned()] }],
        issuers: vec![ISSUER.to_owned()],
        external: Vec::new(),
        sender_constraints: vec![SenderConstraint::Mtls],
        rules: vec![WireRule {
            methods: vec!["GET".to_owned()],
            path_prefixes: vec!["/accounts".to_owned()],
            callers: vec![WireCaller { namespace: "bank".to_owned(), service_account: None }],
            scopes: vec!["accounts:read".to_owned()],
            ..WireRule::default()
        }],
        exempt: Vec::new(),
    };
    Policy::compile(&TrustDomain::parse("bank.example").unwrap(), &wire).unwrap()
}
