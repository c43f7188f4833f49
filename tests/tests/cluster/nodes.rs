//! A mesh over two nodes: calls from one to the other, a node that is emptied for maintenance, and one that dies.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use e2e::cluster::bank::{SHOP, call, caller, check_passed, ends_with, passes};
use e2e::cluster::load::{Load, command_in};
use e2e::cluster::platform::{HOME, OPERATORS, Platform, chart, took};
use e2e::cluster::wire::{Tap, tls_records};
use e2e::cluster::{Forward, NODES};
use e2e::{metric, wait_for};
use serde_json::{Value, json};

/// Whom shop calls, one through the other.
const CALLED: [&str; 2] = ["payments", "ledger"];
/// Who the pods are that have no service account of their own.
const DEFAULT: &str = "spiffe://bank.example/ns/bank/sa/default";
/// The type of records that carry what the ends say (RFC 8446 section 5.1).
const APPLICATION_DATA: u8 = 23;

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn two_nodes_are_one_mesh() {
    let mut platform = Platform::of_two_nodes("nodes");
    let values = format!("{}/values-ha.yaml", chart("fapi-mesh"));
    platform.install_with(&["-f", &values, "--set", "replicas=2"]);
    each_node_has_an_operator(&platform);
    platform.apply(&["kubernetes/bank.yaml"]);
    for (app, node) in [("shop", NODES[0]), ("payments", NODES[1]), ("ledger", NODES[0])] {
        let place = json!({"spec": {"template": {"spec": {"nodeSelector": at(node)}}}}).to_string();
        platform.kubectl().run(&["patch", "deployment", app, "-n", "bank", "-p", &place]);
    }
    platform.open_the_bank();
    let clients = "apiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiClient\nmetadata: {name: default, namespace: bank}\n\
                   spec: {serviceAccountName: default, targets: [{serviceName: payments}]}\n";
    platform.kubectl().apply(clients).unwrap();
    let shop = Forward::start(platform.kubectl(), "bank", "deployment/shop", 8080);
    wait_for("the first guarded call", 60, || passes(shop.address()).then_some(()));

    let scenario = |name: &str, play: &dyn Fn()| {
        let began = Instant::now();
        play();
        took(name, began);
    };
    scenario("calls to the other node", &|| calls_to_the_other_node_are_guarded(&platform, shop.address()));
    let shop = platform.pod("bank", "shop");
    scenario("a drain", &|| a_node_is_drained_under_load(&platform, &shop));
    scenario("an operator that leads on the other node", &|| the_second_node_leads(&platform));
    a_node_dies_under_load(&mut platform, &shop);
}

/// Both apps that are called have two pods on the second node, which has to go: their budgets let it take one at a time, and with
/// them goes an operator.
fn a_node_is_drained_under_load(platform: &Platform, shop: &Value) {
    let kubectl = platform.kubectl();
    kubectl.run(&["cordon", NODES[0]]);
    let two_anywhere = json!({"spec": {"replicas": 2, "template": {"spec": {"nodeSelector": null}}}}).to_string();
    for app in CALLED {
        kubectl.run(&["patch", "deployment", app, "-n", "bank", "-p", &two_anywhere]);
        kubectl.run(&[
            "create",
            "poddisruptionbudget",
            app,
            "-n",
            "bank",
            "--min-available=1",
            "--selector",
            &format!("app={app}"),
        ]);
    }
    CALLED.iter().for_each(|app| platform.rolled_out("bank", app));
    kubectl.run(&["uncordon", NODES[0]]);
    wait_for("two pods of each on the second node", 60, || (called_on(platform, NODES[1]) == 4).then_some(()));

    let load = Load::by(shop, 2);
    wait_for("calls", 30, || (load.calls() > 20).then_some(()));
    kubectl.run(&["drain", NODES[1], "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s"]);
    assert_eq!(called_on(platform, NODES[1]), 0);
    CALLED.iter().for_each(|app| platform.rolled_out("bank", app));
    kubectl.run(&[&["rollout", "status", "deployment/fapi-operator", "--timeout=60s"], &OPERATORS[..2]].concat());
    let before = load.calls();
    wait_for("calls of the pods that moved", 30, || (load.calls() > before + 20).then_some(()));
    load.all_passed("a node drained");
    assert_eq!(called_on(platform, NODES[0]), 4);
    kubectl.run(&["uncordon", NODES[1]]);
}

/// How many pods of the apps that are called are on a node.
fn called_on(platform: &Platform, node: &str) -> usize {
    let (app, on) = (format!("app in ({})", CALLED.join(",")), format!("spec.nodeName={node}"));
    let names =
        platform.kubectl().run(&["get", "pods", "-n", "bank", "-l", &app, "--field-selector", &on, "-o", "name"]);
    names.lines().count()
}

/// All sidecars hear the operator on the second node, and it alone writes.
fn the_second_node_leads(platform: &Platform) {
    let kubectl = platform.kubectl();
    let ends = |pod: &Value| kubectl.run(&["delete", "pod", "-n", HOME, pod["metadata"]["name"].as_str().unwrap()]);
    let both_on_the_first = kubectl.get(&[&["pods"], &OPERATORS[..]].concat())["items"].clone();
    // A pod that ends counts for the scheduler, so it is told where the next one goes.
    kubectl.run(&["cordon", NODES[0]]);
    ends(&both_on_the_first[0]);
    let [first, second] = each_node_has_an_operator(platform);
    // While the next one finds no node, the second is all there is.
    kubectl.run(&["cordon", NODES[1]]);
    ends(&first);
    wait_for("the second to lead, with all sidecars", 60, || {
        (sidecars_of(&second)? == meshed(platform) && leads(platform, &second)).then_some(())
    });
    NODES.iter().for_each(|node| drop(kubectl.run(&["uncordon", node])));
    let [follows, _] = each_node_has_an_operator(platform);
    wait_for("the one that follows to have no sidecars", 30, || (sidecars_of(&follows)? == 0).then_some(()));
    assert!(leads(platform, &second));
}

/// How many pods have a sidecar.
fn meshed(platform: &Platform) -> usize {
    let pods = platform.kubectl().get(&["pods", "-A"])["items"].as_array().unwrap().clone();
    let has_sidecar = |pod: &&Value| pod["spec"]["initContainers"].to_string().contains("\"name\":\"fapi-sidecar\"");
    pods.iter().filter(has_sidecar).count()
}

/// How many sidecars have a stream to an operator.
fn sidecars_of(operator: &Value) -> Option<usize> {
    let connected = metric((address(operator), 15014).into(), "fapi_operator_connected_sidecars")?;
    usize::try_from(connected).ok()
}

fn leads(platform: &Platform, operator: &Value) -> bool {
    let lease = platform.kubectl().get(&["lease", "fapi-operator", "-n", HOME]);
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
    holder.starts_with(operator["metadata"]["name"].as_str().unwrap())
}

/// With the operator that leads and that all sidecars hear. Calls that need nothing of that node go on, and pods that come now are
/// members. Calls that may be repeated pass even where one of two twins has died, and are quick once Kubernetes says so.
fn a_node_dies_under_load(platform: &mut Platform, shop: &Value) {
    let kubectl = platform.kubectl().clone();
    let [living, _] = each_node_has_an_operator(platform);
    kubectl.apply(TWINS).unwrap();
    platform.rolled_out("bank", "twin");
    let asks = json!({"fapi-mesh.dev/inject": "enabled"});
    let (asker, _) = run_caller(platform, NODES[0], "asker", "twin.bank", &asks);
    let twins = kubectl.get(&["service", "twin", "-n", "bank"])["spec"]["clusterIP"].clone();
    let twin = || {
        let (began, url) = (Instant::now(), format!("http://{}/", twins.as_str().unwrap()));
        let output = command_in(&asker, "curl").args(["-s", "--max-time", "60", &url]).output().unwrap();
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (said["app"].as_str().unwrap_or("nobody").to_owned(), began.elapsed())
    };
    let mut met = BTreeSet::new();
    wait_for("both twins to be called", 60, || {
        met.insert(twin().0);
        NODES.iter().all(|node| met.contains(*node)).then_some(())
    });

    let load = Load::by(shop, 2);
    wait_for("calls", 30, || (load.calls() > 20).then_some(()));
    let began = Instant::now();
    platform.cluster.kill_second_node();
    wait_for("Kubernetes to say that a twin is gone", 60, || {
        let (met, took) = twin();
        assert!(met == NODES[0] && took < Duration::from_secs(30), "{met} after {took:?}");
        let slices = kubectl.get(&["endpointslices", "-n", "bank", "-l", "kubernetes.io/service-name=twin"]);
        let endpoints = slices["items"][0]["endpoints"].as_array()?;
        endpoints.iter().any(|endpoint| endpoint["conditions"]["ready"] == false).then_some(())
    });
    took("until Kubernetes says that a twin is gone", began);
    let mut quick = 0;
    wait_for("the twin that lives to be called alone", 90, || {
        let (met, took) = twin();
        assert_eq!(met, NODES[0], "after {took:?}");
        quick = if took < Duration::from_secs(1) { quick + 1 } else { 0 };
        (quick == 20).then_some(())
    });
    took("until the twin that lives is called alone", began);

    let mut late: Value = serde_json::from_str(&caller("late", "bank", "payments.bank", &asks)).unwrap();
    late["spec"]["nodeSelector"] = at(NODES[0]);
    wait_for("the webhook of the operator that lives", 90, || kubectl.apply(&late.to_string()).ok());
    platform.is("Ready", "bank", "pod/late");
    took("until a new pod is ready", began);
    let late = Forward::start(&kubectl, "bank", "pod/late", 8080);
    wait_for("a call of the new pod", 30, || ends_with(late.address(), 200));
    kubectl.run(&["rollout", "restart", "deployment/ledger", "-n", "bank"]);
    platform.rolled_out("bank", "ledger");
    wait_for("the operator that lives to lead", 60, || leads(platform, &living).then_some(()));
    let before = load.calls();
    wait_for("calls of the new ledger", 30, || (load.calls() > before + 20).then_some(()));
    load.all_passed("a node that died");
    took("a node that died", began);
}

/// As a label of a node has it.
fn at(node: &str) -> Value {
    json!({"kubernetes.io/hostname": node})
}

/// The operators, once each runs on a node of its own: the first on the first.
fn each_node_has_an_operator(platform: &Platform) -> [Value; 2] {
    wait_for("an operator on each node", 60, || {
        let pods = platform.kubectl().get(&[&["pods"], &OPERATORS[..]].concat())["items"].as_array()?.clone();
        let on = |node: &str| {
            let ready = |pod: &&Value| pod["status"]["containerStatuses"][0]["ready"] == true;
            pods.iter().filter(ready).find(|pod| pod["spec"]["nodeName"] == node).cloned()
        };
        (pods.len() == 2).then_some([on(NODES[0])?, on(NODES[1])?])
    })
}

fn address(pod: &Value) -> IpAddr {
    pod["status"]["podIP"].as_str().unwrap().parse().unwrap()
}

/// Runs a pod on a node that calls a service; the pod, and where it can be told to call.
fn run_caller(platform: &Platform, node: &str, name: &str, service: &str, annotations: &Value) -> (Value, Forward) {
    let mut pod: Value = serde_json::from_str(&caller(name, "bank", service, annotations)).unwrap();
    pod["spec"]["nodeSelector"] = at(node);
    platform.kubectl().apply(&pod.to_string()).unwrap();
    platform.is("Ready", "bank", &format!("pod/{name}"));
    let forward = Forward::start(platform.kubectl(), "bank", &format!("pod/{name}"), 8080);
    (platform.kubectl().get(&["pod", name, "-n", "bank"]), forward)
}

/// By a Service and by address: the called side knows its caller, who did not ask for a sidecar is refused, and whoever taps the
/// wire between the nodes reads nothing.
fn calls_to_the_other_node_are_guarded(platform: &Platform, shop: SocketAddr) {
    let [payments, ledger] = ["payments", "ledger"].map(|app| platform.pod("bank", app));
    assert_eq!([&payments["spec"]["nodeName"], &ledger["spec"]["nodeName"]], [NODES[1], NODES[0]]);
    let payments = address(&payments);
    let tap = Tap::between_nodes(&platform.cluster);

    check_passed(&call(shop, None));
    platform.told("payments", &[("outcome", "admitted"), ("caller", SHOP)]);
    let asks = json!({"fapi-mesh.dev/inject": "enabled"});
    let (_, by_address) = run_caller(platform, NODES[0], "by-address", &format!("{payments}:8080"), &asks);
    let said = wait_for("a call of a pod that is new", 30, || ends_with(by_address.address(), 200));
    assert_eq!(said["answer"]["told"]["caller"], DEFAULT, "{said}");
    platform.told("payments", &[("outcome", "admitted"), ("caller", DEFAULT)]);

    let strangers = [("stranger", "payments.bank".to_owned()), ("stranger-by-address", format!("{payments}:8080"))];
    let strangers = strangers.map(|(name, service)| {
        let (pod, forward) = run_caller(platform, NODES[0], name, &service, &json!({}));
        let said = call(forward.address(), None);
        assert_eq!(said["status"], Value::Null, "{name}: {said}");
        address(&pod)
    });
    platform.told("payments", &[("event", "handshake"), ("reason", "plaintext_not_allowed")]);

    let heard = tap.heard();
    let mut guarded = 0;
    for ((from, to), bytes) in &heard {
        if strangers.contains(&from.ip()) {
            assert!(
                bytes.starts_with(b"POST /transfers"),
                "a stranger can be read: {}",
                String::from_utf8_lossy(bytes)
            );
        } else if !strangers.contains(&to.ip()) {
            let records = tls_records(bytes);
            let records = records.unwrap_or_else(|| panic!("{from} to {to}: {}", String::from_utf8_lossy(bytes)));
            guarded += usize::from(records.contains(&APPLICATION_DATA));
        }
    }
    let heard_from = |one: IpAddr, port: u16| heard.keys().any(|(from, to)| from.ip() == one && to.port() == port);
    assert!(strangers.iter().all(|stranger| heard_from(*stranger, 8080)), "what is listened to is the wire");
    let shop = address(&platform.pod("bank", "shop"));
    assert!(heard_from(shop, 8080) && heard_from(payments, 8080), "both hops cross the wire: {:?}", heard.keys());
    eprintln!("{guarded} of {} streams between the nodes are TLS, all but those of strangers", heard.len());
    platform.kubectl().run(&["delete", "pod", "by-address", "stranger", "stranger-by-address", "-n", "bank"]);
}

const TWINS: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: twin, namespace: bank}
spec: {selector: {app: twin}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: twin, namespace: bank}
spec:
  replicas: 2
  selector: {matchLabels: {app: twin}}
  template:
    metadata: {labels: {app: twin}, annotations: {fapi-mesh.dev/inject: enabled}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: DoNotSchedule
        labelSelector: {matchLabels: {app: twin}}
      containers:
      - name: app
        image: fapi-mesh.dev/fapictl:0.1.0
        args: [app, "--name=$(NODE)", "--listen=0.0.0.0:8080"]
        env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: http}}
---
apiVersion: fapi-mesh.dev/v1alpha1
kind: FapiClient
metadata: {name: default, namespace: bank}
spec: {serviceAccountName: default, targets: [{serviceName: payments}, {serviceName: twin}]}
"#;
