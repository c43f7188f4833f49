//! Tokens of issuers outside the mesh: who they may be, and that they are nobody else.

use serde_json::{Value, json};

use crate::{
    ClientIdClaim, Context, Issuer, IssuerKeys, JwksError, KeySet, Policy, Rejection, Request, Revocation, Revoked,
    TokenTyp, TrustDomain, UnixTime, Verdict, WireClient, WireExternal, WireMapping, WireResource, decide_again,
    testing::{
        AUDIENCE, Call, ISSUER, Jwt, NOW, OTHER_KEY, PROOF_KEY, SHOP, World, account, compiled, id, key_set, namespace,
        published, texts,
    },
};

const BANK_AS: &str = "https://login.bank.example/realms/bank";
const API: &str = "https://api.bank.example";

fn external() -> WireExternal {
    WireExternal {
        name: "bank-as".to_owned(),
        issuer: BANK_AS.to_owned(),
        resources: vec![WireResource { audience: API.to_owned(), origins: texts(&[AUDIENCE, API]) }],
        typ: TokenTyp::AccessToken,
        opaque: false,
        client_id_claim: ClientIdClaim::ClientId,
        max_token_age: 900,
        scopes: None,
        clients: vec![WireMapping { client_id: "shop-7".to_owned(), callers: vec![account("bank", "shop")] }],
    }
}

/// A world that takes tokens of the bank's own server, whose one key is at hand.
fn world(external: WireExternal) -> World {
    let mut world = World::new();
    world.wire.external = vec![external];
    world.keys.insert(Issuer::parse(BANK_AS).unwrap(), key_set(&[published(&OTHER_KEY, "as-1")]));
    world
}

/// A token of that server for client `shop-7`, bound to the certificate of shop.
fn token() -> Jwt {
    let token = World::new().token().head("kid", "as-1").claim("iss", BANK_AS).claim("aud", API);
    token.claim("sub", "a user").claim("client_id", "shop-7")
}

fn reason(external: WireExternal, token: &Jwt) -> Option<Rejection> {
    world(external).bearer_reason(&token.sign(&OTHER_KEY))
}

#[test]
fn a_mapped_client_calls_from_its_workload() {
    let mut world = world(external());
    let admission = world.admission(&Call::bearer(&token().sign(&OTHER_KEY)));
    assert_eq!(admission.client_id(), Some("shop-7"));
    assert_eq!(admission.caller(), &id(SHOP), "the connection says who calls, not the token");
    assert_eq!(world.bearer_reason(&World::new().token().issued()), None, "tokens of the mesh are taken as before");
}

#[test]
fn whoever_it_was_handed_on_from_is_nobody_here_and_it_is_not_exchanged() {
    let act = json!({"sub": "a service", "act": {"sub": SHOP}});
    let call = Call::bearer(&token().claim("act", act).sign(&OTHER_KEY));
    let mut world = world(external());
    let revoked = Revocation::new(Revoked::SpiffeId(id(SHOP)), Some(UnixTime::from_secs(NOW)), world.now.plus(60));
    world.peer.issued = world.now;
    world.revocations = [revoked.unwrap()].into_iter().collect();
    let admission = world.admission(&call);
    assert_eq!((admission.subject(), admission.exchangeable(&call.headers)), (None, None));
}

#[test]
fn a_token_from_outside_names_nobody_of_the_mesh() {
    for bent in [
        token().claim("client_id", "unknown"),
        token().claim("client_id", "SHOP-7"),
        token().claim("client_id", "unknown").claim("sub", SHOP),
        token().claim("client_id", "unknown").claim("act", json!({"sub": SHOP})),
    ] {
        assert_eq!(reason(external(), &bent), Some(Rejection::CallerMismatch));
    }
    for name in [SHOP, "SPIFFE://bank.example/ns/bank/sa/shop", "spiffe:x"] {
        assert_eq!(reason(external(), &token().claim("client_id", name)), Some(Rejection::TokenMalformed), "{name}");
    }
    let elsewhere = WireExternal {
        clients: vec![WireMapping { client_id: "shop-7".to_owned(), callers: vec![account("bank", "ledger")] }],
        ..external()
    };
    assert_eq!(reason(elsewhere, &token()), Some(Rejection::CallerMismatch), "another workload's client");
    assert_eq!(reason(WireExternal { clients: vec![], ..external() }, &token()), Some(Rejection::CallerMismatch));
    let own = token().claim("iss", ISSUER).claim("client_id", SHOP).claim("sub", SHOP);
    assert_eq!(reason(external(), &own), Some(Rejection::KeyNotFound), "its keys are not those of the mesh");
}

#[test]
fn a_whole_namespace_may_be_a_client_and_ends_at_its_border() {
    let bank = WireMapping { client_id: "shop-7".to_owned(), callers: vec![namespace("bank")] };
    let by_namespace = WireExternal { clients: vec![bank], ..external() };
    assert_eq!(reason(by_namespace.clone(), &token()), None);
    for stranger in ["spiffe://bank.example/ns/web/sa/shop", "spiffe://other.example/ns/bank/sa/shop"] {
        let mut world = world(by_namespace.clone());
        world.peer.spiffe_id = id(stranger);
        assert_eq!(world.bearer_reason(&token().sign(&OTHER_KEY)), Some(Rejection::CallerMismatch), "{stranger}");
    }
}

#[test]
fn its_binding_is_proven_like_any_other() {
    for (cnf, expected) in [
        (json!({}), Rejection::BindingMissing),
        (json!({"x5t#S256": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}), Rejection::BindingCertMismatch),
        (json!({"jkt": PROOF_KEY.thumbprint().to_string()}), Rejection::BoundTokenSentAsBearer),
        (json!({"jkt": PROOF_KEY.thumbprint().to_string(), "osc": 1}), Rejection::BindingUnknown),
    ] {
        assert_eq!(reason(external(), &token().claim("cnf", cnf)), Some(expected));
    }
    assert_eq!(reason(external(), &token().without("cnf")), Some(Rejection::BindingMissing));
    let mut world = world(external());
    let dpop = token().claim("cnf", json!({"jkt": PROOF_KEY.thumbprint().to_string()})).sign(&OTHER_KEY);
    let good = world.proof(&dpop).claim("htu", "https://api.bank.example/transfers").proven();
    assert_eq!(world.reason(&Call::dpop(&dpop, &good)), None);
    assert_eq!(world.reason(&Call::dpop(&dpop, &good)), Some(Rejection::ProofReplayed));
    let other = world.proof(&dpop).claim("jti", "p-2").sign(&OTHER_KEY);
    assert!(matches!(
        world.reason(&Call::dpop(&dpop, &other)),
        Some(Rejection::ProofMalformed | Rejection::ProofKeyMismatch)
    ));
}

#[test]
fn the_client_is_read_from_the_claim_that_the_issuer_uses() {
    for (claim, name) in [(ClientIdClaim::Azp, "azp"), (ClientIdClaim::Sub, "sub")] {
        let reads = || WireExternal { client_id_claim: claim, ..external() };
        let good = token().without("client_id").claim(name, "shop-7");
        assert_eq!(reason(reads(), &good), None, "{name}");
        assert_eq!(reason(reads(), &good.clone().claim(name, "other")), Some(Rejection::CallerMismatch), "{name}");
        let beside = good.clone().claim(name, "other").claim("client_id", "shop-7");
        assert_eq!(reason(reads(), &beside), Some(Rejection::CallerMismatch), "{name}: no other claim counts");
        for bad in [json!(""), json!(7), json!(["shop-7"]), Value::Null] {
            assert_eq!(reason(reads(), &good.clone().claim(name, bad)), Some(Rejection::TokenMalformed), "{name}");
        }
        assert_eq!(reason(reads(), &good.without(name)), Some(Rejection::TokenMalformed), "{name}");
    }
    let mesh = World::new().token().without("client_id").claim("azp", SHOP).issued();
    assert_eq!(world(external()).bearer_reason(&mesh), Some(Rejection::TokenMalformed), "the mesh's own has client_id");
}

#[test]
fn typ_jwt_only_where_the_policy_says_so() {
    let jwt = || WireExternal { typ: TokenTyp::Jwt, ..external() };
    for typ in ["JWT", "jwt", "at+jwt", "application/at+jwt"] {
        assert_eq!(reason(jwt(), &token().head("typ", typ)), None, "{typ}");
    }
    assert_eq!(reason(external(), &token().head("typ", "JWT")), Some(Rejection::TokenType));
    for typ in ["", "dpop+jwt", "logout+jwt", "token-introspection+jwt", "application/jwt", "JWT "] {
        assert_eq!(reason(jwt(), &token().head("typ", typ)), Some(Rejection::TokenType), "{typ}");
    }
    assert_eq!(reason(jwt(), &token().headless("typ")), Some(Rejection::TokenType));
    let mesh = World::new().token().head("typ", "JWT").issued();
    assert_eq!(world(jwt()).bearer_reason(&mesh), Some(Rejection::TokenType), "not of the mesh's own issuer");
    assert_eq!(reason(jwt(), &token().head("typ", "JWT").without("jti")), None, "older servers leave it out");
    assert_eq!(reason(external(), &token().without("jti")), Some(Rejection::TokenMalformed));
}

#[test]
fn audiences_belong_to_their_issuer() {
    assert_eq!(reason(external(), &token().claim("aud", AUDIENCE)), Some(Rejection::AudienceMismatch));
    let mesh = World::new().token().claim("aud", API).issued();
    assert_eq!(world(external()).bearer_reason(&mesh), Some(Rejection::AudienceMismatch));
    assert_eq!(reason(external(), &token().claim("aud", json!(["https://other", API]))), None);
}

#[test]
fn only_the_algorithms_of_fapi_are_taken() {
    for alg in ["RS256", "none", "HS256", "ES384", "PS512", "es256"] {
        assert_eq!(reason(external(), &token().head("alg", alg)), Some(Rejection::AlgNotAllowed), "{alg}");
    }
    assert_eq!(reason(external(), &token().head("alg", "PS256")), Some(Rejection::KeyNotFound));
    assert_eq!(world(external()).bearer_reason(&token().sign(&PROOF_KEY)), Some(Rejection::SignatureInvalid));
    for name in ["jku", "x5u", "x5c", "jwk"] {
        assert_eq!(reason(external(), &token().head(name, "https://evil")), Some(Rejection::TokenMalformed), "{name}");
    }
}

#[test]
fn it_is_too_old_after_the_age_of_its_issuer() {
    let aged = |max_token_age, secs| {
        let mut world = world(WireExternal { max_token_age, ..external() });
        let long = token().claim("exp", NOW + 86_400).sign(&OTHER_KEY);
        world.now = UnixTime::from_secs(NOW + secs);
        world.ask(&Call::bearer(&long))
    };
    let Verdict::Admit(admission) = aged(60, 60) else { panic!("refused") };
    assert_eq!(admission.expires(), Some(UnixTime::from_secs(NOW + 60)), "and long calls end with it");
    let Verdict::Refuse(refusal) = aged(60, 61) else { panic!("admitted") };
    assert_eq!(refusal.rejection, Rejection::TokenTooOld);
    let mut stricter = world(external());
    stricter.wire.rules[0].max_token_age = Some(5);
    stricter.now = UnixTime::from_secs(NOW + 6);
    assert_eq!(stricter.bearer_reason(&token().sign(&OTHER_KEY)), Some(Rejection::TokenTooOld), "of two the stricter");
}

#[test]
fn scopes_that_the_platform_does_not_allow_do_not_count() {
    let allowed = |scopes: &[&str]| WireExternal { scopes: Some(texts(scopes)), ..external() };
    assert_eq!(reason(allowed(&["transfers:write", "more"]), &token()), None);
    for scopes in [&[] as &[&str], &["accounts:read"]] {
        assert_eq!(reason(allowed(scopes), &token()), Some(Rejection::ScopeInsufficient));
    }
    assert_eq!(
        reason(allowed(&["transfers:write"]), &token().claim("scope", "other")),
        Some(Rejection::ScopeInsufficient)
    );
}

#[test]
fn a_rule_may_name_the_client() {
    let named = |issuer: &str, client_id: &str, caller| {
        let mut world = world(external());
        let (issuer, client_id) = (issuer.to_owned(), client_id.to_owned());
        world.wire.rules[0].callers.clear();
        world.wire.rules[0].clients = vec![WireClient { issuer, client_id, caller }];
        world
    };
    let theirs = token().sign(&OTHER_KEY);
    assert_eq!(named("bank-as", "shop-7", None).bearer_reason(&theirs), None);
    assert_eq!(named("bank-as", "shop-7", Some(account("bank", "shop"))).bearer_reason(&theirs), None);
    for mut other in [
        named("bank-as", "shop-8", None),
        named("other-as", "shop-7", None),
        named("bank-as", "shop-7", Some(account("bank", "ledger"))),
        named("bank-as", "shop-7", Some(namespace("web"))),
    ] {
        assert_eq!(other.bearer_reason(&theirs), Some(Rejection::CallerNotAllowed));
    }
    let mesh = World::new().token();
    let mut world = named("bank-as", "shop-7", None);
    assert_eq!(
        world.bearer_reason(&mesh.issued()),
        Some(Rejection::CallerNotAllowed),
        "a token of the mesh is no client"
    );
    let as_client = mesh.claim("client_id", "shop-7").issued();
    assert_eq!(world.bearer_reason(&as_client), Some(Rejection::CallerNotAllowed));
    let policy = Policy::compile(&TrustDomain::parse("bank.example").unwrap(), &world.wire).unwrap();
    assert_eq!(policy.grant(&id(SHOP), None).unwrap().scopes.to_string(), "accounts:read", "nor is it granted as one");
}

#[test]
fn keys_that_were_never_reached_are_told_apart_from_keys_that_are_not_there() {
    let mut world = world(external());
    world.keys = IssuerKeys::new();
    world.keys_fresh = false;
    let call = Call::bearer(&token().sign(&OTHER_KEY));
    let Verdict::NeedKeys(issuer) = world.ask(&call) else { panic!("no keys were asked for") };
    assert_eq!(issuer.as_str(), BANK_AS);
    world.keys_fresh = true;
    let refusal = world.refusal(&call);
    assert_eq!((refusal.rejection, refusal.answer.status.as_u16()), (Rejection::IssuerUnavailable, 503));
    world.keys.insert(issuer.clone(), key_set(&[published(&OTHER_KEY, "as-2")]));
    assert_eq!(world.reason(&call), Some(Rejection::KeyNotFound));
    world.keys.insert(issuer.clone(), key_set(&[published(&OTHER_KEY, "as-1")]));
    assert_eq!(world.reason(&call), None);
    world.keys.remove(&issuer);
    world.generation += 1;
    assert_eq!(world.reason(&call), Some(Rejection::IssuerUnavailable), "what was proven with them is void too");
}

#[test]
fn a_long_call_ends_when_its_client_is_no_longer_mapped() {
    let mut before = world(external());
    let call = Call::bearer(&token().sign(&OTHER_KEY));
    let grounds = before.admission(&call).grounds();
    let again = |world: &World| {
        let policy = compiled(&world.wire);
        let World { keys, peer, nonces, replay, revocations, now, .. } = world;
        let ctx = Context {
            policy: &policy,
            keys,
            keys_fresh: true,
            peer,
            nonces,
            replay,
            revocations,
            generation: 2,
            now: *now,
        };
        decide_again(
            &ctx,
            &Request { method: &call.method, path: &call.path, query: None, headers: &call.headers },
            &grounds,
        )
    };
    assert_eq!(again(&before), Ok(()));
    before.wire.external[0].clients.clear();
    assert_eq!(again(&before), Err(Rejection::CallerMismatch));
    before.wire.external.clear();
    assert_eq!(again(&before), Err(Rejection::IssuerNotAllowed));
}

#[test]
fn what_is_wrong_with_an_external_issuer_is_found_at_once() {
    let mut wire = World::new().wire;
    let mapping = |id: &str| WireMapping { client_id: id.to_owned(), callers: vec![] };
    wire.external = vec![
        WireExternal {
            name: String::new(),
            issuer: "http://plain".to_owned(),
            resources: vec![],
            max_token_age: 4,
            scopes: Some(texts(&["a b"])),
            clients: vec![mapping(""), mapping(SHOP), mapping("")],
            ..external()
        },
        WireExternal { issuer: ISSUER.to_owned(), ..external() },
    ];
    wire.rules[0].clients = vec![WireClient { issuer: String::new(), client_id: SHOP.to_owned(), caller: None }];
    let problems = Policy::compile(&TrustDomain::parse("bank.example").unwrap(), &wire).unwrap_err();
    let fields: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
    let clients =
        ["[0].clientId", "[0].callers", "[1].clientId", "[1].callers", "[2].clientId", "[2].callers", "[2].clientId"]
            .map(|field| format!("external[0].clients{field}"));
    let mut expected =
        vec!["external[0].name", "external[0].resources", "external[0].maxTokenAge", "external[0].scopes"];
    expected.extend(clients.iter().map(String::as_str));
    expected.extend([
        "external[0].issuer",
        "external[1].issuer",
        "rules[0].clients[0].clientId",
        "rules[0].clients[0].issuer",
    ]);
    assert_eq!(fields, expected);
}

#[test]
fn keys_of_another_use_or_curve_do_not_spoil_a_set() {
    let strange = [
        json!({"kty": "RSA", "use": "enc", "kid": "as-1", "n": "AQAB", "e": "AQAB"}),
        json!({"kty": "EC", "crv": "P-521", "kid": "as-1", "x": "AA", "y": "AA"}),
        json!({"kty": "oct", "k": "AAAA"}),
        json!("no key"),
    ];
    let mut keys = strange.to_vec();
    keys.push(published(&OTHER_KEY, "as-1"));
    let mut world = world(external());
    world.keys.insert(Issuer::parse(BANK_AS).unwrap(), key_set(&keys));
    assert_eq!(world.bearer_reason(&token().sign(&OTHER_KEY)), None);
    assert_eq!(KeySet::from_jwks_json(b"<html></html>").unwrap_err(), JwksError::NotAKeySet);
}
