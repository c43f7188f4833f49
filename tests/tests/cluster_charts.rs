//! The charts, as Helm installs them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::Command;

use e2e::cluster::{ApiServer, Kubectl, program};
use e2e::repository;

/// Helm against a cluster; what it says.
fn helm(kubectl: &Kubectl, args: &[&str]) -> Result<String, String> {
    let own = kubectl.kubeconfig().with_extension("helm");
    let mut command = Command::new("timeout");
    command.arg("120").arg(program("helm")).args(args).env("KUBECONFIG", kubectl.kubeconfig());
    for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(folder, &own);
    }
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Name and version of every definition of ours.
fn definitions(kubectl: &Kubectl) -> Vec<String> {
    let list = kubectl.get(&["crd"])["items"].as_array().unwrap().clone();
    let one = |crd: &serde_json::Value| format!("{} {}", crd["metadata"]["name"], crd["metadata"]["generation"]);
    list.iter().map(one).filter(|name| name.contains(".fapi-mesh.dev")).collect()
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn the_definitions_are_installed_left_alone_and_kept() {
    let server = ApiServer::start("charts");
    let kubectl = server.kubectl();
    let chart = repository().join("charts/fapi-mesh-crds").display().to_string();
    let run = |args: &[&str]| helm(kubectl, args).unwrap_or_else(|error| panic!("helm {}: {error}", args.join(" ")));

    run(&["lint", "--strict", &chart]);
    assert_eq!(run(&["template", "crds", &chart]), run(&["template", "crds", &chart]));
    let refused = helm(kubectl, &["template", "crds", &chart, "--set", "enabled=false"]).unwrap_err();
    assert!(refused.contains("enabled"), "{refused}");

    run(&["install", "crds", &chart]);
    let installed = definitions(kubectl);
    assert_eq!(installed.len(), 4, "{installed:?}");
    run(&["upgrade", "crds", &chart]);
    assert_eq!(definitions(kubectl), installed);

    // With the definitions every object of theirs would go.
    run(&["uninstall", "crds"]);
    assert_eq!(definitions(kubectl), installed);
}
