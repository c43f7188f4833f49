#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

use control::{DestinationKind, PortPolicyDoc, Snapshot};
use fapi::{SenderConstraint, WireCaller};

use super::*;
use crate::model::{Client, Policy, PolicySpec};
use crate::testing::bank::{self, bank, client_of};
use crate::testing::domain;
use crate::{issuer, status};

fn section() -> PolicyTarget {
    PolicyTarget::Section { service: "payments".to_owned(), section: "http".to_owned() }
}

fn service() -> PolicyTarget {
    PolicyTarget::Service { service: "payments".to_owned() }
}

/// A bank with only these policies: name, age, targets (`None`: unreadable), whether it ever was good.
fn governed(policies: &[(&str, u64, Option<PolicyTarget>, bool)]) -> Model {
    let mut model = bank();
    let spec = model.policies[&Key::new("bank", "payments")].spec.clone();
    model.policies.clear();
    for (name, created, target, good) in policies {
        let key = Key::new("bank", name);
        let policy = Policy {
            seniority: Seniority { created: *created, key: key.clone() },
            generation: 1,
            targets: target.clone().map(|target| vec![target]),
            spec: spec.clone().filter(|_| *good),
            fault: None,
        };
        model.policies.insert(key, policy);
    }
    model
}

/// What governs payments, and whether it is open to anyone.
fn payments(model: Model) -> (String, bool) {
    let index = Index::new(domain(), model);
    let key = Key::new("bank", "payments");
    let (endpoint, _) = index.endpoints_of(&key).next().unwrap();
    let plan = index.plan_of(endpoint).unwrap();
    let governor = match &plan.governor {
        Governor::Policy(key) => key.name.to_string(),
        Governor::BuiltIn { namespace } => format!("built-in of {namespace}"),
    };
    (governor, plan.policy.is_some())
}

fn governor(policies: &[(&str, u64, Option<PolicyTarget>, bool)]) -> String {
    payments(governed(policies)).0
}

#[test]
fn the_most_specific_governs_alone() {
    let all = [
        ("namespace", 0, Some(PolicyTarget::Namespace), true),
        ("service", 5, Some(service()), true),
        ("section", 9, Some(section()), true),
    ];
    assert_eq!(governor(&all), "section");
    assert_eq!(governor(&all[..2]), "service");
    assert_eq!(governor(&all[..1]), "namespace");
    assert_eq!(governor(&[]), "built-in of bank");
}

#[test]
fn a_policy_of_another_namespace_governs_nothing() {
    for target in [section(), service(), PolicyTarget::Namespace] {
        let mut model = governed(&[("own", 0, Some(target), true)]);
        let (_, mut policy) = model.policies.pop_first().unwrap();
        let key = Key::new("web", "own");
        policy.seniority.key = key.clone();
        model.policies.insert(key, policy);
        assert_eq!(payments(model).0, "built-in of bank");
    }
}

#[test]
fn at_one_level_the_older_wins_then_the_name() {
    assert_eq!(governor(&[("a", 2, Some(service()), true), ("b", 1, Some(service()), true)]), "b");
    assert_eq!(governor(&[("b", 0, Some(service()), true), ("a", 0, Some(service()), true)]), "a");
    let index = Index::new(domain(), governed(&[("b", 0, Some(service()), true), ("a", 0, Some(service()), true)]));
    let attached: Vec<String> = index.attached("bank", &service()).iter().map(|at| at.key.to_string()).collect();
    assert_eq!(attached, ["bank/a", "bank/b"], "the loser is known, for its status");
}

#[test]
fn an_invalid_policy_closes_and_never_falls_back() {
    let closed = governed(&[("good", 0, Some(PolicyTarget::Namespace), true), ("bad", 1, Some(service()), false)]);
    assert_eq!(payments(closed), ("bad".to_owned(), false));
}

#[test]
fn unreadable_targets_close_the_whole_namespace() {
    let model = governed(&[("section", 0, Some(section()), true), ("unreadable", 9, None, false)]);
    assert_eq!(payments(model.clone()), ("unreadable".to_owned(), false));
    let index = Index::new(domain(), model);
    assert!(index.policies_of(&Key::new("bank", "ledger")).is_empty(), "all of it");
    let web = index.model().pods.values().find(|pod| pod.namespace == "web").unwrap();
    assert!(index.plans_of(web).all(|(_, plan)| plan.policy.is_some()), "and no other");
}

#[test]
fn a_second_service_before_the_same_pods_opens_nothing() {
    let mut model = governed(&[("service", 0, Some(service()), true)]);
    let front = Key::new("bank", "front");
    let endpoint = model.endpoints[&Key::new("bank", "payments")][0].clone();
    model.services.insert(front.clone(), bank::service(&front, Vec::new()));
    // Nor does one of another namespace.
    for service in [front, Key::new("web", "payments")] {
        model.endpoints.insert(service.clone(), vec![Endpoint { service, ..endpoint.clone() }]);
    }
    let index = Index::new(domain(), model.clone());
    assert_eq!(payments(model).0, "service");
    assert_eq!(index.policies_of(&Key::new("bank", "front")).len(), 1);
    assert!(index.policies_of(&Key::new("web", "payments")).is_empty());
}

#[test]
fn a_port_that_is_not_http_is_joined_and_gives_no_token() {
    let mut model = bank();
    let payments = Key::new("bank", "payments");
    let spec = model.policies.get_mut(&payments).unwrap().spec.as_mut().unwrap();
    let callers = vec![WireCaller { namespace: "bank".to_owned(), service_account: Some("shop".to_owned()) }];
    spec.opaque = true;
    spec.rules = vec![fapi::WireRule { callers: callers.clone(), ..Default::default() }];
    let target = ClientTarget {
        service: payments.clone(),
        scopes: Vec::new(),
        details: None,
        sender_constraint: None,
        grant_type: Default::default(),
    };
    let key = Key::new("bank", "shop");
    let seniority = Seniority { created: 0, key: key.clone() };
    let client = Client { seniority, generation: 1, spec: Some(client_of("shop", vec![target])), fault: None };
    model.clients.insert(key.clone(), client);
    model.endpoints.get_mut(&payments).unwrap()[0].address = "10.1.2.3:5432".parse().unwrap();
    let view = bank::view(model);
    let snapshot = view.snapshot("uid-of-bank-payments-1", &issuer::names("https://127.0.0.1:1")).unwrap();
    let ports = serde_json::from_slice::<Snapshot>(&snapshot.document).unwrap().ports;
    let PortPolicyDoc::Tcp(policy) = &ports[0].policy else { panic!("{ports:?}") };
    assert_eq!((policy.name.as_str(), &policy.callers), ("bank/payments", &callers));
    for authority in ["payments", "10.1.2.3:5432"] {
        let found = view.destination("uid-of-bank-shop-1", authority).kind;
        let DestinationKind::Meshed(meshed) = found else { panic!("{authority}: {found:?}") };
        assert!(meshed.opaque && meshed.token.is_none() && meshed.endpoints.len() == 1, "{meshed:?}");
    }
    assert_eq!(view.destination("uid-of-bank-shop-1", "10.1.2.3:5433").kind, DestinationKind::Unknown);
    assert!(view.index().policies_of(&payments).is_empty(), "the issuer grants nothing for it");
    let status = status::client_of(&view, &key);
    let told = status.targets[0].message.as_deref().unwrap_or_default();
    assert!(told.contains("need no FapiClient"), "{status:?}");
}

#[test]
fn a_target_named_twice_is_the_older_clients() {
    let mut model = bank();
    for (name, created, constraint) in [("b", 1, SenderConstraint::Mtls), ("a", 2, SenderConstraint::Dpop)] {
        let key = Key::new("bank", name);
        let target = ClientTarget {
            service: Key::new("bank", "payments"),
            scopes: Vec::new(),
            details: None,
            sender_constraint: Some(constraint),
            grant_type: Default::default(),
        };
        let spec = client_of("shop", vec![target]);
        let seniority = Seniority { created, key: key.clone() };
        model.clients.insert(key, Client { seniority, generation: 1, spec: Some(spec), fault: None });
    }
    let index = Index::new(domain(), model);
    let (owner, _, target) = index.client_target("bank", "shop", &Key::new("bank", "payments")).unwrap();
    assert_eq!((owner.to_string(), target.sender_constraint), ("bank/b".to_owned(), Some(SenderConstraint::Mtls)));
    assert!(index.client_target("web", "shop", &Key::new("bank", "payments")).is_none());
}

#[test]
fn what_does_not_compile_is_found_before_it_is_attached() {
    let key = Key::new("bank", "p");
    let spec = governed(&[("p", 0, Some(service()), true)]).policies[&key].spec.clone().unwrap();
    assert!(check(&domain(), &key, &spec).is_ok());
    let empty = PolicySpec { sender_constraints: Vec::new(), ..spec };
    assert!(check(&domain(), &key, &empty).is_err());
}

#[test]
fn pods_are_found_by_namespace_and_by_service_account_as_a_look_at_each_finds_them() {
    let mut model = bank();
    let mut again = model.pods.values().next().unwrap().clone();
    again.uid = "zzz".to_owned();
    again.name = "again".to_owned();
    let account = (again.namespace.clone(), again.service_account.clone());
    model.pods.insert(again.uid.clone(), again);
    let index = Index::new(domain(), model);
    let uids = |pods: &mut dyn Iterator<Item = &Pod>| pods.map(|pod| pod.uid.clone()).collect::<Vec<_>>();
    let mut accounts = 0;
    for pod in index.model().pods.values() {
        let mut all = index.model().pods.values().filter(|other| other.namespace == pod.namespace);
        assert_eq!(uids(&mut index.pods_in(&pod.namespace)), uids(&mut all));
        let all = index.model().pods.values().filter(|other| other.namespace == pod.namespace);
        let mut all = all.filter(|other| other.service_account == pod.service_account);
        assert_eq!(uids(&mut index.pods_as(&pod.namespace, &pod.service_account)), uids(&mut all));
        accounts += 1;
    }
    assert!(accounts > 2 && index.pods_as(&account.0, &account.1).count() == 2);
    assert_eq!((index.pods_in("nowhere").count(), index.pods_as(&account.0, "nobody").count()), (0, 0));
}
