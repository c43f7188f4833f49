//! Tokens that only their issuer can read: the same checks on what it says of them.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    ClientIdClaim, Context, Introspected, Introspection, IntrospectionFault, Issuer, Policy, Rejection, Request,
    TokenHash, TokenTyp, TrustDomain, Unread, Verdict, WireExternal, WireMapping, WireResource, decide_again,
    decide_introspected,
    testing::{
        AUDIENCE, Call, ISSUER_KEY, NOW, OTHER_KEY, PROOF_KEY, World, account, compiled, id, key_set, published, texts,
    },
};

const BANK_AS: &str = "https://login.bank.example";
const API: &str = "https://api.bank.example";
const TOKEN: &str = "2YotnFZFEjr1zCsicMWpAA";

fn external() -> WireExternal {
    WireExternal {
        name: "bank-as".to_owned(),
        issuer: BANK_AS.to_owned(),
        resources: vec![WireResource { audience: API.to_owned(), origins: texts(&[AUDIENCE]) }],
        typ: TokenTyp::AccessToken,
        opaque: true,
        client_id_claim: ClientIdClaim::ClientId,
        max_token_age: 900,
        scopes: None,
        clients: vec![WireMapping { client_id: "shop-7".to_owned(), callers: vec![account("bank", "shop")] }],
    }
}

fn world() -> World {
    let mut world = World::new();
    world.wire.external = vec![external()];
    world
}

fn issuer() -> Issuer {
    Issuer::parse(BANK_AS).unwrap()
}

/// A good answer, bound to the certificate of shop.
fn answer() -> Value {
    json!({
        "active": true, "client_id": "shop-7", "aud": API, "iat": NOW, "exp": NOW + 300,
        "scope": "transfers:write accounts:read", "token_type": "Bearer",
        "cnf": {"x5t#S256": World::new().peer.thumbprint.to_string()},
    })
}

fn said(answer: &Value) -> Arc<Introspection> {
    let until = World::new().now.plus(30);
    Arc::new(Introspection::parse(&issuer(), TokenHash::of(TOKEN), answer.to_string().as_bytes(), until).unwrap())
}

impl World {
    /// Asks again with what the issuer said, as a sidecar does.
    fn told(&mut self, call: &Call, said: Introspected<'_>) -> Verdict {
        let compiled = compiled(&self.wire);
        let ctx = Context {
            policy: &compiled,
            keys: &self.keys,
            keys_fresh: true,
            peer: &self.peer,
            nonces: &self.nonces,
            replay: &self.replay,
            revocations: &self.revocations,
            generation: self.generation,
            now: self.now,
        };
        let request = Request { method: &call.method, path: &call.path, query: None, headers: &call.headers };
        decide_introspected(&ctx, &request, &mut self.proven, said)
    }

    fn unread(&mut self, call: &Call) -> Unread {
        match self.ask(call) {
            Verdict::NeedIntrospection(unread) => unread,
            other => panic!("{other:?}"),
        }
    }
}

/// The reason for a transfer when the issuer says this.
fn reason_of(answer: &Value) -> Option<Rejection> {
    match world().told(&Call::bearer(TOKEN), Introspected::Answered(&said(answer))) {
        Verdict::Admit(_) => None,
        Verdict::Refuse(refusal) => Some(refusal.rejection),
        other => panic!("{other:?}"),
    }
}

fn reason(name: &str, value: Value) -> Option<Rejection> {
    let mut answer = answer();
    match value {
        Value::Null => drop(answer.as_object_mut().unwrap().remove(name)),
        value => answer[name] = value,
    }
    reason_of(&answer)
}

#[test]
fn an_answer_says_whether_the_token_is_active() {
    assert!(said(&answer()).is_active());
    assert!(!said(&json!({"active": false, "exp": NOW + 300})).is_active());
}

#[test]
fn its_issuer_is_asked_and_what_it_says_counts_for_a_while() {
    let (mut world, call) = (world(), Call::bearer(TOKEN));
    let unread = world.unread(&call);
    assert_eq!((unread.issuer.as_str(), &*unread.token, unread.hash), (BANK_AS, TOKEN, TokenHash::of(TOKEN)));
    assert_eq!(unread.audiences.iter().map(crate::Audience::as_str).collect::<Vec<_>>(), [API]);
    assert!(!format!("{unread:?}").contains(TOKEN));
    let said = said(&answer());
    let Verdict::Admit(admission) = world.told(&call, Introspected::Answered(&said)) else { panic!("not admitted") };
    assert_eq!((admission.client_id(), admission.expires()), (Some("shop-7"), Some(world.now.plus(300))));
    assert_eq!(world.reason(&call), None, "nobody is asked again on this connection");
    world.now = said.until();
    world.unread(&call);
    let (short, until) = (answer().to_string().replace(&(NOW + 300).to_string(), &(NOW + 10).to_string()), world.now);
    let short = Introspection::parse(&issuer(), TokenHash::of(TOKEN), short.as_bytes(), until).unwrap();
    assert_eq!(short.until().as_secs(), NOW + 10, "never beyond the end of the token");
}

#[test]
fn the_same_checks_run_on_the_answer() {
    let now = |ahead: i64| json!(NOW.checked_add_signed(ahead).unwrap());
    for (name, value, expected) in [
        ("active", json!(false), Rejection::TokenInactive),
        ("iss", json!("https://other.example"), Rejection::IssuerNotAllowed),
        ("exp", now(-6), Rejection::TokenExpired),
        ("iat", now(11), Rejection::TokenNotYetValid),
        ("nbf", now(11), Rejection::TokenNotYetValid),
        ("aud", json!("https://other.example"), Rejection::AudienceMismatch),
        ("cnf", Value::Null, Rejection::BindingMissing),
        ("cnf", json!({}), Rejection::BindingMissing),
        ("cnf", json!({"x5t#S256": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}), Rejection::BindingCertMismatch),
        ("cnf", json!({"jkt": PROOF_KEY.thumbprint().to_string()}), Rejection::BoundTokenSentAsBearer),
        ("client_id", json!("another"), Rejection::CallerMismatch),
        ("scope", json!("accounts:read"), Rejection::ScopeInsufficient),
        ("iat", now(-901), Rejection::TokenTooOld),
        ("exp", Value::Null, Rejection::TokenMalformed),
        ("iat", Value::Null, Rejection::TokenMalformed),
        ("aud", Value::Null, Rejection::TokenMalformed),
        ("client_id", json!("spiffe://bank.example/ns/bank/sa/shop"), Rejection::TokenMalformed),
        ("exp", json!("soon"), Rejection::TokenMalformed),
    ] {
        if (name, &value) == ("exp", &json!("soon")) {
            let bad = answer().to_string().replace(&(NOW + 300).to_string(), "\"soon\"");
            let read = Introspection::parse(&issuer(), TokenHash::of(TOKEN), bad.as_bytes(), World::new().now);
            assert_eq!(read.map(|_| ()), Err(IntrospectionFault::Malformed));
            continue;
        }
        assert_eq!(reason(name, value.clone()), Some(expected), "{name} {value}");
    }
    for (name, value) in [("iss", json!(BANK_AS)), ("sub", json!("a user")), ("jti", json!("t-1")), ("more", json!(1))]
    {
        assert_eq!(reason(name, value), None, "{name}");
    }
}

#[test]
fn a_proof_key_from_the_answer_is_proven_like_any_other() {
    let mut answer = answer();
    answer["cnf"] = json!({"jkt": PROOF_KEY.thumbprint().to_string()});
    let (mut world, said) = (world(), said(&answer));
    let good = Call::dpop(TOKEN, &world.proof(TOKEN).proven());
    let refused = |verdict: Verdict| match verdict {
        Verdict::Admit(_) => None,
        Verdict::Refuse(refusal) => Some(refusal.rejection),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(world.told(&good, Introspected::Answered(&said))), None);
    assert_eq!(refused(world.told(&good, Introspected::Answered(&said))), Some(Rejection::ProofReplayed));
    let other = Call::dpop(TOKEN, &world.proof(TOKEN).claim("ath", TokenHash::of("other").ath()).proven());
    assert_eq!(refused(world.told(&other, Introspected::Answered(&said))), Some(Rejection::ProofAth));
}

#[test]
fn without_an_answer_nobody_passes() {
    let call = Call::bearer(TOKEN);
    let Verdict::Refuse(refusal) = world().told(&call, Introspected::Unavailable) else { panic!("not refused") };
    assert_eq!((refusal.rejection, refusal.answer.status.as_u16()), (Rejection::IntrospectionUnavailable, 503));
    let until = World::new().now.plus(30);
    let about = |issuer: &str, token: &str| {
        let (issuer, answer) = (Issuer::parse(issuer).unwrap(), answer().to_string());
        Arc::new(Introspection::parse(&issuer, TokenHash::of(token), answer.as_bytes(), until).unwrap())
    };
    for other in [about(BANK_AS, "another"), about("https://other.example", TOKEN)] {
        let Verdict::Refuse(refusal) = world().told(&call, Introspected::Answered(&other)) else { panic!("admitted") };
        assert_eq!(refusal.rejection, Rejection::IssuerNotAllowed, "an answer about something else");
    }
}

#[test]
fn no_token_is_shown_to_a_server_that_it_is_not_of() {
    let mut world = world();
    let mesh = World::new().token();
    assert_eq!(world.bearer_reason(&mesh.issued()), None);
    let damaged = mesh.issued().replacen("eyJ", "eyJ!", 1);
    assert_eq!(world.bearer_reason(&damaged), Some(Rejection::TokenMalformed));
    assert_eq!(world.bearer_reason("eyJhbGciOiJFUzI1NiJ9.e30.AA"), Some(Rejection::TokenMalformed), "no iss");
    for bad in ["eyJhbGciOiJFUzI1NiJ9.x.AA", "eyJ.a.b.c", "eyJ.a.b.c.d.e"] {
        assert_eq!(world.bearer_reason(bad), Some(Rejection::TokenMalformed), "{bad}");
    }
    let other = mesh.clone().claim("iss", "https://other.example").issued();
    assert_eq!(world.bearer_reason(&other), Some(Rejection::IssuerNotAllowed));
    world.unread(&Call::bearer(&mesh.claim("iss", BANK_AS).issued()));
    let long = "a".repeat(crate::MAX_TOKEN_BYTES + 1);
    assert_eq!(world.bearer_reason(&long), Some(Rejection::TokenMalformed));
    // What only resembles a JWT is an opaque token.
    for opaque in ["eyJhbGciOiJFUzI1NiJ9", "eyJ.a", "a.b.c", "eyJ.a.b.c.d", &"a".repeat(crate::MAX_TOKEN_BYTES)] {
        world.unread(&Call::bearer(opaque));
    }
    // Nor for whoever can be none of its clients.
    world.peer.spiffe_id = id("spiffe://bank.example/ns/web/sa/web");
    assert_eq!(world.bearer_reason(TOKEN), Some(Rejection::CallerMismatch));
    world.wire.external.clear();
    assert_eq!(world.bearer_reason(TOKEN), Some(Rejection::TokenMalformed), "as ever");
}

#[test]
fn a_long_call_goes_on_with_what_was_said_and_ends_with_its_issuer() {
    let (mut before, call) = (world(), Call::bearer(TOKEN));
    let verdict = before.told(&call, Introspected::Answered(&said(&answer())));
    let Verdict::Admit(admission) = verdict else { panic!("not admitted") };
    let again = |world: &World| {
        let policy = compiled(&world.wire);
        let World { keys, peer, nonces, replay, revocations, now, .. } = world;
        let (keys_fresh, generation) = (true, 2);
        let now = now.plus(60);
        let ctx = Context { policy: &policy, keys, keys_fresh, peer, nonces, replay, revocations, generation, now };
        let request = Request { method: &call.method, path: &call.path, query: None, headers: &call.headers };
        decide_again(&ctx, &request, &admission.grounds())
    };
    assert_eq!(again(&before), Ok(()));
    before.wire.external[0].clients.clear();
    assert_eq!(again(&before), Err(Rejection::CallerMismatch));
    before.wire.external[0].opaque = false;
    assert_eq!(again(&before), Err(Rejection::IssuerNotAllowed));
}

#[test]
fn a_signed_answer_is_by_the_issuer_and_for_us() {
    let keys = key_set(&[published(&OTHER_KEY, OTHER_KEY.kid())]);
    let claims = json!({"iss": BANK_AS, "aud": "payments", "iat": NOW, "token_introspection": answer()});
    let read = |key: &crate::SigningKey, typ: &str, changes: Value| {
        let mut claims = claims.clone();
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let jwt = key.sign_jwt(typ, &claims).unwrap();
        let now = World::new().now;
        Introspection::verify((&issuer(), &keys), &["payments", API], TokenHash::of(TOKEN), &jwt, (now, now.plus(30)))
            .map(|said| said.until())
    };
    const TYP: &str = "token-introspection+jwt";
    assert_eq!(read(&OTHER_KEY, TYP, json!({})), Ok(World::new().now.plus(30)));
    for aud in [json!(["x", "payments"]), json!(API), json!([API])] {
        let read = read(&OTHER_KEY, TYP, json!({ "aud": aud }));
        assert_eq!(read, Ok(World::new().now.plus(30)), "the server knows us by {aud}");
    }
    for good in [json!({"iat": NOW + 10}), json!({"iat": NOW - 300}), json!({"more": "x".repeat(8192)})] {
        assert!(read(&OTHER_KEY, TYP, good).is_ok());
    }
    for (key, typ, changes, fault) in [
        (&OTHER_KEY, "at+jwt", json!({}), IntrospectionFault::Type),
        (&OTHER_KEY, "JWT", json!({}), IntrospectionFault::Type),
        (&ISSUER_KEY, TYP, json!({}), IntrospectionFault::KeyNotFound),
        (&OTHER_KEY, TYP, json!({"iss": "https://other.example"}), IntrospectionFault::Meant),
        (&OTHER_KEY, TYP, json!({"aud": "ledger"}), IntrospectionFault::Meant),
        (&OTHER_KEY, TYP, json!({"aud": null}), IntrospectionFault::Meant),
        (&OTHER_KEY, TYP, json!({"aud": []}), IntrospectionFault::Meant),
        (&OTHER_KEY, TYP, json!({"aud": ["ledger", "https://other.example"]}), IntrospectionFault::Meant),
        (&OTHER_KEY, TYP, json!({"aud": format!("{API}/")}), IntrospectionFault::Meant),
        (&OTHER_KEY, TYP, json!({"aud": [[API]]}), IntrospectionFault::Meant),
        (&OTHER_KEY, TYP, json!({"iat": NOW + 11}), IntrospectionFault::Time),
        (&OTHER_KEY, TYP, json!({"iat": NOW - 301}), IntrospectionFault::Time),
        (&OTHER_KEY, TYP, json!({"token_introspection": true}), IntrospectionFault::Malformed),
        (&OTHER_KEY, TYP, json!({"token_introspection": {"active": "true"}}), IntrospectionFault::Malformed),
    ] {
        assert_eq!(read(key, typ, changes.clone()), Err(fault), "{typ} {changes}");
    }
    for bad in ["", "{}", "[]", "{\"active\":1}", "<html>", "{\"active\":true,\"active\":false}"] {
        let read = Introspection::parse(&issuer(), TokenHash::of(TOKEN), bad.as_bytes(), World::new().now);
        assert_eq!(read.map(|_| ()), Err(IntrospectionFault::Malformed), "{bad}");
    }
}

#[test]
fn a_policy_has_one_issuer_of_opaque_tokens_at_most() {
    let mut wire = world().wire;
    wire.external.push(WireExternal { name: "b".to_owned(), issuer: "https://b".to_owned(), ..external() });
    let problems = Policy::compile(&TrustDomain::parse("bank.example").unwrap(), &wire).unwrap_err();
    assert_eq!(problems.iter().map(|problem| problem.field.as_str()).collect::<Vec<_>>(), ["external[1].opaque"]);
    wire.external[1].opaque = false;
    assert!(Policy::compile(&TrustDomain::parse("bank.example").unwrap(), &wire).is_ok());
}
