//! The root of a mesh is replaced on a cluster that runs pods: by one command, while the bank's calls go on, the operator is
//! killed, and pods start in every step.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::Command;
use std::time::Instant;

use e2e::cluster::bank::{passed, try_call};
use e2e::cluster::load::Load;
use e2e::cluster::platform::Platform;
use e2e::cluster::{Forward, Kubectl};
use e2e::{program, wait_for};
use serde_json::Value;

/// Where the operator is.
const HOME: &str = "fapi-mesh";
const STEPS: [&str; 4] = ["Prepared", "Active", "Tainted", "Removed"];

fn fapictl(kubectl: &Kubectl, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program("fapictl")).args(args).env("KUBECONFIG", kubectl.kubeconfig()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// How far the rotation is.
fn progress(kubectl: &Kubectl) -> Value {
    let told = fapictl(kubectl, &["status", "-A", "-o", "json"]).unwrap();
    serde_json::from_str::<Value>(&told).unwrap()["rotation"].clone()
}

/// The roots that a namespace has.
fn roots(kubectl: &Kubectl, namespace: &str) -> String {
    let map = kubectl.get(&["configmap", "fapi-mesh-trust-bundle", "-n", namespace]);
    map["data"]["root.pem"].as_str().unwrap().to_owned()
}

/// The names of the documents of the Secret with the authority.
fn documents(kubectl: &Kubectl) -> Vec<String> {
    let secret = kubectl.get(&["secret", "fapi-mesh-ca", "-n", HOME]);
    secret["data"].as_object().unwrap().keys().cloned().collect()
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn a_root_is_replaced_by_one_command_while_calls_go_on() {
    let platform = Platform::new("rotation");
    platform.install();
    platform.open_the_bank();
    let kubectl = platform.kubectl();
    let shop = Forward::start(kubectl, "bank", "deployment/shop", 8080);
    let calls = || try_call(shop.address(), None).ok().filter(passed);
    wait_for("the first guarded call", 90, calls);
    let old = roots(kubectl, "bank");
    let load = Load::by(&platform.pod("bank", "shop"), 1);
    let began = Instant::now();
    let begun = fapictl(kubectl, &["rotate-root", "--name", "spring"]).unwrap();
    assert!(begun.starts_with("spring: Prepared since "), "{begun}");
    let second = fapictl(kubectl, &["rotate-root", "--name", "summer"]).unwrap_err();
    assert!(second.contains("the rotation spring runs; its step is Prepared"), "{second}");
    fapictl(kubectl, &["rotate-root", "--name", "spring"]).unwrap();

    for (at, step) in STEPS.into_iter().enumerate() {
        wait_for(&format!("the step {step}"), 400, || {
            let now = progress(kubectl);
            STEPS.iter().position(|step| now["step"] == *step).filter(|now| *now >= at)
        });
        eprintln!("{step} after {:.0} s: {}", began.elapsed().as_secs_f64(), progress(kubectl));
        if step == "Prepared" {
            let of_operator = ["-n", HOME, "-l", "app.kubernetes.io/name=fapi-operator"];
            kubectl.run(&[&["delete", "pod", "--grace-period=0", "--force"], &of_operator[..]].concat());
            platform.rolled_out(HOME, "fapi-operator");
        }
        // A pod that starts now gets in: it is ready when its sidecar is.
        kubectl.run(&["rollout", "restart", "-n", "outside", "deployment/intruder"]);
        platform.rolled_out("outside", "intruder");
    }
    for namespace in ["bank", "outside"] {
        wait_for("the new root alone", 60, || {
            let new = roots(kubectl, namespace);
            (new.matches("BEGIN CERTIFICATE").count() == 1 && new != old).then_some(())
        });
    }
    wait_for("everybody to trust the new root alone", 120, || {
        let now = progress(kubectl);
        (now["followed"] == now["sidecars"] && now.get("waitsFor").is_none()).then_some(())
    });
    assert!(load.calls() > 100, "only {} calls", load.calls());
    load.all_passed("while the root was replaced");
    let left = ["fingerprint", "issuing-2.key", "issuing-2.pem", "root-2.key", "root-2.pem", "rotation.json"];
    wait_for("the old keys to be gone", 60, || (documents(kubectl) == left).then_some(()));
    let shown = fapictl(kubectl, &["status", "-A"]).unwrap();
    assert!(shown.contains("spring") && shown.contains("Removed"), "{shown}");

    // All of it survives the operator, and whoever was in the mesh before is called by who comes now.
    kubectl.run(&["rollout", "restart", "-n", HOME, "deployment/fapi-operator"]);
    platform.rolled_out(HOME, "fapi-operator");
    kubectl.run(&["rollout", "restart", "-n", "bank", "deployment/payments"]);
    platform.rolled_out("bank", "payments");
    wait_for("a new payments to be called", 60, calls);
}
