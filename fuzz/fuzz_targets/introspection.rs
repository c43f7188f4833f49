//! What an issuer answers about an opaque token: the first byte says what is bent, a plain answer (RFC 7662), or text, header or
//! claims of a signed one (RFC 9701).
#![no_main]

use std::sync::{Arc, LazyLock};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use fapi::{
    Context, Introspected, Introspection, IntrospectionFault, Issuer, IssuerKeys, KeySet, Policy, PortPolicy,
    ProvenTokens, ReplaySet, Request, Revocations, TokenHash, TrustDomain, UnixTime, Verdict, decide_introspected,
};
use fuzz::{AUDIENCE, ISSUER, NOW, WORLD, key_set, object, published};
use http::{HeaderMap, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

const BANK_AS: &str = "https://login.bank.example";
const API: &str = "https://api.bank.example";
const TOKEN: &str = "2YotnFZFEjr1zCsicMWpAA";
/// Nothing rests on an answer for longer, in seconds.
const COUNTS_FOR: u64 = 30;

static ISSUED_BY: LazyLock<Issuer> = LazyLock::new(|| Issuer::parse(BANK_AS).unwrap());
static KEYS: LazyLock<KeySet> = LazyLock::new(|| key_set(&[published(&WORLD.issuer)]));
static POLICY: LazyLock<PortPolicy> = LazyLock::new(policy);
static GOOD: LazyLock<String> = LazyLock::new(|| WORLD.issued(header().as_bytes(), claims().as_bytes()));

fn policy() -> PortPolicy {
    let shop = json!({"namespace": "bank", "serviceAccount": "shop"});
    let wire = json!({
        "name": "bank/payments", "mode": "Enforce", "resources": [{"audience": AUDIENCE, "origins": [AUDIENCE]}],
        "issuers": [ISSUER], "senderConstraints": ["MTLS", "DPoP"],
        "external": [{
            "name": "bank-as", "issuer": BANK_AS, "resources": [{"audience": API, "origins": [AUDIENCE]}], "opaque": true,
            "maxTokenAge": 900, "clients": [{"clientId": "shop-7", "callers": [shop]}],
        }],
        "rules": [{"scopes": ["transfers:write"], "callers": [], "clients": [{"issuer": "bank-as", "clientId": "shop-7"}]}],
    });
    let domain = TrustDomain::parse("bank.example").unwrap();
    PortPolicy::Policy(Arc::new(Policy::compile(&domain, &serde_json::from_value(wire).unwrap()).unwrap()))
}

fn header() -> String {
    json!({"alg": "ES256", "typ": "token-introspection+jwt", "kid": WORLD.issuer.kid()}).to_string()
}

fn claims() -> String {
    let said = json!({
        "active": true, "client_id": "shop-7", "aud": API, "iat": NOW, "exp": NOW + 20, "scope": "transfers:write",
        "cnf": {"x5t#S256": WORLD.peer.thumbprint.to_string()},
    });
    json!({"iss": BANK_AS, "aud": API, "iat": NOW, "token_introspection": said}).to_string()
}

fn signed(jwt: &str) -> Result<Introspection, IntrospectionFault> {
    let now = UnixTime::from_secs(NOW);
    Introspection::verify((&ISSUED_BY, &KEYS), &[API], TokenHash::of(TOKEN), jwt, (now, now.plus(COUNTS_FOR)))
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, bent)) = data.split_first() else { return };
    let (read, answer) = if choice % 4 == 0 {
        let until = UnixTime::from_secs(NOW + COUNTS_FOR);
        (Introspection::parse(&ISSUED_BY, TokenHash::of(TOKEN), bent, until), object(bent))
    } else {
        let text = match choice % 4 {
            1 => String::from_utf8_lossy(bent).replace("$good", &GOOD),
            2 => WORLD.issued(bent, claims().as_bytes()),
            _ => WORLD.issued(header().as_bytes(), bent),
        };
        let read = signed(&text);
        assert!(choice % 4 != 1 || read.is_err() || text == *GOOD, "nobody has signed it");
        let answer = read.is_ok().then(|| inside(&text));
        (read, answer)
    };
    let Ok(read) = read else { return };
    let answer = answer.expect("one object, no member twice");
    assert!(read.until() <= UnixTime::from_secs(NOW + COUNTS_FOR));
    if let Some(exp) = answer.get("exp") {
        assert!(read.until() <= UnixTime::from_secs(exp.as_u64().expect("whole and not below zero")));
    }
    assert!(answer["active"].is_boolean());
    if admits(read) {
        judge(&answer);
    }
});

/// What a signed answer says of the token; its wrapping must be in order.
fn inside(jwt: &str) -> Map<String, Value> {
    let part = |at: usize| URL_SAFE_NO_PAD.decode(jwt.split('.').nth(at).unwrap()).unwrap();
    let [header, claims] = [0, 1].map(|at| object(&part(at)).expect("one object, no member twice"));
    assert_eq!(header["alg"], "ES256");
    let typ = header["typ"].as_str().unwrap().to_ascii_lowercase();
    assert!(typ == "token-introspection+jwt" || typ == "application/token-introspection+jwt");
    assert!(header.get("kid").is_none_or(|kid| kid == WORLD.issuer.kid()));
    assert_eq!(claims["iss"], BANK_AS);
    assert!(claims["aud"] == API || claims["aud"].as_array().is_some_and(|list| list.iter().any(|one| one == API)));
    let made = claims["iat"].as_u64().unwrap();
    assert!(made <= NOW + 30 && NOW <= made + 300);
    claims["token_introspection"].as_object().unwrap().clone()
}

fn admits(said: Introspection) -> bool {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::try_from(format!("Bearer {TOKEN}")).unwrap());
    let ctx = Context {
        policy: &POLICY,
        keys: &IssuerKeys::new(),
        keys_fresh: true,
        peer: &WORLD.peer,
        nonces: &WORLD.nonces,
        replay: &ReplaySet::new(16, 16),
        revocations: &Revocations::none(),
        generation: 1,
        now: UnixTime::from_secs(NOW),
    };
    let request = Request { method: &Method::POST, path: "/transfers", query: None, headers: &headers };
    let said = Arc::new(said);
    let verdict = decide_introspected(&ctx, &request, &mut ProvenTokens::new(), Introspected::Answered(&said));
    matches!(verdict, Verdict::Admit(_))
}

/// An active token of the one client, for us, of age and scope, bound to this caller's certificate and to nothing else.
fn judge(answer: &Map<String, Value>) {
    assert_eq!(answer["active"], true);
    assert_eq!(answer["client_id"], "shop-7");
    assert!(answer.get("iss").is_none_or(|iss| iss == BANK_AS));
    assert!(answer["aud"] == API || answer["aud"].as_array().is_some_and(|list| list.iter().any(|one| one == API)));
    assert!(answer["exp"].as_u64().unwrap() + 5 > NOW);
    let issued = answer["iat"].as_u64().unwrap();
    assert!(issued <= NOW + 30 && NOW <= issued + 900);
    assert!(answer["scope"].as_str().unwrap().split(' ').any(|scope| scope == "transfers:write"));
    let cnf = answer["cnf"].as_object().unwrap();
    assert_eq!(cnf.len(), 1);
    assert_eq!(cnf["x5t#S256"], WORLD.peer.thumbprint.to_string());
}
