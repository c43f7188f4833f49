//! Every kind of workload, in a mesh that was installed by its charts: what has other names than a Deployment, what ends, what
//! is replaced while it is called, what falls ill, and ways to call that go round a Service.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::Instant;

use e2e::cluster::bank::{call, caller, check_passed, passes, said_at, try_call};
use e2e::cluster::load::Load;
use e2e::cluster::loot::curl;
use e2e::cluster::platform::{Platform, took};
use e2e::cluster::{Forward, events};
use e2e::wait_for;
use serde_json::{Value, json};

/// How many pods of payments there are at most.
const MANY: usize = 20;
/// Who the pods are that have no service account of their own.
const DEFAULT: &str = "spiffe://bank.example/ns/bank/sa/default";

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn workloads_of_every_kind_are_members() {
    let platform = Platform::new("workloads");
    platform.install();
    platform.open_the_bank();
    // Both Services before the vault are named, so no address of its pods tells which is meant.
    let clients = "apiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiClient\nmetadata: {name: default, namespace: bank}\n\
                   spec:\n  serviceAccountName: default\n  \
                   targets: [{serviceName: payments}, {serviceName: vault}, {serviceName: vault-any}]\n";
    platform.kubectl().apply(clients).unwrap();
    let shop = platform.pod("bank", "shop");
    let address = Forward::start(platform.kubectl(), "bank", "deployment/shop", 8080);
    wait_for("the first guarded call", 60, || passes(address.address()).then_some(()));
    check_passed(&call(address.address(), None));

    let scenario = |name: &str, play: &dyn Fn()| {
        let began = Instant::now();
        play();
        took(name, began);
    };
    scenario("jobs", &|| jobs_end(&platform));
    scenario("a StatefulSet and other destinations", &|| pods_are_called_by_their_own_names(&platform));
    scenario("probes", &|| probes_tell_who_is_dead(&platform));
    scenario("hooks", &|| hooks_are_run_and_their_failures_told(&platform));
    scenario("a NodePort", &|| a_node_port_opens_nothing(&platform));
    scenario("rolling updates", &|| payments_is_updated_under_load(&platform, &shop));
    scenario("scaling", &|| payments_grows_and_shrinks_under_load(&platform, &shop));
    scenario("a CronJob", &|| a_cron_job_has_ended(&platform));
}

/// A Job that calls once is complete when that passed, and has failed when it was refused: its sidecar keeps neither alive.
fn jobs_end(platform: &Platform) {
    let template = |service: &str| {
        json!({
            "metadata": {"annotations": {"fapi-mesh.dev/inject": "enabled"}},
            "spec": {"restartPolicy": "Never", "containers": [{
                "name": "app", "image": "fapi-mesh.dev/fapictl:0.1.0",
                "args": ["app", "--name=job", "--once=http1", format!("--calls=http://{service}")],
            }]},
        })
    };
    let job = |service: &str| json!({"backoffLimit": 0, "template": template(service)});
    let object = |kind: &str, name: &str, spec: Value| {
        let object = json!({
            "apiVersion": "batch/v1", "kind": kind, "metadata": {"name": name, "namespace": "bank"}, "spec": spec,
        });
        platform.kubectl().apply(&object.to_string()).unwrap();
    };
    let every_minute = json!({"schedule": "* * * * *", "jobTemplate": {"spec": job("payments.bank")}});
    object("CronJob", "nightly", every_minute);
    object("Job", "booking", job("payments.bank"));
    object("Job", "burglary", job("ledger.bank"));
    platform.is("Complete", "bank", "job/booking");
    platform.is("Failed", "bank", "job/burglary");
    let said = platform.log("bank", "job/booking", "app");
    assert_eq!(said[0]["answer"]["told"]["caller"], DEFAULT, "{said:?}");
    let said = platform.log("bank", "job/burglary", "app");
    assert!(said[0]["status"].as_u64().is_some_and(|status| status >= 400), "{said:?}");
    platform.told("payments", &[("outcome", "admitted"), ("caller", DEFAULT)]);
}

/// One that nobody but the cluster itself has started.
fn a_cron_job_has_ended(platform: &Platform) {
    wait_for("a job of the CronJob to be complete", 90, || {
        let jobs = platform.kubectl().get(&["jobs", "-n", "bank"]);
        let nightly = |job: &&Value| job["metadata"]["ownerReferences"][0]["name"] == "nightly";
        let mut jobs = jobs["items"].as_array().unwrap().iter().filter(nightly);
        jobs.any(|job| job["status"]["succeeded"] == 1).then_some(())
    });
}

/// By the name of one pod of a StatefulSet, by its headless Service, by an alias, and by an address: calls are guarded all the
/// same, or go where no guard is, as is said of Services outside the mesh.
fn pods_are_called_by_their_own_names(platform: &Platform) {
    let kubectl = platform.kubectl();
    kubectl.apply(VAULT).unwrap();
    kubectl.run(&["rollout", "status", "-n", "bank", "statefulset/vault", "--timeout=120s"]);
    let payments = platform.pod("bank", "payments");
    let address = format!("{}:8080", payments["status"]["podIP"].as_str().unwrap());
    let destinations: [(&str, &str, &[&str]); 9] = [
        ("by-pod", "vault-1.vault.bank:8080", &["vault-1"]),
        ("by-short-name", "vault-1.vault:8080", &["vault-1"]),
        ("by-proxy", "vault-0.vault:8080", &["vault-0"]),
        ("by-service", "vault-any", &["vault-0", "vault-1"]),
        ("by-headless", "vault.bank:8080", &["vault-0", "vault-1"]),
        ("by-long-name", "vault-0.vault.bank.svc.cluster.local:8080", &["vault-0"]),
        ("by-address", &address, &["payments"]),
        ("by-alias", "alias.bank", &["payments"]),
        ("by-outer-alias", "outer.bank:8080", &["plain"]),
    ];
    let mut plain: Value = serde_json::from_str(&caller("plain", "outside", "", &json!({}))).unwrap();
    plain["metadata"]["labels"] = json!({"app": "plain"});
    plain["spec"]["containers"][0]["args"].as_array_mut().unwrap().pop();
    kubectl.apply(&plain.to_string()).unwrap();
    for (name, service, _) in destinations {
        let mode = if name == "by-proxy" { "proxy" } else { "redirect" };
        let asks = json!({"fapi-mesh.dev/inject": "enabled", "fapi-mesh.dev/interception": mode});
        // Behind a sidecar that no rules lead to, the app is alone on loopback.
        let listen = if mode == "proxy" { "--listen=127.0.0.1" } else { "--listen=0.0.0.0" };
        kubectl.apply(&caller(name, "bank", service, &asks).replace("--listen=0.0.0.0", listen)).unwrap();
    }
    platform.is("Ready", "outside", "pod/plain");
    for (name, service, apps) in destinations {
        platform.is("Ready", "bank", &format!("pod/{name}"));
        let forward = Forward::start(kubectl, "bank", &format!("pod/{name}"), 8080);
        let said = passing(name, forward.address());
        assert!(apps.iter().any(|app| said["answer"]["app"] == *app), "{service}: {said}");
        let told = if apps == ["plain"] { Value::Null } else { DEFAULT.into() };
        assert_eq!(said["answer"]["told"]["caller"], told, "{service}: {said}");
        assert!(!said.to_string().to_lowercase().contains("authorization"), "{service}: {said}");
        kubectl.run(&["delete", "pod", name, "-n", "bank", "--wait=false"]);
    }
}

/// The answer to a call that passes sooner or later: what was made just now is not known everywhere.
fn passing(name: &str, app: SocketAddr) -> Value {
    let mut last = Value::Null;
    let began = Instant::now();
    wait_for(&format!("the call of {name} to be answered"), 60, || {
        last = try_call(app, None).unwrap_or_default();
        let over = began.elapsed().as_secs() > 30;
        (last["status"] == 200 || over).then_some(())
    });
    assert_eq!(last["status"], 200, "{name}: {last}");
    last
}

/// An app that lives and does not listen any more is found out by each type of probe, all of which the sidecar performs.
fn probes_tell_who_is_dead(platform: &Platform) {
    let kubectl = platform.kubectl();
    let types = [
        ("http", json!({"httpGet": {"path": "/healthz", "port": 8080}})),
        ("tcp", json!({"tcpSocket": {"port": 8080}})),
        ("grpc", json!({"grpc": {"port": 8080}})),
    ];
    for (name, probe) in &types {
        let annotations = json!({"fapi-mesh.dev/inject": "enabled"});
        let mut pod: Value = serde_json::from_str(&caller(name, "bank", "payments.bank", &annotations)).unwrap();
        let mut probe = probe.clone();
        probe["periodSeconds"] = 1.into();
        probe["failureThreshold"] = 2.into();
        pod["spec"]["containers"][0]["readinessProbe"] = probe;
        kubectl.apply(&pod.to_string()).unwrap();
    }
    for (name, _) in &types {
        platform.is("Ready", "bank", &format!("pod/{name}"));
        let forward = Forward::start(kubectl, "bank", &format!("pod/{name}"), 8080);
        said_at(forward.address(), "/deaf").unwrap();
    }
    // One that is to be alive starts anew, and is as before.
    let annotations = json!({"fapi-mesh.dev/inject": "enabled"});
    let mut pod: Value = serde_json::from_str(&caller("revived", "bank", "payments.bank", &annotations)).unwrap();
    let alive = json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 2, "timeoutSeconds": 5});
    pod["spec"]["containers"][0]["livenessProbe"] = alive;
    pod["spec"]["containers"][0]["startupProbe"] =
        json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 60});
    kubectl.apply(&pod.to_string()).unwrap();
    platform.is("Ready", "bank", "pod/revived");
    said_at(Forward::start(kubectl, "bank", "pod/revived", 8080).address(), "/deaf").unwrap();
    wait_for("the kubelet to start it anew", 60, || {
        let status = kubectl.get(&["pod", "revived", "-n", "bank"])["status"]["containerStatuses"][0].clone();
        (status["restartCount"] != 0 && status["ready"] == true).then_some(())
    });
    passing("revived", Forward::start(kubectl, "bank", "pod/revived", 8080).address());

    for (name, _) in &types {
        platform.is("Ready=False", "bank", &format!("pod/{name}"));
        let pod = kubectl.get(&["pod", name, "-n", "bank"]);
        assert_eq!(pod["status"]["phase"], "Running", "it is dead to its probe alone");
        kubectl.run(&["delete", "pod", name, "-n", "bank", "--wait=false"]);
    }
}

/// The kubelet runs a hook through the sidecar, at a path that it alone is told, and learns of one that fails.
fn hooks_are_run_and_their_failures_told(platform: &Platform) {
    let kubectl = platform.kubectl();
    let hooks = [("hooked", 8080), ("hooked-to-nobody", 9)];
    for (name, port) in hooks {
        let annotations = json!({"fapi-mesh.dev/inject": "enabled"});
        let mut pod: Value = serde_json::from_str(&caller(name, "bank", "payments.bank", &annotations)).unwrap();
        // In a second a hook may not be done.
        pod["spec"]["terminationGracePeriodSeconds"] = 10.into();
        pod["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"httpGet": {"path": "/healthz", "port": port}}});
        kubectl.apply(&pod.to_string()).unwrap();
    }
    let [path, other] = hooks.map(|(name, _)| {
        platform.is("Ready", "bank", &format!("pod/{name}"));
        let hook = kubectl.get(&["pod", name, "-n", "bank"])["spec"]["containers"][0]["lifecycle"]["preStop"].clone();
        assert_eq!(hook["httpGet"]["port"], 15020);
        hook["httpGet"]["path"].as_str().unwrap().to_owned()
    });
    assert!(path.starts_with("/probes/app/prestop/") && path != other, "{path} {other}");
    kubectl.run(&["delete", "pod", "hooked", "hooked-to-nobody", "-n", "bank"]);
    let failed = || events(kubectl, "bank", "FailedPreStopHook");
    wait_for("the kubelet to tell of the hook that failed", 30, || {
        failed().iter().any(|event| event["regarding"]["name"] == "hooked-to-nobody").then_some(())
    });
    assert!(!failed().iter().any(|event| event["regarding"]["name"] == "hooked"));
}

/// Whoever comes by a port of the node meets the sidecar: at the app's port, and at the one where probes are asked.
fn a_node_port_opens_nothing(platform: &Platform) {
    let kubectl = platform.kubectl();
    kubectl.apply(DOOR).unwrap();
    let ports = kubectl.get(&["service", "door", "-n", "bank"])["spec"]["ports"].clone();
    let at = |port: usize, path: &str| format!("{}:{}{path}", platform.cluster.node(), ports[port]["nodePort"]);
    let status = ["-o", "/dev/null", "-w", "%{http_code}"];
    wait_for("the port of the node", 30, || {
        (curl(None, &[&status[..], &[&format!("http://{}", at(1, "/readyz"))]].concat()) == "200").then_some(())
    });
    for scheme in ["http", "https"] {
        for path in ["/", "/transfers", "/readyz", "/probes/app/readiness"] {
            let said = curl(None, &["-i", &format!("{scheme}://{}", at(0, path))]);
            assert_eq!(said, "", "{scheme}{path}");
        }
    }
    platform.told("payments", &[("event", "handshake"), ("reason", "plaintext_not_allowed")]);
    platform.told("payments", &[("event", "handshake"), ("reason", "peer_certificate_missing")]);
    // What the kubelet may ask, anybody may; it is told nothing that the app says, and cannot ask for anything else.
    let probe = curl(None, &["-i", &format!("http://{}", at(1, "/probes/app/readiness"))]);
    assert!(probe.starts_with("HTTP/1.1 200") && !probe.contains("told"), "{probe}");
    for path in ["/", "/transfers", "/probes/app/liveness", "/config"] {
        let said = curl(None, &[&status[..], &[&format!("http://{}", at(1, path))]].concat());
        assert_eq!(said, "404", "{path}");
    }
    kubectl.run(&["delete", "service", "door", "-n", "bank"]);
}

fn payments_is_updated_under_load(platform: &Platform, shop: &Value) {
    let load = Load::by(shop, 2);
    for version in ["2", "3"] {
        platform.kubectl().run(&["set", "env", "-n", "bank", "deployment/payments", &format!("VERSION={version}")]);
        platform.rolled_out("bank", "payments");
    }
    pods_of_payments(platform, 1);
    load.all_passed("two rolling updates of payments");
}

fn payments_grows_and_shrinks_under_load(platform: &Platform, shop: &Value) {
    let load = Load::by(shop, 2);
    let scale = |to: usize| {
        platform.kubectl().run(&["scale", "-n", "bank", "deployment/payments", &format!("--replicas={to}")]);
        // So many pods at once are much for a small machine that has other work too.
        platform.kubectl().run(&["rollout", "status", "-n", "bank", "deployment/payments", "--timeout=280s"]);
        pods_of_payments(platform, to)
    };
    for pod in scale(MANY) {
        wait_for(&format!("a call that {pod} has taken"), 60, || {
            let log = platform.log("bank", &format!("pod/{pod}"), "fapi-sidecar");
            log.iter().any(|line| line["direction"] == "inbound" && line["outcome"] == "admitted").then_some(())
        });
    }
    scale(1);
    load.all_passed(&format!("payments from 1 pod to {MANY} and back"));
}

/// The names of the pods of payments, once there are so many and no more.
fn pods_of_payments(platform: &Platform, count: usize) -> Vec<String> {
    wait_for(&format!("{count} pods of payments, and none that ends"), 90, || {
        let pods = platform.kubectl().run(&["get", "pods", "-n", "bank", "-l", "app=payments", "-o", "name"]);
        let names: Vec<String> = pods.lines().map(|line| line.trim_start_matches("pod/").to_owned()).collect();
        (names.len() == count).then_some(names)
    })
}

const VAULT: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: vault, namespace: bank}
spec: {clusterIP: None, selector: {app: vault}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: vault-any, namespace: bank}
spec: {selector: {app: vault}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: vault, namespace: bank}
spec:
  serviceName: vault
  replicas: 2
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: vault}}
  template:
    metadata: {labels: {app: vault}, annotations: {fapi-mesh.dev/inject: enabled}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: app
        image: fapi-mesh.dev/fapictl:0.1.0
        args: [app, "--name=$(POD)", "--listen=0.0.0.0:8080"]
        env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: http}}
---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: bank}
spec: {type: ExternalName, externalName: payments.bank.svc.cluster.local, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: outer, namespace: bank}
spec: {type: ExternalName, externalName: plain.outside.svc.cluster.local, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: plain, namespace: outside}
spec: {selector: {app: plain}, ports: [{name: http, port: 8080}]}
"#;

const DOOR: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: door, namespace: bank}
spec:
  type: NodePort
  selector: {app: payments}
  ports: [{name: http, port: 80, targetPort: http}, {name: health, port: 15020}]
"#;
