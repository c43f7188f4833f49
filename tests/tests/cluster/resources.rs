//! The custom resources on a real API server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;

use e2e::cluster::{ApiServer, Kubectl};
use e2e::repository;
use serde::Deserialize;
use serde_json::{Value, json};

/// An object that a cluster refuses.
#[derive(Deserialize)]
struct Refused {
    says: String,
    was: Option<Value>,
    object: Value,
}

/// An API server that knows our kinds and has the namespaces of the examples.
fn with_resources(name: &str) -> ApiServer {
    ApiServer::with_resources(name, &["bank", "outside"])
}

/// A document of ours that only a folder can hold.
fn in_folders_only(object: &Value) -> bool {
    object["kind"] == "Workload"
}

/// Applies every document of `examples/` that a cluster knows; how many there were.
fn apply_examples(kubectl: &Kubectl) -> usize {
    let mut count = 0;
    for example in fs::read_dir(repository().join("examples")).unwrap() {
        for file in fs::read_dir(example.unwrap().path()).unwrap() {
            let file = file.unwrap().path();
            let text = fs::read_to_string(&file).unwrap();
            for object in
                serde_saphyr::from_multiple::<Value>(&text).unwrap().into_iter().filter(|o| !in_folders_only(o))
            {
                kubectl.apply(&object.to_string()).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
                count += 1;
            }
        }
    }
    count
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn every_example_applies_and_defaults_are_filled_in() {
    let server = with_resources("examples");
    let kubectl = server.kubectl();
    assert!(apply_examples(kubectl) >= 7, "few examples are found: have they moved?");

    // Another example may have a policy of the same name.
    let policies = repository().join("examples/bank/policies.yaml").display().to_string();
    kubectl.run(&["apply", "-f", &policies]);
    let policy = kubectl.get(&["fapipolicy", "ledger", "-n", "bank"]);
    assert_eq!(policy["spec"]["mode"], "Enforce");
    assert_eq!(policy["spec"]["rules"], json!([{}]));
    assert_eq!(policy["spec"]["issuers"], json!([{"name": "mesh"}]));
    assert_eq!(policy["spec"]["targetRefs"], json!([{"group": "", "kind": "Service", "name": "ledger"}]));
    assert_eq!(policy["spec"]["senderConstraints"], json!(["DPoP"]));
    let mesh = kubectl.get(&["fapimesh", "default"]);
    assert_eq!(mesh["spec"]["certificateLifetime"], "12h");
    assert_eq!(mesh["spec"]["tokenLifetime"], "1h");
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn what_is_wrong_is_refused_with_a_message_that_helps() {
    let server = with_resources("refused");
    let kubectl = server.kubectl();
    let text = fs::read_to_string(repository().join("crds/tests/data/refused.yaml")).unwrap();
    let cases: Vec<Refused> = serde_saphyr::from_str(&text).unwrap();
    assert!(cases.len() >= 80, "only {} cases", cases.len());
    let mut problems = Vec::new();
    for mut case in cases {
        case.object["apiVersion"] = "fapi-mesh.dev/v1alpha1".into();
        let (kind, name) = (case.object["kind"].as_str().unwrap(), case.object["metadata"]["name"].as_str().unwrap());
        let namespace = case.object["metadata"]["namespace"].as_str().unwrap_or("default");
        let named = [kind, name, "-n", namespace, "--ignore-not-found"];
        if let Some(spec) = &case.was {
            let mut before = case.object.clone();
            before["spec"] = spec.clone();
            kubectl.apply(&before.to_string()).unwrap_or_else(|error| panic!("{before}: {error}"));
        }
        match kubectl.apply(&case.object.to_string()) {
            Err(said) if said.contains(&case.says) => {}
            Err(said) => problems.push(format!("{}\n  want {:?}\n  said {said}", case.object, case.says)),
            Ok(_) => problems.push(format!("{}\n  was taken", case.object)),
        }
        if case.was.is_some() {
            kubectl.run(&[&["delete"], &named[..]].concat());
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn people_find_the_resources_by_their_names() {
    let server = with_resources("names");
    let kubectl = server.kubectl();
    apply_examples(kubectl);
    let revocation = json!({
        "apiVersion": "fapi-mesh.dev/v1alpha1", "kind": "Revocation", "metadata": {"name": "stolen"},
        "spec": {"podUid": "uid-1", "expires": "2126-12-31T23:59:59Z"},
    });
    kubectl.apply(&revocation.to_string()).unwrap();
    let all = kubectl.run(&["get", "fapi-mesh", "-A"]);
    for kind in ["fapiclient", "fapiissuer", "fapimesh", "fapipolicy", "revocation"] {
        assert!(
            all.contains(&format!("{kind}.fapi-mesh.dev/")),
            "`kubectl get fapi-mesh` does not list {kind}:\n{all}"
        );
    }
    for (short, columns) in [
        ("fclient", "NAME READY SERVICE ACCOUNT REASON AGE"),
        ("fpolicy", "NAME READY MODE REASON AGE"),
        ("fissuer", "NAME READY ISSUER REASON AGE"),
        ("fmesh", "NAME READY TRUST DOMAIN REASON AGE"),
        ("frevocation", "NAME READY EXPIRES REASON AGE"),
    ] {
        let table = kubectl.run(&["get", short, "-n", "bank", "-o", "wide"]);
        let head: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(head.join(" "), columns);
    }
    let table = kubectl.run(&["get", "fclient", "-n", "bank"]);
    assert!(table.lines().any(|line| line.starts_with("shop") && line.contains("shop")), "{table}");

    let explained = kubectl.run(&["explain", "fapipolicy.spec.rules.callers"]);
    assert!(explained.contains("A caller: a service account"), "{explained}");
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn a_status_is_written_apart_and_shows_in_the_columns() {
    let server = with_resources("status");
    let kubectl = server.kubectl();
    apply_examples(kubectl);
    let condition = json!({"type": "Ready", "status": "False", "reason": "TargetNotFound", "message": "no Service ledger",
        "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let patch = json!({"status": {"conditions": [condition]}}).to_string();
    kubectl.run(&["patch", "fclient", "payments", "-n", "bank", "--subresource=status", "--type=merge", "-p", &patch]);
    let table = kubectl.run(&["get", "fclient", "payments", "-n", "bank", "-o", "wide"]);
    assert!(table.contains("False") && table.contains("TargetNotFound"), "{table}");

    let spec = json!({"spec": {"serviceAccountName": "other"}}).to_string();
    kubectl.run(&["patch", "fclient", "payments", "-n", "bank", "--subresource=status", "--type=merge", "-p", &spec]);
    assert_eq!(kubectl.get(&["fclient", "payments", "-n", "bank"])["spec"]["serviceAccountName"], "payments");
}
