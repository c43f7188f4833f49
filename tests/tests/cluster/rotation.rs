//! The root of a mesh is replaced on a cluster that runs pods: by one command, while the bank's calls go on, the operator is
//! killed, and pods start in every step.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Instant;

use e2e::cluster::bank::passes;
use e2e::cluster::load::{Load, kill_in};
use e2e::cluster::platform::{HOME, Platform, took};
use e2e::cluster::{Forward, Kubectl, told};
use e2e::wait_for;
use serde_json::Value;

const STEPS: [&str; 4] = ["Prepared", "Active", "Tainted", "Removed"];
/// What the old root and the new one are good for in each.
const PHASES: [[&str; 2]; 4] =
    [["Active", "Prepared"], ["Active", "Active"], ["Tainted", "Active"], ["Removed", "Active"]];

/// How far the rotation is.
fn progress(kubectl: &Kubectl) -> Option<Value> {
    let told = kubectl.fapictl(&["status", "-A", "-o", "json"]).ok()?;
    Some(serde_json::from_str::<Value>(&told).unwrap()["rotation"].clone())
}

/// The phases of the roots as the FapiMesh tells them, the older one first, and what is told of each.
fn anchors(kubectl: &Kubectl) -> Option<(Vec<String>, Vec<Value>)> {
    let anchors = kubectl.get(&["fmesh", "default"])["status"]["trustAnchors"].as_array()?.clone();
    Some((anchors.iter().map(|anchor| anchor["phase"].as_str().unwrap().to_owned()).collect(), anchors))
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
    let calls = || passes(shop.address()).then_some(());
    wait_for("the first guarded call", 90, calls);
    let old = roots(kubectl, "bank");
    let first = wait_for("the root in the status of the FapiMesh", 60, || Some(anchors(kubectl)?.1.remove(0)));
    assert_eq!((&first["phase"], first.get("acknowledgements")), (&"Active".into(), None), "{first}");
    assert!(first["notAfter"].is_string(), "{first}");
    let load = Load::by(&platform.pod("bank", "shop"), 1);
    let began = Instant::now();
    let begun = kubectl.fapictl(&["rotate-root", "--name", "spring"]).unwrap();
    assert!(begun.starts_with("spring: Prepared since "), "{begun}");
    let second = kubectl.fapictl(&["rotate-root", "--name", "summer"]).unwrap_err();
    assert!(second.contains("the rotation spring runs; its step is Prepared"), "{second}");
    kubectl.fapictl(&["rotate-root", "--name", "spring"]).unwrap();

    for (at, step) in STEPS.into_iter().enumerate() {
        wait_for(&format!("the step {step}"), 400, || {
            let now = progress(kubectl)?;
            STEPS.iter().position(|step| now["step"] == *step).filter(|now| *now >= at)
        });
        eprintln!("{step} after {:.0} s: {}", began.elapsed().as_secs_f64(), progress(kubectl).unwrap_or_default());
        wait_for("the FapiMesh to tell of the step", 60, || {
            let (phases, told) = anchors(kubectl)?;
            let now = PHASES.iter().position(|known| phases == known)?;
            assert_eq!(told[0]["fingerprint"], first["fingerprint"]);
            let said = &told[usize::from(now < 2)]["acknowledgements"];
            eprintln!("{phases:?}: {said}");
            (now >= at && said["pods"].as_u64() > Some(3)).then_some(())
        });
        if step == "Prepared" {
            let of_operator = ["-n", HOME, "-l", "app.kubernetes.io/name=fapi-operator"];
            kubectl.run(&[&["delete", "pod", "--grace-period=0", "--force"], &of_operator[..]].concat());
            platform.operators_are(1);
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
        let now = progress(kubectl)?;
        (now["followed"] == now["sidecars"] && now.get("waitsFor").is_none()).then_some(())
    });
    wait_for("the FapiMesh to say that they do", 60, || {
        let (phases, told) = anchors(kubectl)?;
        let said = &told[0]["acknowledgements"];
        (phases == PHASES[3] && said["acknowledged"] == said["pods"] && said.get("oldest").is_none()).then_some(())
    });
    assert!(load.calls() > 100, "only {} calls", load.calls());
    load.all_passed("while the root was replaced");
    let left = ["fingerprint", "issuing-2.key", "issuing-2.pem", "root-2.key", "root-2.pem", "rotation.json"];
    wait_for("the old keys to be gone", 60, || (documents(kubectl) == left).then_some(()));
    let shown = kubectl.fapictl(&["status", "-A"]).unwrap();
    assert!(shown.contains("spring") && shown.contains("Removed"), "{shown}");

    a_sidecar_that_restarts_enrols_by_the_new_root(&platform);
    wait_for("calls by it", 60, calls);

    // All of it survives the operator, and whoever was in the mesh before is called by who comes now.
    kubectl.run(&["rollout", "restart", "-n", HOME, "deployment/fapi-operator"]);
    platform.rolled_out(HOME, "fapi-operator");
    kubectl.run(&["rollout", "restart", "-n", "bank", "deployment/payments"]);
    platform.rolled_out("bank", "payments");
    wait_for("a new payments to be called", 60, calls);
}

/// The pod is older than the new root: all that its sidecar knew was in its memory, so it begins again with the file that the kubelet
/// has brought up to date since.
fn a_sidecar_that_restarts_enrols_by_the_new_root(platform: &Platform) {
    let kubectl = platform.kubectl();
    let pod = platform.pod("bank", "payments");
    let name = pod["metadata"]["name"].as_str().unwrap();
    let state = || {
        let pod = kubectl.get(&["pod", name, "-n", "bank"]);
        let states = pod["status"]["initContainerStatuses"].as_array().unwrap().clone();
        let state = states.into_iter().find(|state| state["name"] == "fapi-sidecar").unwrap();
        (state["restartCount"].as_u64().unwrap(), state["ready"] == true)
    };
    let (restarts, _) = state();
    let began = Instant::now();
    kill_in(&pod, "/fapi-sidecar");
    wait_for("the sidecar to be there again", 120, || matches!(state(), (now, true) if now > restarts).then_some(()));
    took("a sidecar that was killed is ready again", began);
    told(kubectl, "bank", ["Pod", name], "EnrolmentRepeated");
}
