mod token;

use super::*;
use crate::{
    Rejection,
    testing::{account, id, namespace, rule, texts, wire_policy},
};

fn domain() -> TrustDomain {
    TrustDomain::parse("bank.example").unwrap()
}

fn with_rules(rules: Vec<WireRule>) -> Policy {
    Policy::compile(&domain(), &WirePolicy { rules, ..wire_policy() }).unwrap()
}

fn scopes(text: &str) -> ScopeSet {
    ScopeSet::parse(text).unwrap()
}

fn caller(namespace: &str, name: &str) -> SpiffeId {
    id(&format!("spiffe://bank.example/ns/{namespace}/sa/{name}"))
}

/// The verdict about a young token without details and actors.
fn judged<'p>(policy: &'p Policy, path: &str, method: &Method, who: &SpiffeId, has: &str) -> Result<(), Unmatched<'p>> {
    let (scopes, details) = (scopes(has), AuthorizationDetails::default());
    let credentials = Credentials { caller: who, client: None, actors: 0, scopes: &scopes, details: &details, age: 0 };
    policy.judge(path, method, &credentials).map(|_| ())
}

/// Whether the call of bank/shop with every scope passes.
fn passes(policy: &Policy, method: &Method, path: &str) -> bool {
    judged(policy, path, method, &caller("bank", "shop"), "a b c").is_ok()
}

#[test]
fn the_most_specific_path_governs_alone() {
    let (shop, other) = ([account("bank", "shop")], [account("bank", "other")]);
    let policy = with_rules(vec![
        rule(&[], &[], &[], &shop, &[]),
        rule(&[], &[], &["/a"], &other, &[]),
        rule(&[], &[], &["/a/b", "/c/"], &shop, &[]),
        rule(&["GET"], &["/a/b/exact"], &[], &shop, &[]),
        rule(&[], &["/admin"], &[], &other, &[]),
    ]);
    for (path, good) in [
        ("/", true),
        ("/x", true),
        ("/ab", true),
        ("/a", false),
        ("/a/", false),
        ("/a/x", false),
        ("/a/b", true),
        ("/a/b/", true),
        ("/a/b/c/d/e/f", true),
        ("/a/bc", false),
        ("/c", true),
        ("/c/d", true),
        ("/admin", false),
        ("/admin/", false),
        ("/admin/x", true),
    ] {
        assert_eq!(passes(&policy, &Method::POST, path), good, "{path}");
    }
    assert!(passes(&policy, &Method::GET, "/a/b/exact"));
    assert!(!passes(&policy, &Method::POST, "/a/b/exact"), "a broader path does not open a narrow one");
}

#[test]
fn an_encoding_leads_past_no_rule() {
    let policy = with_rules(vec![
        rule(&[], &[], &["/v1"], &[account("bank", "shop")], &["accounts:read"]),
        rule(&[], &["/v1/accounts:transfer"], &[], &[account("bank", "shop")], &["transfers:write"]),
    ]);
    let (shop, post) = (caller("bank", "shop"), Method::POST);
    for path in ["/v1/accounts:transfer", "/v1/accounts%3Atransfer", "/v1/accounts%3atransfer/"] {
        assert!(judged(&policy, path, &post, &shop, "accounts:read").is_err(), "{path}");
        assert_eq!(judged(&policy, path, &post, &shop, "transfers:write"), Ok(()), "{path}");
    }
}

#[test]
fn a_prefix_of_the_root_is_more_specific_than_no_path() {
    let policy = with_rules(vec![
        rule(&[], &[], &[], &[account("bank", "shop")], &[]),
        rule(&[], &[], &["/"], &[account("bank", "other")], &[]),
    ]);
    assert!(!passes(&policy, &Method::GET, "/") && !passes(&policy, &Method::GET, "/x/y"));
}

#[test]
fn of_the_rules_of_one_path_any_admits_and_order_means_nothing() {
    let mut rules = vec![
        rule(&["GET"], &["/a"], &[], &[account("bank", "other")], &[]),
        rule(&["POST"], &["/a"], &[], &[account("bank", "shop")], &["a"]),
        rule(&["GET"], &["/a"], &[], &[namespace("bank")], &["zzz"]),
        rule(&["GET"], &["/a", "/b"], &["/c"], &[namespace("bank")], &["a", "b"]),
    ];
    for _ in 0..rules.len() {
        let policy = with_rules(rules.clone());
        assert!(passes(&policy, &Method::GET, "/a") && passes(&policy, &Method::POST, "/a"));
        assert!(!passes(&policy, &Method::PUT, "/a"));
        rules.rotate_left(1);
    }
}

#[test]
fn the_reason_is_the_furthest_that_any_rule_came() {
    let policy = with_rules(vec![
        rule(&["GET"], &["/a"], &[], &[account("bank", "shop")], &["needed"]),
        rule(&["GET"], &["/a"], &[], &[account("bank", "other")], &[]),
    ]);
    let reason =
        |path, method: &Method, who: &SpiffeId| judged(&policy, path, method, who, "a").unwrap_err().rejection();
    let shop = caller("bank", "shop");
    assert_eq!(reason("/b", &Method::GET, &shop), Rejection::RuleNotMatched);
    assert_eq!(reason("/a", &Method::PUT, &shop), Rejection::RuleNotMatched);
    assert_eq!(reason("/a", &Method::GET, &caller("bank", "third")), Rejection::CallerNotAllowed);
    let unmatched = judged(&policy, "/a", &Method::GET, &shop, "a").unwrap_err();
    assert_eq!(unmatched, Unmatched::Authorization(&scopes("needed")));
    assert_eq!(unmatched.rejection(), Rejection::ScopeInsufficient);
    // Of two that came as far, the first is told.
    let of = |scope: &str| rule(&["GET"], &["/a"], &[], &[account("bank", "shop")], &[scope]);
    let policy = with_rules(vec![of("first"), of("second")]);
    let unmatched = judged(&policy, "/a", &Method::GET, &shop, "a").unwrap_err();
    assert_eq!(unmatched, Unmatched::Authorization(&scopes("first")));
}

#[test]
fn callers_are_compared_with_trust_domain_namespace_and_name() {
    let policy = with_rules(vec![rule(&[], &[], &[], &[account("bank", "shop"), namespace("web")], &[])]);
    let passes = |who: &SpiffeId| judged(&policy, "/", &Method::GET, who, "").is_ok();
    assert!(passes(&caller("bank", "shop")) && passes(&caller("web", "any")));
    assert!(!passes(&caller("bank", "shop2")) && !passes(&caller("web2", "shop")));
    assert!(!passes(&id("spiffe://evil.example/ns/bank/sa/shop")));
    assert!(!passes(&id("spiffe://evil.example/ns/web/sa/any")));
}

#[test]
fn the_issuer_grants_what_the_rules_give_and_no_more() {
    let policy = with_rules(vec![
        rule(&["GET"], &["/a"], &[], &[account("bank", "shop")], &["a", "b"]),
        rule(&["PUT"], &["/b"], &[], &[namespace("bank")], &["c"]),
        rule(&["PUT"], &["/c"], &[], &[account("web", "x")], &["d"]),
        rule(&[], &["/open"], &[], &[account("web", "plain")], &[]),
    ]);
    let grant =
        |who: &SpiffeId, asked: Option<&str>| policy.grant(who, asked.map(scopes).as_ref()).map(|grant| grant.scopes);
    let shop = caller("bank", "shop");
    assert_eq!(grant(&shop, None), Ok(scopes("a b c")));
    assert_eq!(grant(&shop, Some("c a")), Ok(scopes("a c")));
    assert_eq!(grant(&shop, Some("")), Ok(scopes("")));
    assert_eq!(grant(&shop, Some("a d e")), Err(GrantRefusal::ScopeNotAllowed(scopes("d e"))));
    assert_eq!(grant(&caller("bank", "other"), None), Ok(scopes("c")));
    assert_eq!(grant(&caller("web", "plain"), None), Ok(scopes("")));
    assert_eq!(grant(&caller("evil", "x"), None), Err(GrantRefusal::CallerNotAllowed));
    assert_eq!(grant(&id("spiffe://evil.example/ns/bank/sa/shop"), None), Err(GrantRefusal::CallerNotAllowed));
}

#[test]
fn all_problems_are_reported_at_once() {
    let mut wire = wire_policy();
    wire.name.clear();
    wire.resources[0].audience = "payments".to_owned();
    wire.resources[0].origins = texts(&["https://good.bank", "http://bad.bank"]);
    wire.issuers = texts(&["mesh"]);
    wire.sender_constraints.clear();
    wire.rules[0].methods = texts(&["GET", "get"]);
    wire.rules[0].paths = texts(&["/a", "b", "/c*", "/d/../e", "/%41", "/f;g", "//"]);
    wire.rules[1].path_prefixes = texts(&["/a//b"]);
    wire.rules[1].callers = vec![namespace("Bank"), account("bank", "Shop"), namespace("web")];
    wire.rules[1].scopes = texts(&["a b"]);
    wire.rules.push(rule(&[], &[], &[], &[], &[]));
    let problems = Policy::compile(&domain(), &wire).unwrap_err();
    let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
    let wanted = [
        "name",
        "senderConstraints",
        "resources[0].origins[1]",
        "resources[0].audience",
        "issuers[0]",
        "rules[0].methods[1]",
        "rules[0].paths[1]",
        "rules[0].paths[2]",
        "rules[0].paths[3]",
        "rules[0].paths[4]",
        "rules[0].paths[5]",
        "rules[0].paths[6]",
        "rules[1].pathPrefixes[0]",
        "rules[1].scopes",
        "rules[1].callers[0]",
        "rules[1].callers[1]",
        "rules[2].callers",
    ];
    assert_eq!(fields, wanted);
}

#[test]
fn an_empty_list_never_reads_as_all() {
    let empty =
        WirePolicy { resources: vec![], issuers: vec![], rules: vec![], sender_constraints: vec![], ..wire_policy() };
    assert_eq!(Policy::compile(&domain(), &empty).unwrap_err().len(), 4);
    let mut wire = wire_policy();
    wire.resources[0].origins.clear();
    assert_eq!(Policy::compile(&domain(), &wire).unwrap_err().len(), 1);
}

#[test]
fn an_exemption_says_exactly_what_passes() {
    let one =
        |port, paths: &[&str], sources: &[&str]| WireExemption { port, paths: texts(paths), sources: texts(sources) };
    let with = |exempt| Policy::compile(&domain(), &WirePolicy { exempt, ..wire_policy() });
    assert!(with(vec![one(9090, &["/metrics"], &["10.0.0.0/8", "::1/128"]); 8]).is_ok());
    assert!(with(vec![one(9090, &["/a"; 8], &["10.0.0.0/8"; 8])]).is_ok());
    let (paths, sources) = (["/a"; 9], ["10.0.0.0/8"; 9]);
    for (exemption, field) in [
        (one(0, &["/metrics"], &["10.0.0.0/8"]), "exempt[0].port"),
        (one(9090, &[], &["10.0.0.0/8"]), "exempt[0].paths"),
        (one(9090, &paths, &["10.0.0.0/8"]), "exempt[0].paths"),
        (one(9090, &["/metrics/*"], &["10.0.0.0/8"]), "exempt[0].paths[0]"),
        (one(9090, &["/metrics?a=b"], &["10.0.0.0/8"]), "exempt[0].paths[0]"),
        (one(9090, &["/metrics"], &[]), "exempt[0].sources"),
        (one(9090, &["/metrics"], &sources), "exempt[0].sources"),
        (one(9090, &["/metrics"], &["10.0.0.0/8", "0.0.0.0/0"]), "exempt[0].sources[1]"),
    ] {
        let problems = with(vec![exemption]).unwrap_err();
        assert_eq!(problems.iter().map(|problem| problem.field.as_str()).collect::<Vec<_>>(), [field]);
    }
    assert_eq!(with(vec![one(9090, &["/metrics"], &["10.0.0.0/8"]); 9]).unwrap_err()[0].field, "exempt");
    let port = PortPolicy::Policy(Arc::new(with(vec![one(9090, &["/metrics"], &["10.0.0.0/8"])]).unwrap()));
    let may = |number, source: &str| port.may_be_exempt(number, source.parse().unwrap());
    assert!(may(9090, "10.1.2.3") && !may(9091, "10.1.2.3") && !may(9090, "11.1.2.3"));
    assert!(!PortPolicy::Missing.may_be_exempt(9090, "10.1.2.3".parse().unwrap()));
}

#[test]
fn a_policy_knows_its_name_and_whom_it_stands_for() {
    let wire = wire_policy();
    let policy = Policy::compile(&domain(), &wire).unwrap();
    assert_eq!(policy.name(), wire.name);
    let audiences: Vec<String> = policy.audiences().map(ToString::to_string).collect();
    assert_eq!(audiences, wire.resources.iter().map(|resource| resource.audience.clone()).collect::<Vec<_>>());
}

#[test]
fn the_document_has_one_form() {
    let text = serde_json::to_string(&wire_policy()).unwrap();
    assert!(text.contains(r#""senderConstraints":["MTLS","DPoP"]"#), "{text}");
    assert!(text.contains(r#"{"namespace":"bank","serviceAccount":"shop"}"#), "{text}");
    assert!(text.contains(r#"{"namespace":"bank"}"#) && text.contains(r#""mode":"Enforce""#), "{text}");
    assert_eq!(serde_json::from_str::<WirePolicy>(&text).unwrap(), wire_policy());
    let unknown = text.replacen('{', r#"{"surprise":1,"#, 1);
    assert!(serde_json::from_str::<WirePolicy>(&unknown).is_err());
}

#[test]
fn ten_thousand_rules_are_found_like_ten() {
    let shop = [account("bank", "shop")];
    let many = (0..10_000).map(|n| rule(&["GET"], &[&format!("/e/{n}")], &[&format!("/p/{n}")], &shop, &[])).collect();
    let policy = with_rules(many);
    assert!(passes(&policy, &Method::GET, "/e/9999") && passes(&policy, &Method::GET, "/p/5000/x/y"));
    assert!(!passes(&policy, &Method::GET, "/e/10000"));
    let deep = "/p".to_owned() + &"/x".repeat(4000);
    assert!(!passes(&policy, &Method::GET, &deep), "a deep path costs two lookups");
}
