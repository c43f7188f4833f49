//! A namespace under Pod Security `restricted`: no pod of it has rules in the kernel, and its calls are guarded all the same.

use e2e::cluster::bank::{caller, ends_with};
use e2e::cluster::load::command_in;
use e2e::cluster::loot::curl;
use e2e::cluster::platform::Platform;
use e2e::cluster::{Forward, Kubectl, events};
use e2e::{Running, program, wait_for};
use serde_json::{Value, json};

const CAREFUL: &str = "spiffe://bank.example/ns/strict/sa/default";

/// Whoever asks for what the namespace forbids is told how else. By proxy calls go out with a token and come in with one alone, and
/// whoever opens a way past the sidecar gets no calls at all.
pub(super) fn guards_where_capabilities_are_forbidden(platform: &Platform) {
    let kubectl = platform.kubectl();
    kubectl.run(&["create", "namespace", "strict"]);
    kubectl.run(&["label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted"]);
    let refused = careful(kubectl, "redirect").unwrap_err();
    assert!(refused.contains("(pod_security)") && refused.contains("fapi-mesh.dev/interception: proxy"), "{refused}");
    careful(kubectl, "proxy").unwrap();
    kubectl.run(&["expose", "pod", "careful", "-n", "strict", "--port=80", "--target-port=8080"]);
    platform.is("Ready", "strict", "pod/careful");
    calls_go_out(platform);
    calls_come_in(platform);
    a_way_past_the_sidecar_is_seen(platform);
    kubectl.run(&["delete", "namespace", "strict", "--timeout=60s"]);
    kubectl.run(&["delete", "fapipolicy", "payments", "-n", "bank"]);
}

fn careful(kubectl: &Kubectl, interception: &str) -> Result<String, String> {
    let annotations = json!({"fapi-mesh.dev/inject": "enabled", "fapi-mesh.dev/interception": interception});
    let mut pod: Value = serde_json::from_str(&caller("careful", "strict", "payments.bank", &annotations)).unwrap();
    pod["metadata"]["labels"] = json!({"app": "careful"});
    // In this mode the app listens where only its sidecar is.
    pod["spec"]["containers"][0]["args"][2] = "--listen=127.0.0.1:8080".into();
    pod["spec"]["containers"][0]["securityContext"] = json!({
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true, "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    kubectl.apply(&pod.to_string())
}

fn calls_go_out(platform: &Platform) {
    let app = Forward::start(platform.kubectl(), "strict", "pod/careful", 8080);
    // Its sidecar shows who it is, and nobody gave it a token.
    wait_for("a call by proxy to be refused", 30, || ends_with(app.address(), 401));
    platform.told("payments", &[("reason", "token_missing"), ("caller", CAREFUL)]);

    may_call(platform, ("strict", "payments", "bank"), "{serviceAccountName: shop}, {namespace: strict}");
    let said = wait_for("a call by proxy with a token", 30, || ends_with(app.address(), 200));
    assert_eq!(said["answer"]["told"]["caller"], CAREFUL, "{said}");
}

/// From a pod of the mesh, without a token and with one, and from one that is not of the mesh.
fn calls_come_in(platform: &Platform) {
    let kubectl = platform.kubectl();
    let meshed = json!({"fapi-mesh.dev/inject": "enabled"});
    kubectl.apply(&caller("visitor", "outside", "careful.strict", &meshed)).unwrap();
    platform.is("Ready", "outside", "pod/visitor");
    let visitor = Forward::start(kubectl, "outside", "pod/visitor", 8080);
    wait_for("a neighbour without a token to be refused", 30, || ends_with(visitor.address(), 401));
    let refused = |reason: &str| {
        let log = platform.log("strict", "pod/careful", "fapi-sidecar");
        log.iter().any(|line| line["reason"] == reason).then_some(())
    };
    wait_for("the sidecar to say so", 20, || refused("token_missing"));

    may_call(platform, ("outside", "careful", "strict"), "{namespace: outside}");
    let said = wait_for("the neighbour to be let in", 30, || ends_with(visitor.address(), 200));
    assert_eq!(said["answer"]["told"]["caller"], "spiffe://bank.example/ns/outside/sa/default", "{said}");
    kubectl.run(&["delete", "fapiclient", "default", "-n", "outside"]);
    kubectl.run(&["delete", "pod", "visitor", "-n", "outside"]);

    let pod = kubectl.get(&["pod", "careful", "-n", "strict"]);
    let at = format!("{}:8080", pod["status"]["podIP"].as_str().unwrap());
    for scheme in ["http", "https"] {
        assert_eq!(curl(None, &["-d", "{}", &format!("{scheme}://{at}/transfers")]), "", "without a certificate");
    }
    wait_for("the sidecar to say so", 20, || refused("plaintext_not_allowed"));
}

/// A process of the pod listens where its neighbours reach it.
fn a_way_past_the_sidecar_is_seen(platform: &Platform) {
    let kubectl = platform.kubectl();
    let pod = || kubectl.get(&["pod", "careful", "-n", "strict"]);
    let mut careless = command_in(&pod(), program("fapictl"));
    let careless = Running::start(careless.args(["app", "--name=careless", "--listen=0.0.0.0:9090"]));
    kubectl.run(&["wait", "--for=condition=Ready=False", "-n", "strict", "pod/careful", "--timeout=60s"]);
    let said = curl(None, &[&format!("http://{}:15020/readyz", pod()["status"]["podIP"].as_str().unwrap())]);
    assert!(said.contains("InboundBypass") && said.contains("0.0.0.0:9090"), "{said}");
    wait_for("an Event of the pod", 30, || {
        let failed = |event: &Value| event["note"].as_str().is_some_and(|note| note.contains("Readiness probe failed"));
        events(kubectl, "strict", "Unhealthy").iter().any(failed).then_some(())
    });
    wait_for("nobody to be sent there", 30, || {
        let slices = kubectl.get(&["endpointslices", "-n", "strict", "-l", "kubernetes.io/service-name=careful"]);
        (slices["items"][0]["endpoints"][0]["conditions"]["ready"] == false).then_some(())
    });
    drop(careless);
    platform.is("Ready", "strict", "pod/careful");
}

/// Lets the service account `default` of a namespace call a Service of another: its side asks, the called side names these callers.
fn may_call(platform: &Platform, (from, service, of): (&str, &str, &str), callers: &str) {
    let documents = format!(
        "apiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiPolicy\nmetadata: {{name: {service}, namespace: {of}}}\n\
         spec:\n  targetRefs: [{{name: {service}}}]\n  rules: [{{callers: [{callers}]}}]\n---\n\
         apiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiClient\nmetadata: {{name: default, namespace: {from}}}\n\
         spec:\n  serviceAccountName: default\n  targets: [{{serviceName: {service}, namespace: {of}}}]\n"
    );
    platform.kubectl().apply(&documents).unwrap();
    platform.is("Ready", from, "fapiclient/default");
}
