#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use crds::client::FapiClientStatus;
use crds::mesh::AnchorPhase;
use crds::policy::{FapiPolicyStatus, PodCounts};
use fapi::{Mode, SenderConstraint, UnixTime};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::documents::Status;
use super::*;
use crate::acks::{AckEvent, PodAcks};
use crate::audits::tests::counted;
use crate::model::{Client, ClientTarget, Issuer, IssuerRef, IssuerSpec, Key, Model, Policy, PolicyTarget, Seniority};
use crate::pki::Anchor;
use crate::rotation::{Anchors, Oldest, Progress, Step};
use crate::source::{Kind, ObjectId, Revoking};
use crate::testing::bank::{bank, client_of, transfers_at, view};
use crate::testing::mesh::SOON;
use crate::testing::{NOW, TempDir};

/// Statuses of one model after another, as a reporter makes them.
struct Bench {
    issuer: MeshIssuer,
    acks: HashMap<String, PodAcks>,
    pods: Pods,
    counts: Counts,
    anchors: Anchors,
    last: Documents,
}

impl Bench {
    fn new() -> Self {
        let issuer = crate::issuer::names("https://127.0.0.1:1");
        let (acks, pods, counts, anchors, last) = Default::default();
        Self { issuer, acks, pods, counts, anchors, last }
    }

    /// Every sidecar runs what the view says.
    fn all_run(&mut self, view: &View) {
        for pod in view.pods() {
            let version = view.snapshot(&pod.uid, &self.issuer).unwrap().version.clone();
            self.acks.insert(pod.uid.clone(), PodAcks { streams: 1, acked: Some(version), ..PodAcks::default() });
        }
    }

    fn report(&mut self, view: &View, now: UnixTime) {
        let acks = |uid: &str| self.acks.get(uid).cloned().unwrap_or_default();
        self.pods = Pods::new(view, &self.issuer, acks, &self.pods, now);
        let facts =
            Facts { view, pods: &self.pods, counts: &self.counts, issuer: &self.issuer, anchors: &self.anchors, now };
        self.last = documents(&facts, &self.last);
    }

    fn policy(&self, name: &str) -> &FapiPolicyStatus {
        match &self.last[&id(Kind::FapiPolicy, name)] {
            Status::Policy(status) => status,
            other => panic!("{other:?}"),
        }
    }

    fn client(&self, name: &str) -> &FapiClientStatus {
        match &self.last[&id(Kind::FapiClient, name)] {
            Status::Client(status) => status,
            other => panic!("{other:?}"),
        }
    }
}

/// No revocation is in force.
fn nothing_revoked() -> watch::Receiver<Arc<InForce>> {
    watch::Sender::new(Arc::new(InForce::new(1, Vec::new()))).subscribe()
}

/// Nothing is known of roots.
fn nothing_told() -> ToldAnchors {
    watch::Sender::default().subscribe()
}

fn id(kind: Kind, name: &str) -> ObjectId {
    ObjectId::new(kind, Some("bank"), name).unwrap()
}

fn find<'a>(conditions: &'a [Condition], kind: &str) -> &'a Condition {
    conditions.iter().find(|condition| condition.type_ == kind).unwrap()
}

/// `True` or `False`, and the reason.
fn said<'a>(conditions: &'a [Condition], kind: &str) -> (&'a str, &'a str) {
    let condition = find(conditions, kind);
    (&condition.status, &condition.reason)
}

fn add_policy(model: &mut Model, name: &str, targets: Option<Vec<PolicyTarget>>) {
    let key = Key::new("bank", name);
    let spec = model.policies[&Key::new("bank", "payments")].spec.clone();
    let seniority = Seniority { created: 0, key: key.clone() };
    model.policies.insert(key, Policy { seniority, generation: 3, targets, spec, fault: None });
}

fn add_client(model: &mut Model, name: &str, account: &str, targets: &[(&str, &[&str])]) {
    let target = |(service, scopes): &(&str, &[&str])| ClientTarget {
        service: Key::new("bank", service),
        scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        details: None,
        sender_constraint: None,
        grant_type: Default::default(),
    };
    let spec = client_of(account, targets.iter().map(target).collect());
    let key = Key::new("bank", name);
    let seniority = Seniority { created: 0, key: key.clone() };
    model.clients.insert(key, Client { seniority, generation: 1, spec: Some(spec), fault: None });
}

fn service(name: &str) -> Vec<PolicyTarget> {
    vec![PolicyTarget::Service { service: name.to_owned() }]
}

// === FapiPolicy ===

#[test]
fn programmed_follows_the_acknowledgements() {
    let (mut bench, view) = (Bench::new(), view(bank()));
    bench.report(&view, NOW);
    let at = &bench.policy("payments").ancestors[0];
    assert_eq!(said(&at.conditions, "Accepted"), ("True", "Accepted"));
    assert_eq!(said(&at.conditions, "Programmed"), ("False", "Pending"));
    let message = &find(&at.conditions, "Programmed").message;
    assert!(message.starts_with("0 of 1 pods run ") && message.ends_with(", oldest waits since 2027-01-15T08:00:00Z"));

    bench.all_run(&view);
    bench.report(&view, NOW.plus(5));
    let status = bench.policy("payments");
    assert_eq!(said(&status.ancestors[0].conditions, "Programmed"), ("True", "Programmed"));
    assert_eq!(said(&status.conditions, "Ready"), ("True", "Ready"));
    assert_eq!(find(&status.conditions, "Ready").observed_generation, Some(1));
    assert_eq!(status.ancestors[0].pods, PodCounts { matched: 1, programmed: 1, ..PodCounts::default() });
}

#[test]
fn a_refusal_is_shown_in_the_words_of_the_sidecar() {
    let (mut bench, view) = (Bench::new(), view(bank()));
    bench.all_run(&view);
    let uid = "uid-of-bank-payments-1";
    let version = bench.acks[uid].acked.clone().unwrap();
    bench.acks.get_mut(uid).unwrap().nacked = Some((version, "no such feature".to_owned()));
    bench.report(&view, NOW);
    let at = &bench.policy("payments").ancestors[0];
    assert_eq!(said(&at.conditions, "Programmed"), ("False", "Rejected"));
    let message = &find(&at.conditions, "Programmed").message;
    assert!(message.ends_with("; bank/payments-1: no such feature"), "{message}");
    assert_eq!(at.pods.rejected, 1);
}

#[test]
fn some_pods_are_not_all() {
    let mut model = bank();
    let pod = model.pods["uid-of-bank-payments-1"].clone();
    let endpoint = model.endpoints.values().flatten().find(|endpoint| endpoint.pod_uid == pod.uid).unwrap().clone();
    for name in ["waiting", "bare"] {
        let uid = format!("uid-of-bank-{name}");
        let new = crate::model::Pod { uid: uid.clone(), name: name.to_owned(), meshed: name != "bare", ..pod.clone() };
        model.pods.insert(uid.clone(), new);
        let endpoint = crate::model::Endpoint { pod_uid: uid, ..endpoint.clone() };
        model.endpoints.get_mut(&endpoint.service).unwrap().push(endpoint);
    }
    let (mut bench, view) = (Bench::new(), view(model));
    let version = view.snapshot(&pod.uid, &bench.issuer).unwrap().version.clone();
    bench.acks.insert(pod.uid.clone(), PodAcks { streams: 1, acked: Some(version), ..PodAcks::default() });
    bench.report(&view, NOW);
    let at = &bench.policy("payments").ancestors[0];
    assert_eq!(said(&at.conditions, "Programmed"), ("False", "PartiallyProgrammed"));
    assert!(find(&at.conditions, "Programmed").message.contains("1 without a sidecar"));
    let counts = PodCounts { matched: 3, programmed: 1, rejected: 0, without_sidecar: 1 };
    assert_eq!(at.pods, counts);
}

#[test]
fn every_reason_not_to_be_accepted_has_its_name() {
    let mut model = bank();
    add_policy(&mut model, "younger", Some(service("payments")));
    add_policy(&mut model, "nowhere", Some(service("vault")));
    let section = PolicyTarget::Section { service: "ledger".to_owned(), section: "grpc".to_owned() };
    add_policy(&mut model, "no-port", Some(vec![section]));
    add_policy(&mut model, "wide", Some(vec![PolicyTarget::Namespace]));
    add_policy(&mut model, "never-good", Some(service("safe")));
    let bad = model.policies.get_mut(&Key::new("bank", "never-good")).unwrap();
    (bad.spec, bad.fault) = (None, Some("a.yaml:7: no".to_owned()));
    model.policies.get_mut(&Key::new("bank", "ledger")).unwrap().fault = Some("b.yaml:1: no".to_owned());
    // The namespace has only the two governed ports.
    let (mut bench, view) = (Bench::new(), view(model));
    bench.all_run(&view);
    bench.report(&view, NOW);
    for (name, accepted, programmed) in [
        ("younger", ("False", "Conflicted"), ("False", "Overridden")),
        ("nowhere", ("False", "TargetNotFound"), ("False", "NoPods")),
        ("no-port", ("False", "TargetNotFound"), ("False", "NoPods")),
        ("wide", ("True", "Accepted"), ("False", "Overridden")),
        ("never-good", ("False", "Invalid"), ("False", "NoPods")),
        ("ledger", ("False", "Invalid"), ("True", "Programmed")),
    ] {
        let status = bench.policy(name);
        let conditions = &status.ancestors[0].conditions;
        assert_eq!((said(conditions, "Accepted"), said(conditions, "Programmed")), (accepted, programmed), "{name}");
        assert_eq!(find(&status.conditions, "Ready").status, "False", "{name}");
    }
    let message = |name: &str| find(&bench.policy(name).conditions, "Ready").message.clone();
    assert!(message("younger").contains("bank/payments"), "the winner is named");
    assert!(message("ledger").contains("b.yaml:1"), "the place is named");
    assert!(message("never-good").contains("policy_invalid"));
}

#[test]
fn a_time_moves_only_with_its_condition() {
    let (mut bench, first) = (Bench::new(), view(bank()));
    bench.all_run(&first);
    bench.report(&first, NOW);
    let time = |bench: &Bench, kind: &str| {
        find(&bench.policy("payments").ancestors[0].conditions, kind).last_transition_time.clone()
    };
    let begun = time(&bench, "Programmed");
    bench.report(&first, NOW.plus(10));
    assert_eq!(time(&bench, "Programmed"), begun, "nothing happened");

    let mut model = bank();
    transfers_at(&mut model, "/other");
    bench.report(&view(model), NOW.plus(20));
    assert_ne!(time(&bench, "Programmed"), begun);
    assert_eq!(time(&bench, "Accepted"), begun);
}

/// The policy of `payments` in this mode.
fn payments_in(mode: Mode) -> Model {
    let mut model = bank();
    model.policies.get_mut(&Key::new("bank", "payments")).unwrap().spec.as_mut().unwrap().mode = mode;
    model
}

const PAYMENTS: &str = "uid-of-bank-payments-1";

#[test]
fn a_policy_in_audit_tells_what_its_pods_let_pass_and_one_that_refuses_nothing() {
    let mut bench = Bench::new();
    let line = [("token_missing", "web/checkout", 9)];
    let told = |policy: &str| (policy.to_owned(), Arc::new(counted(policy, NOW, &line)));
    // A sidecar says what it likes about policies that govern it nowhere.
    bench.counts.insert(PAYMENTS.to_owned(), [told("bank/payments"), told("bank/ledger")].into());
    bench.counts.insert("uid-of-bank-shop-1".to_owned(), [told("bank/payments")].into());
    bench.report(&view(payments_in(Mode::Audit)), NOW);
    let shown = bench.policy("payments").ancestors[0].would_refuse.clone().unwrap();
    assert_eq!((shown.count, shown.top[0].caller.as_str(), shown.top.len()), (9, "web/checkout", 1));
    assert_eq!(bench.policy("ledger").ancestors[0].would_refuse, None);
    bench.report(&view(payments_in(Mode::Enforce)), NOW);
    assert_eq!(bench.policy("payments").ancestors[0].would_refuse, None, "at once");
}

#[test]
fn counts_alone_change_a_status_at_most_once_a_minute_and_anything_else_at_once() {
    let dir = TempDir::new();
    let issuer = crate::issuer::names("https://127.0.0.1:1");
    let (acks, audits, clock) = (Arc::new(Acks::default()), Arc::new(Audits::default()), Clock::manual(NOW));
    let mut reporter = Reporter::new(
        Place::Folder(StatusFolder::new(dir.path())),
        &issuer,
        (acks.clone(), audits.clone(), nothing_revoked(), nothing_told()),
        clock.clone(),
    );
    let now = view(payments_in(Mode::Audit));
    let path = dir.path().join("status/FapiPolicy/bank/payments.yaml");
    let mut telling = audits.open();
    let mut step = |after: u64, said: Option<u64>| {
        if let Some(count) = said {
            assert!(telling.put(PAYMENTS, counted("bank/payments", NOW, &[("token_missing", "web/checkout", count)])));
        }
        clock.advance(Duration::from_secs(after));
        reporter.step(&now, &Desired::default()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&path).unwrap());
        (text, inode)
    };
    assert!(!step(0, None).0.contains("wouldRefuse"));
    let (text, first) = step(1, Some(3));
    assert!(text.contains("count: 3") && text.contains("since: \"2027-01-15T08:00:00Z\""), "{text}");
    assert_eq!(step(1, Some(4)).1, first);
    assert_eq!(step(58, Some(5)).1, first);
    // An acknowledgement does not wait, and brings no counts with it.
    acks.record(PAYMENTS, AckEvent::Connected { authority: None });
    acks.record(PAYMENTS, AckEvent::Acked { version: now.snapshot(PAYMENTS, &issuer).unwrap().version.clone() });
    let (text, second) = step(0, None);
    assert!(text.contains("1 of 1 pods run") && text.contains("count: 3"), "{text}");
    let (text, third) = step(1, None);
    assert!(text.contains("count: 5") && third != second, "{text}");
    assert_eq!(step(3600, None).1, third, "nothing has changed");
}

// === FapiClient ===

#[test]
fn each_target_is_granted_or_says_why_not() {
    let mut model = bank();
    add_client(&mut model, "a-shop", "shop", &[("payments", &[]), ("vault", &[])]);
    add_client(&mut model, "shop", "shop", &[("payments", &[])]);
    add_client(&mut model, "greedy", "ledger", &[("payments", &["accounts:read", "admin"])]);
    add_client(&mut model, "stranger", "nobody", &[("payments", &[])]);
    add_client(&mut model, "payments", "payments", &[("ledger", &[])]);
    add_client(&mut model, "detailed", "shop", &[("ledger", &[])]);
    let mut bend = |name: &str, bend: fn(&mut ClientTarget)| {
        bend(&mut model.clients.get_mut(&Key::new("bank", name)).unwrap().spec.as_mut().unwrap().targets[0]);
    };
    bend("payments", |target| target.sender_constraint = Some(SenderConstraint::Mtls));
    bend("detailed", |target| target.details = fapi::AuthorizationDetails::parse(r#"[{"type":"t"}]"#).ok());
    let (mut bench, view) = (Bench::new(), view(model));
    bench.all_run(&view);
    bench.report(&view, NOW);

    let shop = bench.client("a-shop");
    assert_eq!(shop.client_id.as_deref(), Some("spiffe://bank.example/ns/bank/sa/shop"));
    assert_eq!(
        (shop.targets[0].reason.as_str(), shop.targets[0].audience.as_str()),
        ("Granted", "https://payments.bank")
    );
    assert_eq!(shop.targets[0].scopes, ["accounts:read", "transfers:write"]);
    assert_eq!(shop.targets[0].sender_constraint, Some(crds::SenderConstraint::Mtls));
    assert_eq!(said(&shop.conditions, "ResolvedRefs"), ("False", "TargetNotFound"));
    assert_eq!(said(&shop.conditions, "Ready"), ("False", "TargetNotFound"));
    for (name, reason) in [
        ("shop", "Conflicted"),
        ("greedy", "ScopeNotAllowed"),
        ("detailed", "DetailNotAllowed"),
        ("stranger", "CallerNotAllowed"),
        ("payments", "SenderConstraintMismatch"),
    ] {
        let status = bench.client(name);
        assert_eq!(status.targets[0].reason, reason, "{name}");
        assert_eq!(said(&status.conditions, "Granted"), ("False", reason), "{name}");
        assert!(status.targets[0].message.is_some() && status.targets[0].scopes.is_empty(), "{name}");
    }
    assert!(bench.client("greedy").targets[0].message.as_deref().unwrap().contains("admin"));
    assert_eq!(said(&bench.client("stranger").conditions, "Programmed"), ("False", "NoPods"));
}

#[test]
fn a_client_follows_its_target_and_a_policy_in_audit_grants_no_more() {
    let mut model = bank();
    add_client(&mut model, "payments", "payments", &[("ledger", &[])]);
    add_client(&mut model, "stranger", "nobody", &[("payments", &[])]);
    let audited = model.policies.get_mut(&Key::new("bank", "payments")).unwrap();
    audited.spec.as_mut().unwrap().mode = Mode::Audit;
    let (mut bench, view) = (Bench::new(), view(model));
    bench.all_run(&view);
    bench.report(&view, NOW);
    let payments = bench.client("payments");
    assert_eq!(payments.targets[0].sender_constraint, Some(crds::SenderConstraint::Dpop));
    assert_eq!(said(&payments.conditions, "Ready"), ("True", "Ready"));
    assert_eq!(bench.client("stranger").targets[0].reason, "CallerNotAllowed");
}

#[test]
fn a_client_that_hands_calls_on_is_granted_what_any_chain_of_calls_may_have() {
    let mut model = bank();
    add_client(&mut model, "payments", "payments", &[("ledger", &[])]);
    add_client(&mut model, "shop", "shop", &[("payments", &[])]);
    add_client(&mut model, "ledger", "ledger", &[("payments", &[])]);
    for client in model.clients.values_mut() {
        client.spec.as_mut().unwrap().targets[0].grant_type = control::GrantType::TokenExchange;
    }
    let mut actors = |service: &str, min, max| {
        let policy = model.policies.get_mut(&Key::new("bank", service)).unwrap();
        let rules = &mut policy.spec.as_mut().unwrap().rules;
        rules.iter_mut().for_each(|rule| rule.actors = Some(fapi::WireActors { min, max }));
    };
    actors("ledger", 3, 4);
    actors("payments", 0, 0);
    let (mut bench, view) = (Bench::new(), view(model));
    bench.report(&view, NOW);
    for (name, reason) in [("payments", "Granted"), ("shop", "CallerNotAllowed"), ("ledger", "CallerNotAllowed")] {
        let target = &bench.client(name).targets[0];
        assert_eq!((target.reason.as_str(), target.grant_type), (reason, Some(crds::client::GrantType::TokenExchange)));
    }
    let told = |name: &str| bench.client(name).targets[0].message.clone().unwrap();
    assert!(told("shop").contains("gets no calls to hand on"), "{}", told("shop"));
    assert!(told("ledger").contains("no rule of bank/payments names"), "{}", told("ledger"));
}

#[test]
fn a_client_that_never_was_good_asks_for_nothing() {
    let mut model = bank();
    add_client(&mut model, "shop", "shop", &[("payments", &[])]);
    let client = model.clients.get_mut(&Key::new("bank", "shop")).unwrap();
    (client.spec, client.fault) = (None, Some("a.yaml:5: no".to_owned()));
    let (mut bench, view) = (Bench::new(), view(model));
    bench.report(&view, NOW);
    let status = bench.client("shop");
    assert!(status.conditions.iter().all(|condition| condition.reason == "Invalid"));
    assert!(status.targets.is_empty());
}

// === The folder ===

#[tokio::test]
async fn a_restart_keeps_times_and_stale_files_go() {
    let dir = TempDir::new();
    let issuer = crate::issuer::names("https://127.0.0.1:1");
    let (acks, clock) = (Arc::new(Acks::default()), Clock::manual(NOW));
    let mut reporter = Reporter::new(
        Place::Folder(StatusFolder::new(dir.path())),
        &issuer,
        (acks.clone(), Arc::default(), nothing_revoked(), nothing_told()),
        clock.clone(),
    );
    let mut model = bank();
    add_client(&mut model, "shop", "shop", &[("payments", &[])]);
    let first = view(model);
    reporter.step(&first, &Desired::default()).unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.path().join("status").join(name));
    let (policy, client) = ("FapiPolicy/bank/payments.yaml", "FapiClient/bank/shop.yaml");
    let before = read(policy).unwrap();
    assert!(before.contains("lastTransitionTime: \"2027-01-15T08:00:00Z\""), "{before}");
    assert_eq!(read("problems.yaml").unwrap().trim(), "[]");
    read(client).unwrap();

    clock.advance(Duration::from_secs(60));
    let mut reporter = Reporter::new(
        Place::Folder(StatusFolder::new(dir.path())),
        &issuer,
        (acks.clone(), Arc::default(), nothing_revoked(), nothing_told()),
        clock.clone(),
    );
    let now = view(bank());
    reporter.step(&now, &Desired::default()).unwrap();
    // All but since when it waits, which a new process cannot know.
    let times = |text: &str| text.matches("lastTransitionTime: \"2027-01-15T08:00:00Z\"").count();
    assert_eq!(times(&read(policy).unwrap()), times(&before));
    assert!(read(client).is_err(), "the object is gone");

    let uid = "uid-of-bank-payments-1";
    acks.record(uid, AckEvent::Connected { authority: None });
    acks.record(uid, AckEvent::Acked { version: now.snapshot(uid, &issuer).unwrap().version.clone() });
    reporter.step(&now, &Desired::default()).unwrap();
    assert!(read(policy).unwrap().contains("1 of 1 pods run"));
}

#[test]
fn what_is_the_same_is_not_written_again_and_what_is_removed_comes_back() {
    let dir = TempDir::new();
    let issuer = crate::issuer::names("https://127.0.0.1:1");
    let mut reporter = Reporter::new(
        Place::Folder(StatusFolder::new(dir.path())),
        &issuer,
        (Arc::default(), Arc::default(), nothing_revoked(), nothing_told()),
        Clock::manual(NOW),
    );
    let view = view(bank());
    reporter.step(&view, &Desired::default()).unwrap();
    let path = dir.path().join("status/FapiPolicy/bank/ledger.yaml");
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    let before = inode(&path);
    reporter.step(&view, &Desired::default()).unwrap();
    assert_eq!(inode(&path), before);
    std::fs::remove_file(&path).unwrap();
    reporter.step(&view, &Desired::default()).unwrap();
    assert!(path.exists());
}

#[tokio::test]
async fn acknowledgements_alone_change_a_status_once_a_second() {
    let dir = TempDir::new();
    let issuer = crate::issuer::names("https://127.0.0.1:1");
    let acks = Arc::new(Acks::default());
    // It ends with whoever tells it.
    let (in_force, anchors) = (watch::Sender::new(Arc::new(InForce::new(1, Vec::new()))), watch::Sender::default());
    let reporter = Reporter::new(
        Place::Folder(StatusFolder::new(dir.path())),
        &issuer,
        (acks.clone(), Arc::default(), in_force.subscribe(), anchors.subscribe()),
        Clock::manual(NOW),
    );
    let (view, desired) = (watch::Sender::new(Arc::new(view(bank()))), watch::Sender::new(Arc::default()));
    let shutdown = watch::Sender::new(false);
    let uid = "uid-of-bank-payments-1";
    let version = view.borrow().snapshot(uid, &issuer).unwrap().version.clone();
    let running = tokio::spawn(reporter.run(view.subscribe(), desired.subscribe(), shutdown.subscribe()));
    acks.record(uid, AckEvent::Connected { authority: None });
    let path = dir.path().join("status/FapiPolicy/bank/payments.yaml");
    let begun = Instant::now();
    // The first of them may be known at the beginning, and one that follows is written at once.
    for accepts in [false, true, false, true] {
        let (version, reason) = (version.clone(), "no".to_owned());
        let (event, status) = match accepts {
            true => (AckEvent::Acked { version }, "programmed: 1"),
            false => (AckEvent::Nacked { version, reason }, "rejected: 1"),
        };
        acks.record(uid, event);
        let written = async {
            while !std::fs::read_to_string(&path).is_ok_and(|text| text.contains(status)) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, written).await.unwrap();
    }
    assert!(begun.elapsed() >= 2 * ACKNOWLEDGED_EVERY);
    shutdown.send_replace(true);
    running.await.unwrap();
}

// === FapiIssuer ===

#[test]
fn a_policy_tells_of_issuers_that_it_may_not_use_and_an_issuer_of_its_conflicts() {
    let mut model = bank();
    let server = |url: &str| control::ExternalIssuer {
        issuer: url.to_owned(),
        jwks_uri: None,
        ca_bundle: None,
        introspect_as: None,
    };
    let issuer = |name: &str, url: &str| {
        let spec = IssuerSpec {
            server: server(url),
            allow: Default::default(),
            opaque: false,
            typ: Default::default(),
            client_id_claim: Default::default(),
            max_token_age: 900,
            clients: Vec::new(),
        };
        let seniority = Seniority { created: 0, key: Key::new("", name) };
        (name.to_owned(), Issuer { seniority, generation: 2, spec: Some(spec), fault: None })
    };
    let own = crate::issuer::names("https://127.0.0.1:1").issuer;
    model.issuers.extend([issuer("a", "https://as"), issuer("b", "https://as"), issuer("c", &own)]);
    let (name, broken) = issuer("d", "https://d");
    model.issuers.insert(name, Issuer { spec: None, generation: 0, fault: Some("d.yaml:1".to_owned()), ..broken });
    let external = vec![IssuerRef { name: "a".to_owned(), audiences: vec!["https://api".to_owned()] }];
    model.policies.get_mut(&Key::new("bank", "payments")).unwrap().spec.as_mut().unwrap().external = external;
    let (mut bench, view) = (Bench::new(), view(model));
    bench.all_run(&view);
    bench.report(&view, NOW);
    let status = bench.policy("payments");
    assert_eq!(said(&status.ancestors[0].conditions, "ResolvedRefs"), ("False", "RefNotPermitted"));
    assert_eq!(said(&status.ancestors[0].conditions, "Programmed"), ("True", "Programmed"), "the rest of it holds");
    assert_eq!(said(&status.conditions, "Ready"), ("False", "RefNotPermitted"));
    for (name, expected) in [
        ("a", ("True", "Ready")),
        ("b", ("False", "Conflicted")),
        ("c", ("False", "Conflicted")),
        ("d", ("False", "Invalid")),
    ] {
        let Status::Issuer(status) = &bench.last[&ObjectId::new(Kind::FapiIssuer, None, name).unwrap()] else {
            panic!("{name} has another status")
        };
        assert_eq!(said(&status.conditions, "Ready"), expected, "{name}");
    }
}

// === The objects of a cluster ===

#[tokio::test]
async fn in_a_cluster_a_status_is_written_once_and_again_when_somebody_changes_it() {
    let cluster = crate::testing::cluster::Cluster::default();
    let path = "/apis/fapi-mesh.dev/v1alpha1/namespaces/bank/fapipolicies/payments";
    let ledger = path.replace("payments", "ledger");
    for path in [path, &ledger] {
        cluster.put(path, serde_json::json!({"metadata": {"name": "p", "namespace": "bank"}}));
    }
    let issuer = crate::issuer::names("https://127.0.0.1:1");
    let clock = Clock::manual(NOW);
    let objects = StatusObjects::new(cluster.client(), Leadership::alone());
    let mut reporter = Reporter::new(
        Place::Objects(objects),
        &issuer,
        (Arc::default(), Arc::default(), nothing_revoked(), nothing_told()),
        clock.clone(),
    );
    let view = view(bank());
    let mut desired = Desired::default();
    let mut writes = async |desired: &Desired| {
        reporter.step(&view, desired).unwrap();
        let Place::Objects(objects) = &mut reporter.place else { panic!("a folder") };
        assert!(!objects.write(&reporter.last, &desired.statuses).await);
        cluster.writes()
    };
    let both = vec![format!("PATCH {ledger}/status"), format!("PATCH {path}/status")];
    assert_eq!(writes(&desired).await, both);
    let status = cluster.object(path).unwrap()["status"].take();
    assert_eq!(status["ancestors"][0]["conditions"][0]["observedGeneration"], 1);
    assert_eq!(status["conditions"][0]["lastTransitionTime"], "2027-01-15T08:00:00Z");
    clock.advance(Duration::from_secs(60));
    assert_eq!(writes(&desired).await, Vec::<String>::new(), "before we hear of it");
    let id = |name: &str| ObjectId::new(Kind::FapiPolicy, Some("bank"), name).unwrap();
    for name in ["payments", "ledger"] {
        let stands = cluster.object(&path.replace("payments", name)).unwrap()["status"].take();
        desired.statuses.insert(id(name), Arc::new(stands));
    }
    assert_eq!(writes(&desired).await, Vec::<String>::new(), "and after");
    desired.statuses.insert(id("payments"), Arc::new(serde_json::json!({"conditions": [], "ancestors": []})));
    assert_eq!(writes(&desired).await, both[1..], "somebody has changed it");
    desired.statuses.insert(id("ledger"), Arc::new("x".into()));
    assert_eq!(writes(&desired).await, both[..1], "and made something of it that it cannot be");
}

#[test]
fn holes_in_a_policy_show_whether_anything_is_behind_them() {
    let mut model = bank();
    let spec = model.policies.get_mut(&Key::new("bank", "payments")).unwrap().spec.as_mut().unwrap();
    let hole =
        |port| fapi::WireExemption { port, paths: vec!["/metrics".to_owned()], sources: vec!["10.0.0.0/8".to_owned()] };
    spec.exempt = vec![hole(80), hole(9090)];
    let view = view(model);
    let mut bench = Bench::new();
    bench.report(&view, NOW);
    let shown: Vec<_> = bench.policy("payments").exempt.iter().map(|hole| (hole.port, hole.pods)).collect();
    assert_eq!(shown, [(80, 1), (9090, 0)]);
    assert_eq!(bench.policy("payments").exempt[0].sources, ["10.0.0.0/8"]);
    assert!(bench.policy("ledger").exempt.is_empty());
    let snapshot = view.snapshot("uid-of-bank-payments-1", &bench.issuer).unwrap();
    assert!(snapshot.required_features.contains(&control::features::EXEMPT));
}

// === FapiMesh ===

#[tokio::test]
async fn the_roots_stand_in_the_status_of_the_mesh_and_are_written_when_something_of_them_changes() {
    let cluster = crate::testing::cluster::Cluster::default();
    let path = "/apis/fapi-mesh.dev/v1alpha1/fapimeshes/default";
    cluster.put(path, serde_json::json!({"metadata": {"name": "default"}}));
    let model = Model { mesh: Some(crate::testing::fapi_mesh(Default::default())), ..Model::default() };
    let (view, issuer) = (view(model), crate::issuer::names("https://127.0.0.1:1"));
    let told = watch::Sender::new(Arc::new(Anchors::default()));
    let objects = StatusObjects::new(cluster.client(), Leadership::alone());
    let books = (Arc::default(), Arc::default(), nothing_revoked(), told.subscribe());
    let mut reporter = Reporter::new(Place::Objects(objects), &issuer, books, Clock::manual(NOW));
    // As the API server keeps it, and as it comes back.
    let mut desired = Desired::default();
    let mut status = async || {
        reporter.step(&view, &desired).unwrap();
        let Place::Objects(objects) = &mut reporter.place else { panic!("a folder") };
        assert!(!objects.write(&reporter.last, &desired.statuses).await);
        let stands = cluster.object(path).unwrap()["status"].take();
        desired.statuses.insert(ObjectId::new(Kind::FapiMesh, None, "default").unwrap(), Arc::new(stands.clone()));
        (cluster.writes().len(), stands["trustAnchors"].clone())
    };
    let anchor = |fingerprint: &str, not_after, phase| Anchor { fingerprint: fingerprint.repeat(43), not_after, phase };
    let progress = |followed: usize| Progress {
        name: "spring".to_owned(),
        step: Step::Tainted,
        since: "2027-01-15T08:00:00Z".to_owned(),
        sidecars: 9,
        followed,
        oldest: (followed < 9).then(|| Oldest {
            pod: "bank/shop-1".to_owned(),
            since: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(timestamp(NOW)),
            why: "w".repeat(2000),
        }),
        waits_for: None,
        refused: None,
    };
    let mut anchors = Anchors { all: vec![anchor("a", Some(NOW), AnchorPhase::Active)], ..Anchors::default() };
    told.send_replace(Arc::new(anchors.clone()));
    let first =
        serde_json::json!({"fingerprint": "a".repeat(43), "notAfter": "2027-01-15T08:00:00Z", "phase": "Active"});
    assert_eq!(status().await, (1, serde_json::json!([first.clone()])));
    assert_eq!(status().await.0, 0);

    anchors.all[0].phase = AnchorPhase::Tainted;
    anchors.all.push(anchor("b", Some(NOW), AnchorPhase::Active));
    anchors.progress = Some(progress(7));
    told.send_replace(Arc::new(anchors.clone()));
    let (writes, stands) = status().await;
    assert_eq!((writes, stands[1].get("acknowledgements")), (1, None), "{stands}");
    let acknowledgements = &stands[0]["acknowledgements"];
    assert_eq!((&acknowledgements["pods"], &acknowledgements["acknowledged"]), (&9.into(), &7.into()));
    let oldest = &acknowledgements["oldest"];
    assert_eq!((&oldest["pod"], &oldest["since"]), (&"bank/shop-1".into(), &"2027-01-15T08:00:00Z".into()));
    assert_eq!(oldest["message"].as_str().unwrap().chars().count(), 1024, "as much as the schema takes");
    assert_eq!(status().await.0, 0);

    anchors.all[0] = anchor("a", None, AnchorPhase::Removed);
    anchors.progress = Some(Progress { step: Step::Removed, ..progress(9) });
    told.send_replace(Arc::new(anchors.clone()));
    let removed = serde_json::json!({
        "fingerprint": "a".repeat(43), "phase": "Removed", "acknowledgements": {"pods": 9, "acknowledged": 9},
    });
    assert_eq!(status().await.1[0], removed);
}

// === Revocation ===

fn revocation(uid: &str, expires: u64) -> Revoking {
    let revoked = fapi::Revoked::Pod(uid.into());
    let spec = fapi::Revocation::new(revoked, None, UnixTime::from_secs(expires)).unwrap();
    Revoking { generation: 1, spec: Some(spec), fault: None }
}

#[test]
fn a_revocation_tells_which_pods_have_it_and_once_all_do_it_stays_so() {
    let (view, expires) = (view(bank()), NOW.as_secs() + 100);
    let issuer = crate::issuer::names("https://127.0.0.1:1");
    let name = ObjectId::new(Kind::Revocation, None, "stolen").unwrap();
    let stolen = revocation("stolen", expires);
    let objects = BTreeMap::from([(name.clone(), stolen.clone())]);
    let (mut since, mut last) = (Since::default(), Documents::new());
    let have = std::cell::RefCell::new(HashMap::<String, u64>::new());
    let mut said = |objects: &BTreeMap<ObjectId, Revoking>, in_force: &InForce, now: UnixTime| {
        let acks = |uid: &str| PodAcks {
            streams: 1,
            revocations: have.borrow().get(uid).copied().unwrap_or_default(),
            ..PodAcks::default()
        };
        let pods = Pods::new(&view, &issuer, acks, &Pods::default(), now);
        since.look(objects, in_force);
        last = revocations(objects, &since, &pods, now, &last);
        let Some(Status::Revocation(status)) = last.get(&name) else { panic!("{last:?}") };
        let condition = find(&status.conditions, "Programmed");
        let ready = find(&status.conditions, "Ready");
        assert_eq!(ready.status, condition.status);
        (condition.status.clone(), condition.reason.clone(), condition.message.clone())
    };
    let owned = |status: &str, reason: &str, message: &str| (status.to_owned(), reason.to_owned(), message.to_owned());
    let nothing = InForce::new(5, Vec::new());
    let (status, reason, _) = said(&objects, &nothing, NOW);
    assert_eq!((&*status, &*reason), ("False", "Pending"));
    // From epoch 6 on; what comes later changes nothing about it.
    let entered: Vec<fapi::Revocation> = stolen.spec.iter().cloned().collect();
    let uids: Vec<String> = view.pods().map(|pod| pod.uid.clone()).collect();
    let all = uids.len();
    assert_eq!(
        said(&objects, &InForce::new(6, entered.clone()), NOW),
        owned("False", "Pending", &format!("in force on 0 of {all} pods"))
    );
    have.borrow_mut().insert(uids[0].clone(), 6);
    have.borrow_mut().insert(uids[1].clone(), 5);
    let later = InForce::new(9, entered);
    assert_eq!(
        said(&objects, &later, NOW),
        owned("False", "PartiallyProgrammed", &format!("in force on 1 of {all} pods"))
    );
    have.borrow_mut().extend(uids.iter().map(|uid| (uid.clone(), 6)));
    let everywhere = owned("True", "Programmed", "every pod has it in force");
    assert_eq!(said(&objects, &later, NOW), everywhere);
    have.borrow_mut().clear();
    assert_eq!(said(&objects, &later, NOW), everywhere, "a pod that starts gets it first");
    let (status, reason, _) = said(&objects, &later, UnixTime::from_secs(expires));
    assert_eq!((&*status, &*reason), ("False", "Expired"));
    let broken = Revoking { generation: 1, spec: None, fault: Some("no such field".to_owned()) };
    let (status, reason, message) = said(&BTreeMap::from([(name.clone(), broken)]), &later, NOW);
    assert_eq!((&*status, &*reason), ("False", "Invalid"));
    assert!(message.contains("no such field"));
}
