//! Of FapiClients.

use super::*;

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
fn a_target_without_a_sidecar_is_told_apart_from_one_whose_rules_refuse() {
    let mut model = bank();
    add_client(&mut model, "shop", "shop", &[("payments", &[])]);
    let outcome = |model: &Model| {
        let (mut bench, view) = (Bench::new(), view(model.clone()));
        bench.report(&view, NOW);
        let status = bench.client("shop");
        assert_eq!(said(&status.conditions, "Granted").1, status.targets[0].reason);
        (status.targets[0].reason.clone(), status.targets[0].message.clone().unwrap_or_default())
    };
    assert_eq!(outcome(&model).0, "Granted");
    let behind: Vec<String> = Index::new(domain(), model.clone())
        .endpoints_of(&Key::new("bank", "payments"))
        .map(|(endpoint, _)| endpoint.pod_uid.clone())
        .collect();
    for uid in &behind {
        model.pods.get_mut(uid).unwrap().meshed = false;
    }
    let (reason, message) = outcome(&model);
    assert!(reason == "NotMeshed" && message.contains("fapi-mesh.dev/inject"), "{reason}: {message}");
    // Whatever governs it.
    model.policies.clear();
    assert_eq!(outcome(&model).0, "NotMeshed");
    behind.iter().for_each(|uid| drop(model.pods.remove(uid)));
    let (reason, message) = outcome(&model);
    assert!(reason == "NotMeshed" && message.contains("no pod stands behind bank/payments"), "{reason}: {message}");
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
