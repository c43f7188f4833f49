#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

use super::*;
use crate::model::PolicyTarget;
use crate::source::documents;
use crate::source::object::{self, Schemas};
use crate::testing::domain;

/// Files by name, as they would be read.
fn read(files: &[(&str, &str)]) -> Vec<ReadFile> {
    let schemas = Schemas::new();
    let parse = |text: &str| {
        let documents = documents::split(text).into_iter();
        documents.map(|document| object::parse(&schemas, &domain(), document)).collect()
    };
    files.iter().map(|(name, text)| ReadFile { name: (*name).to_owned(), documents: Ok(parse(text)) }).collect()
}

fn settled(before: &Settled, files: &[(&str, &str)]) -> Settled {
    settle(&before.good, &read(files), Some(&domain()))
}

fn client(account: &str) -> String {
    format!(
        "apiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiClient\nmetadata: {{name: shop, namespace: bank}}\nspec:\n  \
         serviceAccountName: {account}\n  targets: [{{serviceName: payments}}]\n"
    )
}

fn policy(service: &str) -> String {
    format!(
        "apiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiPolicy\nmetadata: {{name: p, namespace: bank}}\nspec:\n  \
         targetRefs: [{{name: {service}}}]\n"
    )
}

fn shop() -> ObjectId {
    ObjectId::new(Kind::FapiClient, Some("bank"), "shop").unwrap()
}

fn p() -> ObjectId {
    ObjectId::new(Kind::FapiPolicy, Some("bank"), "p").unwrap()
}

fn service(name: &str) -> PolicyTarget {
    PolicyTarget::Service { service: name.to_owned() }
}

#[test]
fn an_object_that_moves_to_another_file_is_the_same() {
    let text = client("shop");
    let first = settled(&Settled::default(), &[("a.yaml", &text)]);
    let moved = settled(&first, &[("b.yaml", &text)]);
    let good = &moved.good[&shop()];
    assert_eq!((good.file.as_str(), good.generation), ("b.yaml", 1));
    let changed = settled(&moved, &[("b.yaml", &text.replace("payments", "ledger"))]);
    assert_eq!(changed.good[&shop()].generation, 2);
}

#[test]
fn an_object_in_two_places_is_none_and_each_names_the_other() {
    let before = settled(&Settled::default(), &[("a.yaml", &policy("payments"))]);
    let twice = [("a.yaml", policy("payments")), ("b.yaml", format!("# second\n{}", policy("ledger")))];
    let twice = twice.each_ref().map(|(name, text)| (*name, text.as_str()));
    let after = settled(&before, &twice);
    assert_eq!(after.good[&p()], before.good[&p()], "what was good stays");
    let told: Vec<String> = after.problems.iter().map(Problem::to_string).collect();
    assert!(told[0].starts_with("a.yaml:1: ") && told[0].contains("b.yaml:2"), "{told:?}");
    assert!(told[1].starts_with("b.yaml:2: ") && told[1].contains("a.yaml:1"), "{told:?}");
    // With nothing before, everything that either version targets is closed.
    let closed = settled(&Settled::default(), &twice);
    assert_eq!(closed.broken[&p()].closes.targets, Some(vec![service("ledger"), service("payments")]));
    assert!(!closed.good.contains_key(&p()));
}

#[test]
fn a_second_copy_that_cannot_be_read_opens_nothing() {
    let broken = policy("payments").replace("targetRefs", "targetRef");
    let closed = settled(&Settled::default(), &[("a.yaml", &policy("ledger")), ("b.yaml", &broken)]);
    assert_eq!(closed.broken[&p()].closes.targets, None);
}

#[test]
fn the_service_account_of_a_client_never_changes() {
    let before = settled(&Settled::default(), &[("a.yaml", &client("shop"))]);
    let after = settled(&before, &[("a.yaml", &client("admin"))]);
    assert_eq!(after.good, before.good);
    let problem = &after.problems[0];
    assert_eq!((problem.line, problem.field.as_str()), (5, "spec.serviceAccountName"));
    // Removed and made anew it is another object.
    let gone = settled(&after, &[]);
    assert!(gone.good.is_empty());
    assert!(settled(&gone, &[("a.yaml", &client("admin"))]).problems.is_empty());
}

#[test]
fn a_file_with_something_unread_in_it_removes_nothing() {
    let both = format!("{}---\n{}", client("shop"), policy("payments"));
    let before = settled(&Settled::default(), &[("a.yaml", &both)]);
    // The half-written text might be the client, under any name.
    let torn = format!("kind: Fapi\n---\n{}", policy("payments"));
    let after = settled(&before, &[("a.yaml", &torn)]);
    assert!(after.good.keys().eq(before.good.keys()));
    // In order, and without the client: that is on purpose.
    let after = settled(&before, &[("a.yaml", &policy("payments"))]);
    assert!(!after.good.contains_key(&shop()) && after.good.contains_key(&p()));
}

#[test]
fn text_that_is_not_yaml_still_closes_what_it_names() {
    let after = settled(&Settled::default(), &[("a.yaml", "kind: FapiPolicy\nmetadata: {name: p, namespace: bank\n")]);
    assert_eq!(after.broken[&p()].closes.targets, None, "its whole namespace");
    assert_eq!(after.problems.len(), 1);
}

#[test]
fn the_order_of_files_does_not_matter() {
    let (client, policy) = (client("shop"), policy("payments"));
    let forward = [("a.yaml", client.as_str()), ("b.yaml", "{"), ("c.yaml", policy.as_str())];
    let backward = [forward[2], forward[1], forward[0]];
    assert_eq!(settled(&Settled::default(), &forward), settled(&Settled::default(), &backward));
}
