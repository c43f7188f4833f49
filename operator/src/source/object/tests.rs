#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

mod bent;

use super::*;
use crate::source::documents;
use crate::testing::domain;

fn read(text: &str) -> Parsed {
    parse(&Schemas::new(), &domain(), documents::split(text)[0])
}

/// Line and field of everything that is wrong.
fn wrong(text: &str) -> Vec<(u32, String)> {
    match read(text) {
        Parsed::Good(_) => Vec::new(),
        Parsed::Bad(bad) => {
            assert!(bad.findings.iter().all(|found| !found.message.is_empty() && !found.remedy.is_empty()), "{bad:?}");
            bad.findings.into_iter().map(|found| (found.line, found.field)).collect()
        }
    }
}

fn document(kind: &str, metadata: &str, spec: &str) -> String {
    format!("apiVersion: fapi-mesh.dev/v1alpha1\nkind: {kind}\nmetadata: {metadata}\nspec:\n{spec}\n")
}

fn policy(spec: &str) -> String {
    document("FapiPolicy", "{name: p, namespace: bank}", spec)
}

#[test]
fn everything_that_is_wrong_is_found_at_once() {
    let text = policy(
        "  targetRefs: [{name: payments, port: 1}]\n  mode: Off\n  rules:\n  - methods: [FETCH]\n    paths: [transfers]\n  \
         - callers: []",
    );
    let fields = [
        (5, "spec.targetRefs[0].port"),
        (6, "spec.mode"),
        (8, "spec.rules[0].methods[0]"),
        (9, "spec.rules[0].paths[0]"),
        (10, "spec.rules[1].callers"),
    ];
    let mut found = wrong(&text);
    found.sort();
    assert_eq!(found, fields.map(|(line, field)| (line, field.to_owned())));
}

#[test]
fn what_cel_says_in_a_cluster_is_said_here_too() {
    let section = "  targetRefs: [{kind: Namespace, name: bank, sectionName: http}]";
    let other = "  targetRefs: [{kind: Namespace, name: web}]";
    let anyone = "  targetRefs: [{name: payments}]\n  rules:\n  - callers: [{}]";
    let twice = "  serviceAccountName: a\n  targets:\n  - {serviceName: b}\n  - {serviceName: b, namespace: bank}";
    let client = document("FapiClient", "{name: a, namespace: bank}", twice);
    let mesh = |name: &str, spec: &str| document("FapiMesh", &format!("{{name: {name}}}"), spec);
    for (text, line, field) in [
        (policy(section), 5, "spec.targetRefs[0].sectionName"),
        (policy(other), 5, "spec.targetRefs[0].name"),
        (policy(anyone), 7, "spec.rules[0].callers[0]"),
        (client, 8, "spec.targets[1]"),
        (mesh("other", "  trustDomain: bank.example"), 3, "metadata.name"),
        (mesh("default", "  certificateLifetime: 9s"), 5, "spec.certificateLifetime"),
        (mesh("default", "  tokenLifetime: 13h"), 5, "spec.tokenLifetime"),
    ] {
        assert_eq!(wrong(&text), [(line, field.to_owned())], "{text}");
    }
}

/// A FapiClient in the namespace bank; its `authentication` begins on line 7.
fn client_with(authentication: &str) -> String {
    let spec = format!("  serviceAccountName: a\n  targets: [{{serviceName: b}}]\n  authentication: {authentication}");
    document("FapiClient", "{name: a, namespace: bank}", &spec)
}

#[test]
fn a_client_that_signs_has_public_keys_that_can_be_used() {
    let jwk = fapi::SigningKey::generate().unwrap().public_jwk();
    let key = |kid: &str| format!("{{kid: {kid}, kty: EC, crv: P-256, x: {}, y: {}}}", jwk["x"], jwk["y"]);
    let with = |keys: &str| client_with(&format!("{{method: PrivateKeyJWT, jwks: {{keys: [{keys}]}}}}"));
    let Parsed::Good(written) = read(&with(&format!("{}, {}", key("one"), key("two")))) else { panic!("in order") };
    let Body::Client(spec) = written.body else { panic!("a client") };
    let keys = fapi::KeySet::from_jwks_json(spec.jwks.unwrap().as_bytes()).unwrap();
    assert_eq!(keys.len(), 2);
    assert_eq!(wrong(&client_with("{}")), [], "by certificate");
    assert_eq!(wrong(&client_with("{method: PrivateKeyJWT}")), [], "with keys that its sidecars make");

    let first = "spec.authentication.jwks.keys[0]";
    let second = "spec.authentication.jwks.keys[1]";
    for (text, fields) in [
        (client_with(&format!("{{jwks: {{keys: [{}]}}}}", key("one"))), vec!["spec.authentication.jwks"]),
        (client_with("{method: ClientSecret}"), vec!["spec.authentication.method"]),
        (with(""), vec!["spec.authentication.jwks.keys"]),
        (with(&format!("{}, {}", key("one"), key("one"))), vec![second]),
        (with(&key("one").replace("crv: P-256, ", "")), vec![first]),
        (with(&key("one").replace("kid: one, ", "")), vec!["spec.authentication.jwks.keys[0].kid"]),
        (with(&key("one").replace("kty", "d: AAAA, kty")), vec!["spec.authentication.jwks.keys[0].d"]),
        (with(&key("one").replace("kty", "alg: RS256, kty")), vec!["spec.authentication.jwks.keys[0].alg"]),
        (
            with("{kid: s, kty: oct, k: AAAA}"),
            vec!["spec.authentication.jwks.keys[0].k", "spec.authentication.jwks.keys[0].kty"],
        ),
    ] {
        let mut found: Vec<_> = wrong(&text).into_iter().map(|(_, field)| field).collect();
        found.sort();
        assert_eq!(found, fields, "{text}");
    }
}

#[test]
fn origins_are_other_names_of_one_service() {
    let with = |targets: &str, origins: &str| {
        document("FapiPolicy", "{name: p, namespace: bank}", &format!("  targetRefs: {targets}\n  origins: {origins}"))
    };
    let good = r#"["https://api.bank.example", "https://pay.bank.example:8443"]"#;
    let Parsed::Good(written) = read(&with("[{name: payments}]", good)) else { panic!("in order") };
    let Body::Policy(policy) = written.body else { panic!("a policy") };
    assert_eq!(policy.spec.origins, ["https://api.bank.example", "https://pay.bank.example:8443"]);
    for (targets, origins, field) in [
        ("[{name: payments}, {name: ledger}]", good, "spec.origins"),
        ("[{kind: Namespace, name: bank}]", good, "spec.origins"),
        ("[{name: payments}]", r#"["http://api.bank.example"]"#, "spec.origins[0]"),
        ("[{name: payments}]", r#"["https://api.bank.example/path"]"#, "spec.origins[0]"),
        ("[{name: payments}]", r#"["https://api.bank.example:99999"]"#, "spec.origins[0]"),
        ("[{name: payments}]", "[]", "spec.origins"),
    ] {
        let found: Vec<_> = wrong(&with(targets, origins)).into_iter().map(|(_, field)| field).collect();
        assert_eq!(found, [field], "{targets} {origins}");
    }
}

#[test]
fn an_exemption_is_read_as_it_will_be_enforced() {
    let with = |exempt: &str| policy(&format!("  targetRefs: [{{name: payments}}]\n  exempt: [{exempt}]"));
    let good = r#"{port: 9090, paths: [/metrics], sources: [10.0.0.0/8, "fd00::/8"]}"#;
    let Parsed::Good(written) = read(&with(good)) else { panic!("in order") };
    let Body::Policy(policy) = written.body else { panic!("a policy") };
    assert_eq!(policy.spec.exempt[0].sources, ["10.0.0.0/8", "fd00::/8"]);
    for (exempt, field) in [
        ("", "spec.exempt"),
        ("{port: 0, paths: [/metrics], sources: [10.0.0.0/8]}", "spec.exempt[0].port"),
        ("{port: 9090, paths: [/metrics]}", "spec.exempt[0].sources"),
        ("{port: 9090, paths: [metrics], sources: [10.0.0.0/8]}", "spec.exempt[0].paths[0]"),
        ("{port: 9090, paths: [/metrics], sources: [0.0.0.0/0]}", "spec.exempt[0].sources[0]"),
        ("{port: 9090, paths: [/metrics], sources: [10.0.0.1/8]}", "spec.exempt[0].sources[0]"),
        ("{port: 9090, paths: [/metrics], sources: [999.0.0.0/8]}", "spec.exempt[0].sources[0]"),
        ("{port: 9090, method: POST, paths: [/metrics], sources: [10.0.0.0/8]}", "spec.exempt[0].method"),
    ] {
        let found: Vec<_> = wrong(&with(exempt)).into_iter().map(|(_, field)| field).collect();
        assert_eq!(found, [field], "{exempt}");
    }
}

#[test]
fn a_policy_of_a_port_that_is_not_http_has_callers_alone() {
    let with = |more: &str| policy(&format!("  protocol: TCP\n{more}"));
    let target = "  targetRefs: [{name: db, sectionName: postgres}]\n";
    let rules = "  rules: [{callers: [{serviceAccountName: ledger}]}, {callers: [{namespace: web}]}]";
    let Parsed::Good(written) = read(&with(&format!("{target}{rules}"))) else { panic!("in order") };
    let Body::Policy(policy) = written.body else { panic!("a policy") };
    assert!(policy.spec.opaque);
    let issuers = "  issuers: [{name: bank-as, audiences: [\"https://db.bank.example\"]}]\n";
    let origins = "  origins: [\"https://db.bank.example\"]\n";
    for (text, field) in [
        (target.to_owned(), "spec.rules"),
        (format!("{target}  rules: [{{callers: [{{namespace: web}}], methods: [GET]}}]"), "spec.rules"),
        (format!("{target}  rules: [{{callers: [{{namespace: web}}]}}, {{}}]"), "spec.rules"),
        (format!("{target}{issuers}{rules}"), "spec.issuers"),
        (format!("{target}{origins}{rules}"), "spec.origins"),
        (
            format!("{target}  exempt: [{{port: 9187, paths: [/metrics], sources: [10.0.0.0/8]}}]\n{rules}"),
            "spec.exempt",
        ),
        (format!("  targetRefs: [{{kind: Namespace, name: bank}}]\n{rules}"), "spec.targetRefs"),
    ] {
        let found: Vec<_> = wrong(&with(&text)).into_iter().map(|(_, field)| field).collect();
        assert_eq!(found, [field], "{text}");
    }
}

#[test]
fn a_client_of_another_issuer_has_a_client_id_and_no_keys_of_its_own() {
    let with = |more: &str| {
        let spec = format!("  serviceAccountName: a\n  targets: [{{serviceName: b}}]\n{more}");
        document("FapiClient", "{name: a, namespace: bank}", &spec)
    };
    let Parsed::Good(written) = read(&with("  issuerName: bank-as\n  clientId: shop-7")) else { panic!("in order") };
    let Body::Client(spec) = written.body else { panic!("a client") };
    let external = spec.external.unwrap();
    assert_eq!((external.issuer.as_str(), external.client_id.as_str()), ("bank-as", "shop-7"));
    let signs = "  issuerName: bank-as\n  clientId: shop-7\n  authentication: {method: PrivateKeyJWT}";
    let Parsed::Good(written) = read(&with(signs)) else { panic!("in order") };
    let Body::Client(spec) = written.body else { panic!("a client") };
    assert_eq!(spec.authentication, control::ClientAuthentication::PrivateKeyJwt);
    let jwk = fapi::SigningKey::generate().unwrap().public_jwk();
    let keys = format!("{{keys: [{{kid: k, kty: EC, crv: P-256, x: {}, y: {}}}]}}", jwk["x"], jwk["y"]);
    for (text, line, field) in [
        ("  issuerName: bank-as".to_owned(), 5, "spec.clientId"),
        ("  clientId: shop-7".to_owned(), 7, "spec.clientId"),
        ("  issuerName: mesh\n  clientId: shop-7".to_owned(), 8, "spec.clientId"),
        (signs.replace("JWT}", &format!("JWT, jwks: {keys}}}")), 9, "spec.authentication.jwks"),
    ] {
        assert_eq!(wrong(&with(&text)), [(line, field.to_owned())], "{text}");
    }
    let exchanged = with("  issuerName: bank-as\n  clientId: shop-7")
        .replace("{serviceName: b", "{grantType: TokenExchange, serviceName: b");
    assert_eq!(wrong(&exchanged), [(6, "spec.targets[0].grantType".to_owned())]);
}

#[test]
fn a_workload_has_ports_exactly_with_a_service() {
    let workload =
        |spec: &str| document("Workload", "{name: w, namespace: bank}", &format!("  serviceAccountName: a\n{spec}"));
    let port = r#"{name: http, port: 80, address: "127.0.0.1:1", appAddress: "127.0.0.1:2"}"#;
    assert_eq!(wrong(&workload("")), []);
    assert_eq!(wrong(&workload(&format!("  serviceName: s\n  ports: [{port}]"))), []);
    assert_eq!(wrong(&workload("  serviceName: s")), [(5, "spec".to_owned())]);
    assert_eq!(wrong(&workload(&format!("  ports: [{port}]"))), [(5, "spec".to_owned())]);
    let zero = port.replace("127.0.0.1:1", "127.0.0.1:0");
    let found = wrong(&workload(&format!("  serviceName: s\n  ports: [{zero}]")));
    assert_eq!(found, [(7, "spec.ports[0].address".to_owned())]);
}

#[test]
fn a_uid_stays_while_the_workload_is_the_same() {
    let uid = |name: &str, account: &str| {
        let text = document(
            "Workload",
            &format!("{{name: {name}, namespace: bank}}"),
            &format!("  serviceAccountName: {account}"),
        );
        let Parsed::Good(written) = read(&text) else { panic!("{text}") };
        let Body::Workload(workload) = written.body else { panic!("{text}") };
        workload.pod.uid
    };
    assert_eq!(uid("a-1", "a"), uid("a-1", "a"));
    assert_ne!(uid("a-1", "a"), uid("a-2", "a"));
    assert_ne!(uid("a-1", "a"), uid("a-1", "b"), "another account is another pod");
    assert_eq!(uid("a-1", "a").len(), 36);
}

#[test]
fn defaults_are_filled_in() {
    let Parsed::Good(written) = read(&policy("  targetRefs: [{name: payments}]")) else { panic!("it is in order") };
    let Body::Policy(policy) = written.body else { panic!("it is a policy") };
    assert_eq!(policy.targets, [PolicyTarget::Service { service: "payments".to_owned() }]);
    let [rule] = policy.spec.rules.as_slice() else { panic!("one empty rule") };
    assert_eq!((rule.callers[0].namespace.as_str(), &rule.callers[0].service_account), ("bank", &None));
    assert_eq!(policy.spec.sender_constraints.len(), 2);
}

#[test]
fn what_a_rule_asks_of_a_token_is_bounded() {
    let rule = |fields: &str| {
        policy(&format!("  targetRefs: [{{name: payments}}]\n  rules:\n  - methods: [GET]\n    {fields}"))
    };
    let details = |details: &str| rule(&format!("authorizationDetails:\n    - {details}"));
    for good in [
        rule("maxTokenAge: 5s"),
        rule("maxTokenAge: 1h"),
        rule("actors: {min: 1}"),
        rule("actors: {min: 8, max: 8}"),
        details("{type: t, locations: [a], actions: [b], datatypes: [c], identifier: d, privileges: [e]}"),
    ] {
        assert_eq!(wrong(&good), [], "{good}");
    }
    for (text, line, field) in [
        (rule("maxTokenAge: 4s"), 8, "maxTokenAge"),
        (rule("maxTokenAge: 1h1ms"), 8, "maxTokenAge"),
        (rule("maxTokenAge: 60"), 8, "maxTokenAge"),
        (rule("actors: {min: 2, max: 1}"), 8, "actors"),
        (rule("actors: {max: 9}"), 8, "actors.max"),
        (rule("actors: {min: -1}"), 8, "actors.min"),
        (rule("actors: {most: 1}"), 8, "actors.most"),
        (rule("authorizationDetails: []"), 8, "authorizationDetails"),
        (details("{actions: [a]}"), 9, "authorizationDetails[0].type"),
        (details("{type: t, amount: 1}"), 9, "authorizationDetails[0].amount"),
        (details("{type: t, actions: []}"), 9, "authorizationDetails[0].actions"),
        (details("{type: t, actions: [a, a]}"), 9, "authorizationDetails[0].actions[1]"),
        (details("{type: \"\\n\"}"), 9, "authorizationDetails[0].type"),
        (rule(&format!("authorizationDetails: [{}]", ["{type: t}"; 17].join(", "))), 8, "authorizationDetails"),
    ] {
        assert_eq!(wrong(&text), [(line, format!("spec.rules[0].{field}"))], "{text}");
    }
}

#[test]
fn a_document_of_somebody_else_is_refused() {
    assert_eq!(wrong("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n"), [(2, "kind".to_owned())]);
    assert_eq!(wrong("- 1\n"), [(1, String::new())]);
    let other = policy("  targetRefs: [{name: a}]").replace("v1alpha1", "v1");
    assert_eq!(wrong(&other), [(1, "apiVersion".to_owned())]);
    let nameless = document("FapiClient", "{name: Shop}", "  serviceAccountName: a\n  targets: [{serviceName: b}]");
    assert!(wrong(&nameless).iter().all(|(line, field)| *line == 3 && field.starts_with("metadata")));
}

fn issuer(spec: &str) -> String {
    let head = "  issuer: https://login.bank.example\n";
    document("FapiIssuer", "{name: bank-as}", &format!("{head}{spec}"))
}

#[test]
fn a_fapi_issuer_is_read_with_its_defaults() {
    let text = issuer(
        "  allow: [{namespace: bank, audiences: [\"https://api.bank.example\"]}]\n  \
         clients: [{clientId: shop-7, callers: [{namespace: bank, serviceAccountName: shop}, {namespace: web}]}]",
    );
    let Parsed::Good(written) = read(&text) else { panic!("{:?}", wrong(&text)) };
    let Body::Issuer(spec) = written.body else { panic!("another body") };
    assert_eq!((spec.max_token_age, spec.typ, spec.client_id_claim), (900, Default::default(), Default::default()));
    assert_eq!(spec.allow["bank"].audiences, ["https://api.bank.example"]);
    assert_eq!(spec.clients[0].callers.len(), 2);
}

#[test]
fn what_is_wrong_with_a_fapi_issuer_is_found() {
    let named = document("FapiIssuer", "{name: mesh}", "  issuer: https://login.bank.example");
    for (text, line, field) in [
        (named, 3, "metadata.name"),
        (issuer("  caBundle: |\n    -----BEGIN CERTIFICATE-----\n    bad"), 7, "spec.caBundle"),
        (issuer("  maxTokenAge: 2h"), 6, "spec.maxTokenAge"),
        (issuer("  maxTokenAge: 4s"), 6, "spec.maxTokenAge"),
        (issuer("  jwksUri: http://login.bank.example/jwks"), 6, "spec.jwksUri"),
        (issuer("  typ: jwt"), 6, "spec.typ"),
        (issuer("  tokenFormat: PASETO"), 6, "spec.tokenFormat"),
        (
            issuer("  clients: [{clientId: \"spiffe://bank.example/ns/bank/sa/a\", callers: [{namespace: a}]}]"),
            6,
            "spec.clients[0].clientId",
        ),
        (issuer("  clients: [{clientId: a, callers: [{serviceAccountName: a}]}]"), 6, "spec.clients[0].callers[0]"),
        (
            issuer(
                "  clients:\n  - {clientId: a, callers: [{namespace: a}]}\n  - {clientId: a, callers: [{namespace: b}]}",
            ),
            8,
            "spec.clients[1].clientId",
        ),
        (
            issuer(
                "  allow:\n  - {namespace: a, audiences: [\"https://a\"]}\n  - {namespace: a, audiences: [\"https://b\"]}",
            ),
            8,
            "spec.allow[1]",
        ),
    ] {
        let found = wrong(&text);
        assert!(found.iter().any(|(at, name)| *at == line && name.starts_with(field)), "{text}: {found:?}");
    }
}

#[test]
fn a_policy_names_issuers_and_their_clients_together() {
    let with = |targets: &str, issuers: &str, caller: &str| {
        policy(&format!("  targetRefs: [{targets}]\n  issuers: [{issuers}]\n  rules:\n  - callers: [{caller}]"))
    };
    let (one, both) = ("{name: payments}", "{name: mesh}, {name: bank-as, audiences: [\"https://api\"]}");
    let client = "{issuerName: bank-as, clientId: shop-7}";
    let text = with(one, both, client);
    let Parsed::Good(written) = read(&text) else { panic!("{:?}", wrong(&text)) };
    let Body::Policy(body) = written.body else { panic!("another body") };
    assert!(body.spec.takes_mesh && body.spec.external[0].audiences == ["https://api"]);
    let rule = &body.spec.rules[0];
    assert_eq!(
        (rule.callers.len(), rule.clients[0].client_id.as_str()),
        (0, "shop-7"),
        "a client alone admits no other"
    );
    for (text, line, field) in [
        (with(one, both, "{issuerName: other-as, clientId: shop-7}"), 8, "spec.rules[0].callers[0]"),
        (with(one, both, "{clientId: shop-7}"), 8, "spec.rules[0].callers[0]"),
        (with(one, both, "{namespace: bank, issuerName: bank-as}"), 8, "spec.rules[0].callers[0]"),
        (with(one, "{name: bank-as}", "{namespace: bank}"), 6, "spec.issuers[0]"),
        (with(one, "{name: mesh, audiences: [\"https://api\"]}", "{namespace: bank}"), 6, "spec.issuers[0]"),
        (with(one, "{name: mesh}, {name: mesh}", "{namespace: bank}"), 6, "spec.issuers[1].name"),
        (with("{kind: Namespace, name: bank}", both, "{namespace: bank}"), 6, "spec.issuers[1].audiences"),
        (with("{name: a}, {name: b}", both, "{namespace: bank}"), 6, "spec.issuers[1].audiences"),
    ] {
        let found = wrong(&text);
        assert_eq!(found, [(line, field.to_owned())], "{text}");
    }
}

#[test]
fn what_a_cluster_refuses_is_refused_here_too() {
    let list = include_str!("../../../../crds/tests/data/refused.yaml");
    let cases: Vec<serde_json::Value> = serde_saphyr::from_str(list).unwrap();
    // A folder remembers no earlier version, so what is wrong with a change alone is not for this list.
    let objects = cases.into_iter().filter(|case| case["was"].is_null()).map(|mut case| case["object"].take());
    let schemas = Schemas::new();
    for mut object in objects {
        object["apiVersion"] = "fapi-mesh.dev/v1alpha1".into();
        let text = object.to_string();
        let parsed = parse(&schemas, &domain(), documents::split(&text)[0]);
        assert!(matches!(parsed, Parsed::Bad(_)), "{object}");
    }
}
