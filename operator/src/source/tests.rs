#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

use std::path::PathBuf;

use super::*;
use crate::model::{Key, Policy, PolicyTarget};
use crate::testing::{TempDir, capture_log};
use crate::view::View;

const MESH: &str = "apiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiMesh\nmetadata: {name: default}\n\
                    spec: {trustDomain: bank.example}\n";

/// A folder, and the state beside it.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(TempDir::new());
        std::fs::create_dir(bench.config()).unwrap();
        std::fs::create_dir(bench.state()).unwrap();
        bench.write("mesh.yaml", MESH);
        bench
    }

    fn config(&self) -> PathBuf {
        self.0.path().join("config")
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.config().join(name), text).unwrap();
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.config().join(name)).unwrap();
    }

    /// As a process does at its start.
    fn try_open(&self, fixed: Option<&str>) -> Result<Directory, SourceError> {
        let domain = |text: &str| TrustDomain::parse(text).unwrap();
        Directory::open(&self.config(), &self.state(), fixed.map(domain), &domain("cluster.local"))
    }

    fn open(&self) -> Directory {
        self.try_open(None).unwrap()
    }
}

/// A policy of payments, with this method in its only rule.
fn policy(method: &str) -> String {
    format!(
        "apiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiPolicy\nmetadata: {{name: payments, namespace: bank}}\nspec:\n  \
         targetRefs: [{{name: payments}}]\n  rules:\n  - methods: [{method}]\n"
    )
}

fn client(name: &str, service: &str) -> String {
    format!(
        "apiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiClient\nmetadata: {{name: {name}, namespace: bank}}\nspec:\n  \
         serviceAccountName: {name}\n  targets: [{{serviceName: {service}}}]\n"
    )
}

fn payments(directory: &Directory) -> Policy {
    directory.desired().model.policies[&Key::new("bank", "payments")].clone()
}

/// The methods that are in force.
fn methods(directory: &Directory) -> Vec<String> {
    payments(directory).spec.unwrap().rules[0].methods.clone()
}

fn places(directory: &Directory) -> Vec<String> {
    let problems = directory.desired().problems.iter();
    problems.map(|problem| format!("{}:{} {}", problem.file, problem.line, problem.field)).collect()
}

/// A folder of `examples/`.
fn example(name: &str) -> Bench {
    let bench = Bench::new();
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
    for entry in std::fs::read_dir(examples).unwrap() {
        let entry = entry.unwrap();
        // The demo finds free ports itself.
        let text = std::fs::read_to_string(entry.path()).unwrap().replace("127.0.0.1:0", "127.0.0.1:41001");
        bench.write(entry.file_name().to_str().unwrap(), &text);
    }
    bench
}

#[test]
fn the_bank_of_the_examples_is_read() {
    let bench = example("bank");
    let directory = bench.open();
    let Desired { model, problems, .. } = directory.desired();
    assert_eq!(problems, &[]);
    assert_eq!((model.pods.len(), model.clients.len(), model.policies.len()), (4, 3, 1));
    assert_eq!(directory.trust_domain().as_str(), "bank.example");
}

#[test]
fn the_consent_of_the_examples_reaches_the_sidecars() {
    let bench = example("consent");
    let directory = bench.open();
    let Desired { model, problems, .. } = directory.desired();
    assert_eq!(problems, &[]);
    let view = View::empty(directory.trust_domain().clone()).next(1, model.clone());
    let uid = |name: &str| view.pods().find(|pod| pod.name == name).unwrap().uid.clone();
    let issuer = crate::issuer::names("https://issuer.test");

    let snapshot = view.snapshot(&uid("payments-1"), &issuer).unwrap();
    use control::features::{ACTORS, AUTHORIZATION_DETAILS, MAX_TOKEN_AGE, REVOCATIONS, RULES};
    assert_eq!(snapshot.required_features, [RULES, REVOCATIONS, AUTHORIZATION_DETAILS, MAX_TOKEN_AGE, ACTORS]);
    let document: control::Snapshot = serde_json::from_slice(&snapshot.document).unwrap();
    let control::PortPolicyDoc::Policy(policy) = &document.ports[0].policy else { panic!("payments has a policy") };
    assert!(fapi::Policy::compile(directory.trust_domain(), policy).is_ok());
    let [rule] = policy.rules.as_slice() else { panic!("one rule") };
    let detail = fapi::WireDetail {
        kind: "payment_initiation".to_owned(),
        actions: vec!["initiate".to_owned()],
        locations: vec!["https://payments.bank/transfers".to_owned()],
        ..Default::default()
    };
    assert_eq!(rule.authorization_details, [detail]);
    assert_eq!((rule.max_token_age, rule.actors), (Some(60), Some(fapi::WireActors { min: 0, max: 0 })));

    let snapshot = view.snapshot(&uid("shop-1"), &issuer).unwrap();
    assert_eq!(snapshot.required_features, [REVOCATIONS], "an older sidecar of a pure caller keeps working");
    let control::DestinationKind::Meshed(payments) = view.destination(&uid("shop-1"), "payments").kind else {
        panic!("payments is known")
    };
    assert_eq!(
        payments.token.unwrap().authorization_details.unwrap(),
        r#"[{"type":"payment_initiation","locations":["https://payments.bank/transfers"],"actions":["initiate"]}]"#
    );
}

#[test]
fn the_chain_of_the_examples_reaches_the_sidecars() {
    let bench = example("chain");
    let directory = bench.open();
    let Desired { model, problems, .. } = directory.desired();
    assert_eq!(problems, &[]);
    let view = View::empty(directory.trust_domain().clone()).next(1, model.clone());
    let uid = |name: &str| view.pods().find(|pod| pod.name == name).unwrap().uid.clone();
    let issuer = crate::issuer::names("https://issuer.test");
    use control::features::{ACTORS, REVOCATIONS, RULES, TOKEN_EXCHANGE};
    for (name, service, exchanges, features) in [
        ("shop-1", "payments", false, &[REVOCATIONS][..]),
        ("payments-1", "ledger", true, &[RULES, REVOCATIONS, TOKEN_EXCHANGE]),
        ("ledger-1", "payments", false, &[RULES, REVOCATIONS, ACTORS]),
    ] {
        let snapshot = view.snapshot(&uid(name), &issuer).unwrap();
        assert_eq!(snapshot.required_features, features, "{name}");
        let document: control::Snapshot = serde_json::from_slice(&snapshot.document).unwrap();
        assert_eq!(document.token_exchange, exchanges, "{name}");
        let told = String::from_utf8(snapshot.document.clone()).unwrap();
        assert_eq!(told.contains("tokenExchange"), exchanges, "an older sidecar takes what it can: {name}");
        let control::DestinationKind::Meshed(target) = view.destination(&uid(name), service).kind else {
            panic!("{service} is known")
        };
        let exchanged = target.token.is_some_and(|token| token.grant_type == control::GrantType::TokenExchange);
        assert_eq!(exchanged, exchanges, "{name}");
    }
    // What the examples say of scopes: shop's token has what ledger wants of payments.
    let key = |name: &str| Key::new("bank", name);
    let id = |name: &str| fapi::SpiffeId::new(view.trust_domain(), "bank", name).unwrap();
    let given = |service: &str, caller: &str, actors| {
        let policies = view.index().policies_of(&key(service));
        let granted =
            crate::issuer::granted(&policies, &id(caller), actors, fapi::SenderConstraint::Dpop, &Default::default());
        granted.map(|grant| grant.scopes).ok()
    };
    let wanted = given("ledger", "payments", 1).unwrap();
    assert!(given("payments", "shop", 0).unwrap().is_superset(&wanted) && !wanted.is_empty());
    assert_eq!((given("ledger", "payments", 0), given("ledger", "payments", 3)), (None, None));
}

#[test]
fn the_servers_outside_of_the_examples_reach_the_sidecars() {
    let bench = example("outside");
    let directory = bench.open();
    let Desired { model, problems, .. } = directory.desired();
    assert_eq!(problems, &[]);
    let view = View::empty(directory.trust_domain().clone()).next(1, model.clone());
    let uid = |name: &str| view.pods().find(|pod| pod.name == name).unwrap().uid.clone();
    let issuer = crate::issuer::names("https://issuer.test");
    use control::features::{EXTERNAL_ISSUERS, INTROSPECTION, REVOCATIONS, RULES};
    use fapi::SenderConstraint::{Dpop, Mtls};
    for (name, features, asks) in [
        ("shop-1", &[REVOCATIONS][..], &[][..]),
        ("payments-1", &[RULES, REVOCATIONS, EXTERNAL_ISSUERS], &[("https://login.bank.example/realms/bank", None)]),
        (
            "ledger-1",
            &[RULES, REVOCATIONS, EXTERNAL_ISSUERS, INTROSPECTION],
            &[("https://as.group.example", Some("ledger-rs"))],
        ),
    ] {
        let snapshot = view.snapshot(&uid(name), &issuer).unwrap();
        assert_eq!(snapshot.required_features, features, "{name}");
        let document: control::Snapshot = serde_json::from_slice(&snapshot.document).unwrap();
        let servers = document.external_issuers.iter();
        let servers: Vec<_> = servers.map(|server| (&*server.issuer, server.introspect_as.as_deref())).collect();
        assert_eq!(servers, asks, "{name}");
    }
    for (name, service, client, method, bound) in [
        ("shop-1", "payments", "shop-7", control::ClientAuthentication::TlsClientAuth, Mtls),
        ("payments-1", "ledger", "payments-3", control::ClientAuthentication::PrivateKeyJwt, Dpop),
    ] {
        let control::DestinationKind::Meshed(target) = view.destination(&uid(name), service).kind else {
            panic!("{service} is known")
        };
        let token = target.token.unwrap();
        let control::TokenSource::External(asked) = token.source else { panic!("{name} asks outside") };
        assert_eq!((&*asked.client_id, token.authentication, token.sender_constraint), (client, method, bound));
    }
}

#[test]
fn revocations_are_read_and_what_is_wrong_with_one_is_told() {
    let bench = Bench::new();
    let revocation = |name: &str, spec: &str| {
        format!("apiVersion: fapi-mesh.dev/v1alpha1\nkind: Revocation\nmetadata: {{name: {name}}}\nspec: {spec}\n")
    };
    let (expires, before) = ("expires: \"2026-12-31T23:59:59Z\"", "issuedBefore: \"2026-12-01T00:00:00Z\"");
    let (issuer, thumbprint) = ("https://127.0.0.1:1", fapi::CertThumbprint::of_der(b"a certificate"));
    let good = [
        format!("{{podUid: uid-1, {expires}}}"),
        format!("{{spiffeId: \"spiffe://bank.example/ns/bank/sa/shop\", {before}, {expires}}}"),
        format!("{{certificate: {thumbprint}, {expires}}}"),
        format!("{{token: {{issuer: \"{issuer}\", id: t-1}}, {expires}}}"),
        format!("{{client: {{issuer: \"{issuer}\", id: shop}}, {before}, {expires}}}"),
    ];
    for (at, spec) in good.iter().enumerate() {
        bench.write(&format!("{at}.yaml"), &revocation(&format!("r{at}"), spec));
    }
    let mut directory = bench.open();
    assert_eq!(directory.desired().problems, &[]);
    assert_eq!(directory.desired().to_revoke().len(), good.len());
    assert_eq!(directory.desired().to_revoke()[0].expires().as_secs(), 1_798_761_599);
    for (spec, field) in [
        (format!("{{podUid: uid-1, {before}, {expires}}}"), "spec.issuedBefore"),
        ("{podUid: uid-1}".to_owned(), "spec.expires"),
        ("{podUid: uid-1, expires: tomorrow}".to_owned(), "spec.expires"),
        (format!("{{{expires}}}"), "spec"),
        (format!("{{podUid: uid-1, certificate: {thumbprint}, {expires}}}"), "spec"),
        (format!("{{spiffeId: shop, {expires}}}"), "spec.spiffeId"),
        (format!("{{client: {{issuer: mesh, id: shop}}, {expires}}}"), "spec.client"),
        (format!("{{podUid: uid-1, reason: stolen, {expires}}}"), "spec.reason"),
    ] {
        bench.write("wrong.yaml", &revocation("wrong", &spec));
        directory.refresh().unwrap();
        let [problem] = directory.desired().problems.as_slice() else { panic!("{spec}: {:?}", directory.desired()) };
        assert_eq!(problem.field, field, "{spec}");
        assert!(!problem.remedy.is_empty());
        assert_eq!(directory.desired().to_revoke().len(), good.len(), "the others hold");
    }
}

#[test]
fn a_wrong_file_is_told_with_its_place_and_a_remedy_and_holds_up_nothing() {
    let bench = Bench::new();
    bench.write("a.yaml", &policy("FETCH"));
    bench.write("b.yaml", &client("shop", "payments"));
    let (log, _guard) = capture_log();
    let mut directory = bench.open();
    let [problem] = directory.desired().problems.as_slice() else { panic!("{:?}", directory.desired().problems) };
    assert_eq!((problem.file.as_str(), problem.line), ("a.yaml", 7));
    assert_eq!(problem.field, "spec.rules[0].methods[0]");
    assert!(problem.remedy.contains("GET"), "{problem}");
    assert!(directory.desired().model.clients.contains_key(&Key::new("bank", "shop")));
    let told = log.of("problem");
    assert_eq!((told.len(), &told[0]["file"], &told[0]["line"]), (1, &"a.yaml".into(), &7.into()));
    assert_eq!(told[0]["remedy"], problem.remedy);

    // Other changes do not tell it again.
    bench.write("b.yaml", &client("shop", "ledger"));
    assert!(directory.refresh().unwrap());
    assert!(!directory.refresh().unwrap());
    assert_eq!(log.of("problem").len(), 1);
}

#[test]
fn the_last_good_version_stays_in_force_also_after_a_restart() {
    let bench = Bench::new();
    bench.write("a.yaml", &policy("GET"));
    let mut directory = bench.open();
    for broken in [policy("FETCH"), "kind: FapiPolicy\nmetadata: [\n".to_owned(), policy("GET") + "  mode: Sometimes\n"]
    {
        bench.write("a.yaml", &broken);
        directory.refresh().unwrap();
        assert_eq!(methods(&directory), ["GET"], "{broken}");
        assert_eq!(directory.desired().problems.len(), 1, "{broken}");
        let restarted = bench.try_open(Some("bank.example")).unwrap();
        assert_eq!(restarted.desired(), directory.desired(), "{broken}");
    }
    let fault = payments(&directory).fault.unwrap();
    assert!(fault.starts_with("a.yaml:8: spec.mode: "), "{fault}");
    bench.write("a.yaml", &policy("PUT"));
    directory.refresh().unwrap();
    assert_eq!((methods(&directory), payments(&directory).generation), (vec!["PUT".to_owned()], 2));
    assert_eq!(payments(&directory).fault, None);
}

#[test]
fn a_file_that_cannot_be_read_at_all_keeps_everything_that_stood_in_it() {
    let bench = Bench::new();
    bench.write("a.yaml", &format!("{}---\n{}", policy("GET"), client("shop", "payments")));
    let mut directory = bench.open();
    std::fs::write(bench.config().join("a.yaml"), b"\xff\xfe").unwrap();
    directory.refresh().unwrap();
    assert_eq!((methods(&directory), directory.desired().model.clients.len()), (vec!["GET".to_owned()], 1));
    assert_eq!(places(&directory), ["a.yaml:1 "]);
}

#[test]
fn names_that_look_like_something_else_survive_a_restart() {
    let bench = Bench::new();
    // A boolean, numbers and a null, if nobody quotes them.
    let names = ["y", "on", "no", "1e3", "0x1f", "007", "null", "1-1", "12.5"];
    let all: Vec<String> = names.iter().map(|name| client(&format!("\"{name}\""), "\"1e3\"")).collect();
    bench.write("a.yaml", &all.join("---\n"));
    let directory = bench.open();
    assert_eq!(places(&directory), [""; 0]);
    assert_eq!(directory.desired().model.clients.len(), names.len());
    bench.write("a.yaml", "{");
    let restarted = bench.open();
    assert_eq!(restarted.desired().model.clients, directory.desired().model.clients);
}

#[test]
fn what_is_removed_is_gone_also_after_a_restart() {
    let bench = Bench::new();
    bench.write("a.yaml", &policy("GET"));
    let mut directory = bench.open();
    bench.remove("a.yaml");
    directory.refresh().unwrap();
    assert!(directory.desired().model.policies.len() == 0);
    bench.write("a.yaml", &policy("FETCH"));
    assert_eq!(payments(&bench.open()).spec, None, "nothing may come back");
}

#[test]
fn a_mesh_that_never_was_good_refuses_what_it_says_or_may_have_said() {
    for (text, refuses) in [
        ("spec: {tokenLifetime: 13h}", false),
        ("spec: {tokenLifetime: 13h, unmeshedDestinations: Allow}", false),
        ("spec: {tokenLifetime: 13h, unmeshedDestinations: Refuse}", true),
        ("spec: {unmeshedDestinations: [Allow]}", true),
        ("spec: {unmeshedDestinations: Forbid}", true),
        ("spec: {unmeshedDestinations: Allow", true),
        ("", true),
    ] {
        let bench = Bench::new();
        bench.write("mesh.yaml", &MESH.replace("spec: {trustDomain: bank.example}", text));
        let mesh = bench.try_open(Some("bank.example")).unwrap().desired().model.mesh.clone().unwrap();
        assert_eq!((mesh.in_force, mesh.unmeshed_refused), (false, refuses), "{text}");
        // As good as it may be: it stands twice.
        bench.write("mesh.yaml", MESH);
        bench.write("again.yaml", &MESH.replace("bank.example", "bank.example, unmeshedDestinations: Refuse"));
        let mesh = bench.try_open(Some("bank.example")).unwrap().desired().model.mesh.clone().unwrap();
        assert_eq!((mesh.in_force, mesh.unmeshed_refused), (false, true));
    }
}

#[test]
fn a_mesh_of_another_name_is_a_problem_and_changes_nothing() {
    let bench = Bench::new();
    let mut directory = bench.open();
    let before = directory.desired().model.clone();
    bench.write("other.yaml", &MESH.replace("default", "other"));
    directory.refresh().unwrap();
    assert_eq!(places(&directory), ["other.yaml:3 metadata.name"]);
    assert_eq!(directory.desired().model, before);
    assert_eq!(bench.try_open(Some("bank.example")).unwrap().desired().model, before);
}

#[test]
fn a_policy_that_never_was_good_closes_what_it_targets() {
    let bench = Bench::new();
    bench.write("a.yaml", &policy("FETCH"));
    let directory = bench.open();
    let target = PolicyTarget::Service { service: "payments".to_owned() };
    let Policy { spec, targets, generation, .. } = payments(&directory);
    assert_eq!((spec, targets, generation), (None, Some(vec![target]), 0));

    for unreadable in ["targetRefs: [{nam: payments}]", "targetRefs: 7", "rules: []"] {
        let text = policy("GET").replace("targetRefs: [{name: payments}]", unreadable);
        bench.write("a.yaml", &text);
        assert_eq!(payments(&bench.open()).targets, None, "{unreadable}");
    }
}

#[test]
fn the_model_is_the_same_whatever_the_files_are_called() {
    let documents = [policy("GET"), client("shop", "payments"), client("payments", "ledger")];
    let models = [[0, 1, 2], [2, 1, 0], [1, 2, 0]].map(|order| {
        let bench = Bench::new();
        for (name, position) in ["a.yaml", "b.yml", "c.yaml"].iter().zip(order) {
            bench.write(name, &documents[position]);
        }
        bench.open().desired().model.clone()
    });
    assert!(models.iter().all(|model| *model == models[0]));
    let bench = Bench::new();
    bench.write("all.yaml", &documents.join("---\n"));
    assert_eq!(bench.open().desired().model, models[0]);
}

#[test]
fn the_trust_domain_is_settled_once() {
    let bench = Bench::new();
    let mut directory = bench.open();
    bench.write("mesh.yaml", &MESH.replace("bank.example", "other.example"));
    directory.refresh().unwrap();
    assert_eq!(directory.trust_domain().as_str(), "bank.example");
    assert_eq!(places(&directory), ["mesh.yaml:4 spec.trustDomain"]);
    assert!(directory.desired().problems[0].remedy.contains("bank.example"));
}

#[test]
fn a_new_mesh_needs_a_fapi_mesh_that_can_be_read() {
    let bench = Bench::new();
    bench.write("mesh.yaml", &MESH.replace("spec:", "spec: {certificateLifetime: 1s}\nspec2:"));
    let Err(SourceError::Mesh(fault)) = bench.try_open(None) else { panic!("nothing may be settled") };
    assert!(fault.starts_with("mesh.yaml:"), "{fault}");
    // A mesh that is settled starts all the same.
    assert!(bench.try_open(Some("bank.example")).is_ok());
}

#[test]
fn a_folder_that_is_not_there_is_an_error_and_one_that_goes_away_changes_nothing() {
    let bench = Bench::new();
    bench.write("a.yaml", &policy("GET"));
    let mut directory = bench.open();
    std::fs::rename(bench.config(), bench.0.path().join("elsewhere")).unwrap();
    let error = directory.refresh().unwrap_err().to_string();
    assert!(error.contains("--source"), "{error}");
    assert_eq!(methods(&directory), ["GET"]);
    assert!(bench.try_open(None).is_err());
}

#[tokio::test]
async fn a_change_is_published_at_once() {
    let bench = Bench::new();
    bench.write("a.yaml", &policy("GET"));
    let directory = bench.open();
    let desired = tokio::sync::watch::Sender::new(Arc::new(directory.desired().clone()));
    let (mut seen, shutdown) = (desired.subscribe(), tokio::sync::watch::Sender::new(false));
    let running = tokio::spawn(watch::run(directory, desired, shutdown.subscribe()));
    // Whether or not the watcher was there already: it looks again by itself.
    bench.write("a.yaml", &policy("PUT"));
    let key = Key::new("bank", "payments");
    let put = |desired: &Arc<Desired>| {
        desired.model.policies[&key].spec.as_ref().is_some_and(|spec| spec.rules[0].methods == ["PUT"])
    };
    tokio::time::timeout(crate::testing::mesh::SOON, seen.wait_for(put)).await.unwrap().unwrap();
    shutdown.send_replace(true);
    tokio::time::timeout(crate::testing::mesh::SOON, running).await.unwrap().unwrap();
}
