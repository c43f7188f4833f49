//! The root of a mesh is replaced on a cluster that runs pods: by one command, while the bank's calls go on, the operator is
//! killed, and pods start in every step.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use e2e::cluster::{Cluster, Forward, Kubectl, helm, image};
use e2e::{program, repository, wait_for};
use serde_json::Value;

/// Where the operator is.
const HOME: &str = "fapi-mesh";
const STEPS: [&str; 4] = ["Prepared", "Active", "Tainted", "Removed"];

/// A cluster with the mesh and the bank of the examples.
fn bank() -> Cluster {
    let cluster = Cluster::start("rotation");
    for name in ["fapi-operator", "fapi-sidecar", "fapictl"] {
        cluster.load(&image(name));
    }
    let kubectl = cluster.kubectl();
    let chart = |name: &str| repository().join("charts").join(name).display().to_string();
    let install =
        |args: &[&str]| helm(kubectl, args).unwrap_or_else(|error| panic!("helm {}: {error}", args.join(" ")));
    kubectl.run(&["create", "namespace", HOME]);
    install(&["install", "fapi-mesh-crds", &chart("fapi-mesh-crds")]);
    let set = ["--set", "trustDomain=bank.example", "--wait"];
    install(&[&["install", "fapi-mesh", &chart("fapi-mesh"), "-n", HOME][..], &set].concat());
    for file in ["kubernetes/bank", "bank/mesh", "bank/clients", "bank/policies", "bank/outside"] {
        let file = repository().join("examples").join(format!("{file}.yaml")).display().to_string();
        kubectl.run(&["apply", "-f", &file]);
    }
    for (namespace, name) in [("bank", "ledger"), ("bank", "payments"), ("bank", "shop"), ("outside", "intruder")] {
        rolled_out(kubectl, namespace, name);
    }
    cluster
}

fn rolled_out(kubectl: &Kubectl, namespace: &str, name: &str) {
    kubectl.run(&["rollout", "status", "-n", namespace, &format!("deployment/{name}"), "--timeout=180s"]);
}

/// Has shop call payments, and payments call ledger; the status that shop saw.
fn call(shop: SocketAddr) -> Result<Value, String> {
    let told = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(shop).map_err(told)?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).map_err(told)?;
    stream.write_all(b"GET /call/http1 HTTP/1.1\r\nhost: app\r\nconnection: close\r\n\r\n").map_err(told)?;
    let (mut stream, mut length) = (BufReader::new(stream), 0);
    for line in stream.by_ref().lines() {
        let line = line.map_err(told)?.to_ascii_lowercase();
        match line.split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap_or_default(),
            None if line.is_empty() => break,
            _ => {}
        }
    }
    // A forwarded port is slow to say that a connection has ended, so that is not waited for.
    let mut body = vec![0; length];
    stream.read_exact(&mut body).map_err(told)?;
    let said: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    let passed = said["status"] == 200 && said["answer"]["next"]["app"] == "ledger";
    if passed { Ok(said) } else { Err(said.to_string()) }
}

/// Calls that go on until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    caller: JoinHandle<usize>,
    _shop: Forward,
}

impl Load {
    #[expect(clippy::disallowed_methods, reason = "a pause between calls, nothing is awaited")]
    fn start(kubectl: &Kubectl) -> Self {
        let shop = Forward::start(kubectl, "bank", "deployment/shop", 8080);
        let address = shop.address();
        wait_for("the first guarded call", 90, || call(address).ok());
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let caller = std::thread::spawn(move || {
            let mut calls = 0;
            while !until.load(Ordering::Relaxed) {
                call(address).unwrap_or_else(|failed| panic!("call {calls} failed: {failed}"));
                calls += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
            calls
        });
        Self { stop, caller, _shop: shop }
    }

    /// How many calls there were; none has failed.
    fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.caller.join().unwrap()
    }
}

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
    let cluster = bank();
    let kubectl = cluster.kubectl();
    let old = roots(kubectl, "bank");
    let load = Load::start(kubectl);
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
            rolled_out(kubectl, HOME, "fapi-operator");
        }
        // A pod that starts now gets in: it is ready when its sidecar is.
        kubectl.run(&["rollout", "restart", "-n", "outside", "deployment/intruder"]);
        rolled_out(kubectl, "outside", "intruder");
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
    let calls = load.stop();
    eprintln!("{calls} calls passed meanwhile");
    assert!(calls > 100, "only {calls} calls");
    let left = ["fingerprint", "issuing-2.key", "issuing-2.pem", "root-2.key", "root-2.pem", "rotation.json"];
    wait_for("the old keys to be gone", 60, || (documents(kubectl) == left).then_some(()));
    let shown = fapictl(kubectl, &["status", "-A"]).unwrap();
    assert!(shown.contains("spring") && shown.contains("Removed"), "{shown}");

    // All of it survives the operator, and whoever was in the mesh before is called by who comes now.
    kubectl.run(&["rollout", "restart", "-n", HOME, "deployment/fapi-operator"]);
    rolled_out(kubectl, HOME, "fapi-operator");
    kubectl.run(&["rollout", "restart", "-n", "bank", "deployment/payments"]);
    rolled_out(kubectl, "bank", "payments");
    let shop = Forward::start(kubectl, "bank", "deployment/shop", 8080);
    wait_for("a new payments to be called", 60, || call(shop.address()).ok());
}
