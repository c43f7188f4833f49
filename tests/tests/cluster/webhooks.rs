//! The webhooks of the operator, asked by a real API server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;

use e2e::cluster::{Kubectl, WithWebhooks, events, pod_to_inject as pod, told};
use e2e::{program, wait_for};
use serde_json::{Value, json};

fn init_containers(pod: &Value) -> Vec<&str> {
    let init = pod["spec"]["initContainers"].as_array();
    init.into_iter().flatten().map(|container| container["name"].as_str().unwrap()).collect()
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn without_the_operator_only_pods_that_asked_for_a_sidecar_wait() {
    let setting = WithWebhooks::new("webhooks-down");
    let asks = json!({"fapi-mesh.dev/inject": "enabled"});
    for (namespace, pod) in [("web", pod("other", json!({}))), ("kube-system", pod("system", asks.clone()))] {
        let made = setting.attempt(namespace, &pod, false).unwrap();
        assert_eq!(init_containers(&made), [""; 0], "{namespace}");
    }
    for (namespace, pod) in [("web", pod("asks", asks)), ("bank", pod("plain", json!({})))] {
        let error = setting.attempt(namespace, &pod, false).unwrap_err();
        assert!(error.contains("inject.fapi-mesh.dev"), "{namespace}: {error}");
    }
    debug(&setting, ["web", "other"], "debugger", &["--target=app"]).unwrap();
    // Objects of ours may come before their operator.
    let policy = "apiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiPolicy\nmetadata: {name: ledger, namespace: bank}\n\
                  spec: {targetRefs: [{name: ledger}]}\n";
    setting.kubectl().apply(policy).unwrap();
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn pods_that_ask_get_a_sidecar_and_what_cannot_have_one_is_told_why() {
    let setting = WithWebhooks::new("webhooks");
    let operator = setting.operator();
    let mut labelled = pod("labelled", json!({}));
    labelled["metadata"]["labels"] = json!({"fapi-mesh.dev/inject": "enabled"});
    for (namespace, pod) in [
        ("bank", pod("by-namespace", json!({}))),
        ("web", pod("by-annotation", json!({"fapi-mesh.dev/inject": "enabled"}))),
        ("web", labelled),
    ] {
        let made = setting.attempt(namespace, &pod, false).unwrap();
        assert_eq!(init_containers(&made), ["fapi-redirect", "fapi-sidecar"], "{namespace}");
        let app = &made["spec"]["containers"][0];
        assert_eq!(app["readinessProbe"]["httpGet"]["port"], 15020, "{app}");
        check_that_it_stays(&setting, namespace, &made);
    }
    for (namespace, pod) in [
        ("web", pod("other", json!({}))),
        ("bank", pod("out", json!({"fapi-mesh.dev/inject": "disabled"}))),
        ("kube-system", pod("system", json!({"fapi-mesh.dev/inject": "enabled"}))),
    ] {
        let made = setting.attempt(namespace, &pod, false).unwrap();
        assert_eq!(init_containers(&made), [""; 0], "{namespace}");
    }
    let mut host = pod("host", json!({}));
    host["spec"]["hostNetwork"] = true.into();
    let error = setting.attempt("bank", &host, false).unwrap_err();
    assert!(error.contains("(host_network)") && error.contains("remove hostNetwork"), "{error}");

    setting.kubectl().run(&["label", "namespace", "bank", "pod-security.kubernetes.io/enforce=restricted"]);
    let error = setting.attempt("bank", &restricted(json!({})), false).unwrap_err();
    assert!(error.contains("(pod_security)"), "{error}");
    let proxied = json!({"fapi-mesh.dev/interception": "proxy"});
    let made = setting.attempt("bank", &restricted(proxied), false).unwrap();
    assert_eq!(init_containers(&made), ["fapi-sidecar"], "restricted takes what is left without NET_ADMIN");
    drop(operator);
}

/// What the API server filled in is what the injector had written: it would change nothing.
fn check_that_it_stays(setting: &WithWebhooks, namespace: &str, made: &Value) {
    let yaml = setting.kubectl().run(&[
        "get",
        "pod",
        made["metadata"]["name"].as_str().unwrap(),
        "-n",
        namespace,
        "-o",
        "yaml",
    ]);
    let file = setting.folder().join("pod.yaml");
    fs::write(&file, &yaml).unwrap();
    let output = Command::new(program("fapictl"))
        .args(["inject", "--image", "fapi-sidecar:test", "--control", "fapi-operator.fapi-mesh.svc:15010"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), yaml);
}

/// A pod that Pod Security `restricted` takes.
fn restricted(annotations: Value) -> Value {
    let mut pod = pod("restricted", annotations);
    pod["spec"]["containers"][0]["securityContext"] = json!({
        "allowPrivilegeEscalation": false, "runAsNonRoot": true, "runAsUser": 1000,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    });
    pod
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn objects_that_do_not_compile_are_refused_and_drift_is_undone() {
    let setting = WithWebhooks::new("webhooks-validate");
    let operator = setting.operator();
    let kubectl = setting.kubectl();
    // The schema takes this key, and it is on no curve.
    let key = json!({"kid": "a", "kty": "EC", "crv": "P-256", "x": "A".repeat(43), "y": "A".repeat(43)});
    let client = |key: &Value| {
        json!({
            "apiVersion": "fapi-mesh.dev/v1alpha1", "kind": "FapiClient",
            "metadata": {"name": "batch", "namespace": "bank"},
            "spec": {
                "serviceAccountName": "batch", "targets": [{"serviceName": "ledger"}],
                "authentication": {"method": "PrivateKeyJWT", "jwks": {"keys": [key]}},
            },
        })
        .to_string()
    };
    let error = refusal(kubectl, &client(&key));
    assert!(error.contains("spec.authentication.jwks"), "{error}");

    let of = |kind: &str| kubectl.get(&[kind, "fapi-operator"])["webhooks"][0].clone();
    let trusted = of("validatingwebhookconfiguration");
    assert_eq!(trusted["failurePolicy"], "Fail", "once it serves");
    let version =
        kubectl.get(&["mutatingwebhookconfiguration", "fapi-operator"])["metadata"]["resourceVersion"].clone();
    let forget = json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]).to_string();
    kubectl.run(&["patch", "validatingwebhookconfiguration", "fapi-operator", "--type=json", "-p", &forget]);
    wait_for("the operator to set it again", 90, || (of("validatingwebhookconfiguration") == trusted).then_some(()));
    let after = kubectl.get(&["mutatingwebhookconfiguration", "fapi-operator"])["metadata"]["resourceVersion"].clone();
    assert_eq!(after, version, "what is in order is not written again");
    drop(operator);
}

/// What is said when an object is refused; only tried, so that what may pass a moment before that leaves nothing.
fn refusal(kubectl: &Kubectl, object: &str) -> String {
    wait_for("a refusal", 30, || {
        let tried = kubectl.with_input(&["apply", "--dry-run=server", "-f", "-"], object);
        tried.err().filter(|error| error.contains("validate.fapi-mesh.dev"))
    })
}

/// Puts an ephemeral container into a pod: what kubectl says when the API server refuses it.
fn debug(setting: &WithWebhooks, [namespace, pod]: [&str; 2], name: &str, more: &[&str]) -> Result<String, String> {
    let args = ["debug", pod, "-n", namespace, "-c", name, "--image=debug", "--profile=baseline"];
    setting.kubectl().with_input(&[&args, more].concat(), "")
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn ephemeral_containers_beside_a_sidecar_are_looked_at_and_no_others() {
    let setting = WithWebhooks::new("webhooks-ephemeral");
    let operator = setting.operator();
    let kubectl = setting.kubectl();
    let by_annotation = pod("by-annotation", json!({"fapi-mesh.dev/inject": "enabled"}));
    for (namespace, pod) in
        [("bank", pod("meshed", json!({}))), ("web", by_annotation), ("web", pod("plain", json!({})))]
    {
        setting.attempt(namespace, &pod, false).unwrap();
    }
    // What a pod asked for once can be taken away, its sidecar not.
    kubectl.run(&["annotate", "pod", "by-annotation", "-n", "web", "fapi-mesh.dev/inject-"]);
    let file = setting.folder().join("sidecar-id.json");
    fs::write(&file, json!({"securityContext": {"runAsUser": 15100, "runAsGroup": 15100}}).to_string()).unwrap();
    let custom = format!("--custom={}", file.display());
    let attacks = [
        (["--target=app", custom.as_str()], "(sidecar_id)"),
        (["--target=app", "--profile=sysadmin"], "(privileged)"),
        (["--target=app", "--profile=netadmin"], "(capability)"),
    ];
    for place in [["bank", "meshed"], ["web", "by-annotation"]] {
        let error = debug(&setting, place, "spy", &["--target=fapi-sidecar"]).unwrap_err();
        assert!(error.contains("ephemeral.fapi-mesh.dev") && error.contains("(sidecar_target)"), "{place:?}: {error}");
        assert!(error.contains("name a container of the app"), "{error}");
        for (more, id) in &attacks {
            let error = debug(&setting, place, "spy", more).unwrap_err();
            assert!(error.contains(id) && error.contains("--profile=baseline"), "{place:?}: {error}");
        }
        debug(&setting, place, "debugger", &["--target=app"]).unwrap();
        let made = kubectl.get(&["pod", place[1], "-n", place[0]])["spec"]["ephemeralContainers"].clone();
        assert_eq!(made.as_array().map(Vec::len), Some(1), "{made}");
        assert_eq!(made[0]["name"], "debugger");
    }
    for (number, (more, _)) in attacks.iter().enumerate() {
        debug(&setting, ["web", "plain"], &format!("debugger-{number}"), more).unwrap();
    }
    drop(operator);
}

/// A ReplicaSet that nobody acts on, and a pod as it would make one.
fn replica(setting: &WithWebhooks, name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let labels = json!({"app": name});
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name, "namespace": "bank"},
        "spec": {"selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "app"}]},
        }},
    });
    setting.kubectl().apply(&set.to_string()).unwrap();
    let uid = setting.kubectl().get(&["replicaset", name, "-n", "bank"])["metadata"]["uid"].clone();
    let mut pod = pod("", json!({}));
    pod["metadata"] = json!({"generateName": format!("{name}-"), "ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": uid, "controller": true},
    ]});
    change(&mut pod);
    pod
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn owners_and_objects_are_told_what_became_of_them_but_not_of_dry_runs() {
    let setting = WithWebhooks::new("webhooks-events");
    let operator = setting.operator();
    let kubectl = setting.kubectl();
    let host = |pod: &mut Value| pod["spec"]["hostNetwork"] = true.into();
    let disabled = |pod: &mut Value| pod["metadata"]["annotations"] = json!({"fapi-mesh.dev/inject": "disabled"});
    let tried = replica(&setting, "tried", |_| {});
    setting.attempt("bank", &tried, true).unwrap();
    setting.attempt("bank", &replica(&setting, "tried-too", host), true).unwrap_err();
    for _ in 0..3 {
        setting.attempt("bank", &replica(&setting, "shop", |_| {}), false).unwrap();
    }
    setting.attempt("bank", &replica(&setting, "host", host), false).unwrap_err();
    setting.attempt("bank", &replica(&setting, "out", disabled), false).unwrap();

    let injected = told(kubectl, "bank", ["ReplicaSet", "shop"], "Injected");
    assert_eq!((&injected["type"], &injected["series"]), (&json!("Normal"), &Value::Null));
    let refused = told(kubectl, "bank", ["ReplicaSet", "host"], "InjectionRefused");
    assert!(refused["note"].as_str().unwrap().contains("(host_network)"), "{refused}");
    let skipped = told(kubectl, "bank", ["ReplicaSet", "out"], "InjectionSkipped");
    assert!(skipped["note"].as_str().unwrap().contains("(opted_out)"), "{skipped}");
    let described = kubectl.run(&["describe", "replicaset", "host", "-n", "bank"]);
    assert!(described.contains("InjectionRefused") && described.contains("remove hostNetwork"), "{described}");

    // What is there stays, and is told that a change of it was refused.
    let client = |keys: &Value| {
        let mut spec = json!({"serviceAccountName": "batch", "targets": [{"serviceName": "ledger"}]});
        if !keys.is_null() {
            spec["authentication"] = json!({"method": "PrivateKeyJWT", "jwks": {"keys": keys}});
        }
        let metadata = json!({"name": "batch", "namespace": "bank"});
        json!({"apiVersion": "fapi-mesh.dev/v1alpha1", "kind": "FapiClient", "metadata": metadata, "spec": spec})
            .to_string()
    };
    let on_no_curve = json!([{"kid": "a", "kty": "EC", "crv": "P-256", "x": "A".repeat(43), "y": "A".repeat(43)}]);
    let error = refusal(kubectl, &client(&on_no_curve));
    kubectl.apply(&client(&Value::Null)).unwrap();
    assert!(error.contains("spec.authentication.jwks"), "{error}");
    assert_eq!(events(kubectl, "bank", "ChangeRefused"), [Value::Null; 0], "the operator knows of none");
    fs::write(setting.folder().join("source/client.yaml"), client(&Value::Null)).unwrap();
    wait_for("the operator to know the object", 30, || {
        kubectl.apply(&client(&on_no_curve)).unwrap_err();
        events(kubectl, "bank", "ChangeRefused").into_iter().next()
    });
    told(kubectl, "bank", ["FapiClient", "batch"], "ChangeRefused");

    // All that was told is what was told by now: the dry runs came first.
    let of_sets =
        ["Injected", "InjectionRefused", "InjectionSkipped"].map(|reason| events(kubectl, "bank", reason).len());
    assert_eq!(of_sets, [1, 1, 1]);
    drop(operator);
}
