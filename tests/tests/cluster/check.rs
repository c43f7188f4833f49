//! `fapictl check` and `fapictl status` against a real API server: nothing wrong where nothing is, and every defect by name.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;

use e2e::cluster::{ApiServer, Kubectl, WithWebhooks, helm, pod_to_inject};
use e2e::{Scratch, program, repository};
use serde_json::{Value, json};

/// Whether a mesh passes, and what is not in order, a line each: outcome, check, what was found.
fn wrong(kubectl: &Kubectl, args: &[&str]) -> (bool, Vec<String>) {
    let said = kubectl.fapictl(&[&["check", "-o", "json"], args].concat());
    let passes = said.is_ok();
    let (Ok(text) | Err(text)) = said;
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["passes"], passes, "{text}");
    let findings = document["findings"].as_array().unwrap();
    let wrong = findings.iter().filter(|finding| finding["outcome"] != "ok").map(|finding| {
        assert!(finding["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{finding}");
        let text = |name: &str| finding[name].as_str().unwrap().to_owned();
        format!("{} {}: {}", text("outcome"), text("check"), text("found"))
    });
    (passes, wrong.collect())
}

/// Exactly one thing is wrong, and this is said of it.
fn one(kubectl: &Kubectl, args: &[&str], outcome: &str, check: &str, says: &str) {
    let (passes, wrong) = wrong(kubectl, args);
    assert_eq!(passes, outcome != "failed", "{wrong:#?}");
    assert!(wrong.len() == 1 && wrong[0].starts_with(&format!("{outcome} {check}: ")), "{check}: {wrong:#?}");
    assert!(wrong[0].contains(says), "{says}: {wrong:#?}");
}

fn in_order(kubectl: &Kubectl, args: &[&str]) {
    assert_eq!(wrong(kubectl, args), (true, Vec::new()));
}

fn node(kubectl: &Kubectl, name: &str, system: &str, kubelet: &str) {
    kubectl.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}).to_string()).unwrap();
    let info = json!({"operatingSystem": system, "kubeletVersion": kubelet, "architecture": "amd64", "bootID": "",
        "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "", "machineID": "", "osImage": "",
        "systemUUID": ""});
    set_status(kubectl, &["node", name], &json!({"nodeInfo": info}));
}

fn set_status(kubectl: &Kubectl, object: &[&str], status: &Value) {
    let patch = json!({"status": status}).to_string();
    kubectl.run(&[&["patch", "--subresource=status", "--type=merge", "-p", &patch], object].concat());
}

fn patch(kubectl: &Kubectl, object: &[&str], operations: &Value) {
    kubectl.run(&[&["patch", "--type=json", "-p", &operations.to_string()], object].concat());
}

fn apply_definitions(kubectl: &Kubectl) {
    let chart = repository().join("charts/fapi-mesh-crds/templates").display().to_string();
    kubectl.run(&["apply", "--server-side", "--force-conflicts", "-f", &chart]);
    kubectl.run(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]);
}

/// Takes the property `mode` out of the schema of FapiPolicies, as an older version might be without it.
fn make_a_definition_old(kubectl: &Kubectl) {
    let place = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/mode";
    let operations = json!([{"op": "remove", "path": place}]);
    patch(kubectl, &["crd", "fapipolicies.fapi-mesh.dev"], &operations);
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn what_keeps_a_cluster_from_having_a_mesh_is_named() {
    let server = ApiServer::start("check-pre");
    let kubectl = server.kubectl();
    one(kubectl, &["--pre"], "failed", "nodes", "no node that runs Linux");
    node(kubectl, "one", "linux", "v1.33.4");
    in_order(kubectl, &["--pre"]);

    node(kubectl, "two", "windows", "v1.37.1");
    one(kubectl, &["--pre"], "warning", "nodes", "not Linux: two");
    kubectl.run(&["delete", "node", "two"]);
    node(kubectl, "three", "linux", "v1.32.7");
    one(kubectl, &["--pre"], "failed", "native-sidecars", "three");
    kubectl.run(&["delete", "node", "three"]);

    kubectl.run(&["create", "namespace", "bank"]);
    kubectl.run(&["label", "namespace", "bank", "pod-security.kubernetes.io/enforce=baseline"]);
    in_order(kubectl, &["--pre"]);
    one(kubectl, &["--pre", "-n", "bank"], "warning", "pod-security", "bank (baseline)");
    kubectl.run(&["label", "namespace", "bank", "fapi-mesh.dev/inject=enabled"]);
    one(kubectl, &["--pre"], "warning", "pod-security", "bank (baseline)");
    kubectl.run(&["delete", "namespace", "bank", "--wait=false"]);
    kubectl.run(&["label", "namespace", "bank", "fapi-mesh.dev/inject-"]);

    apply_definitions(kubectl);
    in_order(kubectl, &["--pre"]);
    make_a_definition_old(kubectl);
    one(kubectl, &["--pre"], "warning", "definitions", "fapipolicies.fapi-mesh.dev is not of version");
    apply_definitions(kubectl);

    let golden = repository().join("operator/tests/golden/webhook/mutating.yaml");
    let elsewhere = fs::read_to_string(golden).unwrap().replace("namespace: fapi-mesh", "namespace: old-mesh");
    kubectl.apply(&elsewhere).unwrap();
    one(kubectl, &["--pre"], "failed", "other-webhooks", "old-mesh");
    in_order(kubectl, &["--pre", "--operator-namespace", "old-mesh"]);
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn a_user_with_few_rights_is_told_which_are_missing_and_sees_the_rest() {
    let server = ApiServer::start("check-rights");
    let kubectl = server.kubectl();
    node(kubectl, "one", "linux", "v1.37.1");
    kubectl.run(&["create", "serviceaccount", "guest", "-n", "default"]);
    let token = kubectl.run(&["create", "token", "guest", "-n", "default"]);
    let scratch = Scratch::new("check-rights");
    let mut config: Value = serde_json::from_str(&kubectl.run(&["config", "view", "--raw", "-o", "json"])).unwrap();
    let cluster = config["contexts"][0]["context"]["cluster"].clone();
    config["users"].as_array_mut().unwrap().push(json!({"name": "guest", "user": {"token": token.trim()}}));
    let guest = json!({"name": "guest", "context": {"cluster": cluster, "user": "guest", "namespace": "web"}});
    config["contexts"].as_array_mut().unwrap().push(guest);
    let file = scratch.path().join("kubeconfig.json");
    fs::write(&file, config.to_string()).unwrap();

    let as_guest = ["--kubeconfig", file.to_str().unwrap(), "--context", "guest"];
    let (passes, wrong) = wrong(kubectl, &[&["--pre"], &as_guest[..]].concat());
    assert!(!passes, "{wrong:#?}");
    let said = |start: &str, says: &str| wrong.iter().any(|line| line.starts_with(start) && line.contains(says));
    assert!(said("failed rights: ", "customresourcedefinitions.apiextensions.k8s.io"), "{wrong:#?}");
    assert!(said("warning nodes: ", "cannot list resource \"nodes\""), "{wrong:#?}");

    // Whose namespace is that of the context.
    let text = kubectl.fapictl(&[&["status"], &as_guest[..]].concat()).unwrap();
    assert!(text.contains("not seen: Pods: ") && text.contains("in the namespace \"web\""), "{text}");

    let none = Command::new(program("fapictl")).args(["check", "--context", "nobody"]).args(&as_guest[..2]).output();
    let none = none.unwrap();
    assert_eq!(none.status.code(), Some(1));
    let said = String::from_utf8(none.stderr).unwrap();
    assert!(said.contains("no cluster is known") && said.contains("to do: "), "{said}");
}

/// Gives a cluster what of the chart keeps the images of sidecars.
fn keep_images(kubectl: &Kubectl) {
    let chart = repository().join("charts/fapi-mesh").display().to_string();
    let policy = helm(kubectl, &["template", "fapi-mesh", &chart, "-n", "fapi-mesh", "-s", "templates/images.yaml"]);
    kubectl.apply(&policy.unwrap()).unwrap();
}

/// A bank in a cluster whose operator runs here: a shop that calls a ledger, both with sidecars, and all that the chart and the
/// operator of a cluster would have written.
fn bank(name: &str) -> WithWebhooks {
    let setting = WithWebhooks::new(name);
    let kubectl = setting.kubectl();
    apply_definitions(kubectl);
    keep_images(kubectl);
    // Without controllers nobody else makes it.
    kubectl.run(&["create", "serviceaccount", "default", "-n", "default"]);
    let labels = json!({"app": "fapi-operator"});
    let version = env!("CARGO_PKG_VERSION");
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "fapi-operator", "namespace": "fapi-mesh",
            "labels": {"app.kubernetes.io/version": version}},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"containers": [{"name": "operator", "image": "operator"}]}}},
    });
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "ledger", "namespace": "bank"},
        "spec": {"selector": {"app": "ledger"}, "ports": [{"name": "http", "port": 80}]}});
    for document in [deployment, service, policy(), client()] {
        kubectl.apply(&document.to_string()).unwrap();
    }
    set_status(kubectl, &["deployment", "fapi-operator", "-n", "fapi-mesh"], &ready_replicas(1));
    set_status(kubectl, LEDGER, &governs("Programmed", "1 of 1 pods run 3f2a"));
    set_status(
        kubectl,
        SHOP,
        &json!({"conditions": [condition("Ready", "True", "Ready", "")], "targets": [
        {"serviceName": "ledger", "namespace": "bank", "audience": "https://ledger.bank", "reason": "Granted"}]}),
    );
    setting
}

const LEDGER: &[&str] = &["fapipolicy", "ledger", "-n", "bank"];
const SHOP: &[&str] = &["fapiclient", "shop", "-n", "bank"];

fn policy() -> Value {
    json!({"apiVersion": "fapi-mesh.dev/v1alpha1", "kind": "FapiPolicy",
        "metadata": {"name": "ledger", "namespace": "bank"}, "spec": {"targetRefs": [{"name": "ledger"}]}})
}

fn client() -> Value {
    json!({"apiVersion": "fapi-mesh.dev/v1alpha1", "kind": "FapiClient",
        "metadata": {"name": "shop", "namespace": "bank"},
        "spec": {"serviceAccountName": "shop", "targets": [{"serviceName": "ledger"}]}})
}

fn ready_replicas(ready: u32) -> Value {
    json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": ready})
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

/// The status of a policy: how far it got with its pods.
fn governs(reason: &str, message: &str) -> Value {
    let status = if reason == "Programmed" { "True" } else { "False" };
    let ready = if reason == "Programmed" { "Ready" } else { reason };
    json!({
        "conditions": [condition("Ready", status, ready, message)],
        "ancestors": [{
            "ancestorRef": {"kind": "Service", "name": "ledger"}, "controllerName": "fapi-mesh.dev/operator",
            "conditions": [condition("Accepted", "True", "Accepted", ""),
                condition("Programmed", status, reason, message)],
            "pods": {"matched": 1, "programmed": 1, "rejected": 0, "withoutSidecar": 0},
        }],
    })
}

fn make_pod(setting: &WithWebhooks, name: &str, app: &str) {
    let mut pod = pod_to_inject(name, json!({}));
    pod["metadata"]["labels"] = json!({"app": app});
    setting.attempt("bank", &pod, false).unwrap();
}

fn give_roots(setting: &WithWebhooks) {
    let roots = fs::read_to_string(setting.folder().join("state/trust-bundle.pem")).unwrap();
    let bundle = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "fapi-mesh-trust-bundle", "namespace": "bank"}, "data": {"root.pem": roots}});
    setting.kubectl().apply(&bundle.to_string()).unwrap();
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn each_defect_of_a_mesh_is_named_and_none_where_there_is_none() {
    let setting = bank("check");
    let operator = setting.operator();
    let kubectl = setting.kubectl();
    make_pod(&setting, "shop-1", "shop");
    make_pod(&setting, "ledger-1", "ledger");
    give_roots(&setting);
    in_order(kubectl, &[]);
    in_order(kubectl, &["-n", "bank"]);

    make_a_definition_old(kubectl);
    one(kubectl, &[], "failed", "definitions", "fapipolicies.fapi-mesh.dev is not of version");
    apply_definitions(kubectl);

    let deployment = ["deployment", "fapi-operator", "-n", "fapi-mesh"];
    set_status(kubectl, &deployment, &ready_replicas(0));
    one(kubectl, &[], "failed", "operator", "0 of 1 replicas");
    set_status(kubectl, &deployment, &ready_replicas(1));

    let configuration = ["mutatingwebhookconfiguration", "fapi-operator"];
    let policy_of_first = |value: &str| json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": value}]);
    patch(kubectl, &configuration, &policy_of_first("Ignore"));
    one(kubectl, &[], "failed", "injection-webhook", "namespace.inject.fapi-mesh.dev");
    patch(kubectl, &configuration, &policy_of_first("Fail"));

    let binding = ["validatingadmissionpolicybinding", "images.fapi-mesh.dev"];
    patch(kubectl, &binding, &json!([{"op": "replace", "path": "/spec/validationActions", "value": ["Audit"]}]));
    one(kubectl, &[], "failed", "image-policy", "does not deny");
    kubectl.run(&[&["delete"], &binding[..]].concat());
    one(kubectl, &[], "failed", "image-policy", "images.fapi-mesh.dev");
    keep_images(kubectl);

    kubectl.run(&["delete", "configmap", "fapi-mesh-trust-bundle", "-n", "bank"]);
    one(kubectl, &[], "failed", "trust-bundle", "in bank");
    give_roots(&setting);

    kubectl.run(&["annotate", "pod", "shop-1", "-n", "bank", "--overwrite", "fapi-mesh.dev/status=9.9.9"]);
    one(kubectl, &[], "failed", "sidecar-versions", "bank/shop-1");
    kubectl.run(&["delete", "pod", "shop-1", "-n", "bank", "--force"]);

    check_objects(kubectl);
    check_pods(&setting);
    in_order(kubectl, &[]);

    drop(operator);
    one(kubectl, &[], "failed", "webhook-answers", "failed calling webhook");
    let untrusted = json!([{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]);
    patch(kubectl, &["validatingwebhookconfiguration", "fapi-operator"], &untrusted);
    let (_, wrong) = wrong(kubectl, &[]);
    assert!(wrong.iter().any(|line| line.starts_with("failed validation-webhook: ")), "{wrong:#?}");
}

fn check_objects(kubectl: &Kubectl) {
    let words = "0 of 1 pods run 3f2a; bank/ledger-1: it lacks a feature";
    set_status(kubectl, LEDGER, &governs("Rejected", words));
    one(kubectl, &[], "failed", "policies", words);
    set_status(kubectl, LEDGER, &governs("NoPods", "there is no pod to run it"));
    one(kubectl, &[], "warning", "policies", "NoPods");
    set_status(kubectl, LEDGER, &governs("Programmed", "1 of 1 pods run 3f2a"));

    let denied = condition("Ready", "False", "CallerNotAllowed", "ledger.bank does not name shop");
    set_status(kubectl, SHOP, &json!({"conditions": [denied]}));
    one(kubectl, &[], "failed", "clients", "ledger.bank does not name shop");
    set_status(kubectl, SHOP, &json!({"conditions": [condition("Ready", "True", "Ready", "")]}));

    // What was said about an older spec says nothing about this one.
    kubectl.run(&[
        "patch",
        "fapipolicy",
        "ledger",
        "-n",
        "bank",
        "--type=merge",
        "-p",
        "{\"spec\": {\"mode\": \"Audit\"}}",
    ]);
    one(kubectl, &[], "failed", "policies", "has not said anything");
    kubectl.run(&["delete", "fapipolicy", "ledger", "-n", "bank"]);
    kubectl.apply(&policy().to_string()).unwrap();
    set_status(kubectl, LEDGER, &governs("Programmed", "1 of 1 pods run 3f2a"));
}

fn check_pods(setting: &WithWebhooks) {
    let kubectl = setting.kubectl();
    // Made before the namespace asked.
    kubectl.run(&["label", "namespace", "bank", "fapi-mesh.dev/inject-"]);
    make_pod(setting, "tool", "tool");
    make_pod(setting, "ledger-2", "ledger");
    one(kubectl, &[], "failed", "sidecars", "a FapiPolicy governs them, and they run without a sidecar: bank/ledger-2");
    kubectl.run(&["delete", "pod", "ledger-2", "-n", "bank", "--force"]);
    in_order(kubectl, &[]);
    kubectl.run(&["label", "namespace", "bank", "fapi-mesh.dev/inject=enabled"]);
    one(kubectl, &[], "failed", "sidecars", "ask for a sidecar, and they run without: bank/tool");
    in_order(kubectl, &["-n", "web"]);
    kubectl.run(&["delete", "pod", "tool", "-n", "bank", "--force"]);
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn status_shows_who_runs_what_also_as_a_plugin_of_kubectl() {
    let setting = bank("status");
    let operator = setting.operator();
    let kubectl = setting.kubectl();
    make_pod(&setting, "ledger-1", "ledger");
    let plain = setting.attempt("bank", &pod_to_inject("plain", json!({"fapi-mesh.dev/inject": "disabled"})), false);
    assert!(plain.unwrap()["spec"]["initContainers"].is_null());
    drop(operator);

    let text = kubectl.fapictl(&["status", "-n", "bank", "-o", "json"]).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["unseen"], json!([]), "{text}");
    let joined = json!({"name": "bank", "optedIn": true, "withSidecar": 1, "withoutSidecar": 0});
    assert_eq!(report["namespaces"], json!([joined]));
    assert_eq!(report["policies"][0]["target"], "Service ledger");
    assert_eq!(report["policies"][0]["pods"]["programmed"], 1);
    assert_eq!((&report["clients"][0]["granted"], &report["clients"][0]["targets"]), (&json!(1), &json!(1)));
    let out = json!({"place": "Pod bank/plain", "why": "no sidecar: it says that it wants none"});
    assert_eq!(report["holes"], json!([out]));

    let everywhere = kubectl.fapictl(&["status", "-A"]).unwrap();
    let elsewhere = kubectl.fapictl(&["status", "-n", "web"]).unwrap();
    assert!(everywhere.contains("bank/ledger") && !elsewhere.contains("bank/ledger"), "{everywhere}\n{elsewhere}");

    let folder = Scratch::new("plugin");
    std::os::unix::fs::symlink(program("fapictl"), folder.path().join("kubectl-fapi")).unwrap();
    let path = std::env::var("PATH").unwrap();
    let plugin = kubectl
        .command()
        .env("PATH", format!("{}:{path}", folder.path().display()))
        .args(["fapi", "status", "-n", "bank", "-o", "json"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(plugin.stdout).unwrap(), text, "{}", String::from_utf8_lossy(&plugin.stderr));
}
