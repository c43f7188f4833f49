//! Of FapiPolicies.

use super::*;

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
        let new = Pod { uid: uid.clone(), name: name.to_owned(), meshed: name != "bare", ..pod.clone() };
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
