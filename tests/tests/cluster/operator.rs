//! The operator with a cluster as its source, before a real API server that lets it do what the manual says and no more.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use e2e::cluster::{Kubectl, Operator, Operators, events, told};
use e2e::{Running, program, wait_for};
use serde_json::{Value, json};

const SECRETS: [&str; 3] = ["fapi-mesh-ca", "fapi-mesh-issuer", "fapi-mesh-revocations"];

fn secret(kubectl: &Kubectl, name: &str) -> Value {
    kubectl.get(&["secret", name, "-n", "fapi-mesh"])
}

fn roots(kubectl: &Kubectl, namespace: &str) -> Option<String> {
    let found = kubectl.attempt(&["get", "configmap", "fapi-mesh-trust-bundle", "-n", namespace, "-o", "json"]).ok()?;
    let found: Value = serde_json::from_str(&found).unwrap();
    found["data"]["root.pem"].as_str().map(str::to_owned)
}

/// What an object says of itself.
fn condition(object: &Value, kind: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array();
    conditions.and_then(|all| all.iter().find(|one| one["type"] == kind)).cloned().unwrap_or_default()
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn keys_stand_in_secrets_and_a_lost_one_stops_the_next_start() {
    let operators = Operators::new("operator-keys");
    let kubectl = operators.kubectl();
    operators.start("operator-a", &[]).end();
    let made = SECRETS.map(|name| secret(kubectl, name));
    let documents = |secret: &Value| secret["data"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(documents(&made[0]), ["fingerprint", "issuing.key", "issuing.pem", "root.key", "root.pem"]);
    assert_eq!(documents(&made[1]), ["assertions.json", "keys.json", "nonces.json"]);
    assert_eq!(documents(&made[2]), ["revocations.json"]);
    let recorded = kubectl.get(&["configmap", "fapi-mesh-state", "-n", "fapi-mesh"]);
    assert_eq!(recorded["data"]["trust-domain"], "cluster.local");

    // The next one has the same, and writes none of it.
    operators.start("operator-b", &[]).end();
    assert_eq!(SECRETS.map(|name| secret(kubectl, name)), made);

    for (lost, name) in made.iter().zip(SECRETS) {
        kubectl.run(&["delete", "secret", name, "-n", "fapi-mesh"]);
        let mut refused = operators.launch("operator-c", &[]);
        assert!(!refused.process().wait(60).success());
        let said = refused.said();
        for part in [name, "restore it from a backup", "ConfigMap fapi-mesh/fapi-mesh-state"] {
            assert!(said.contains(part), "{said}");
        }
        assert!(kubectl.attempt(&["get", "secret", name, "-n", "fapi-mesh"]).is_err(), "it is not made anew");
        let mut backup = lost.clone();
        backup["metadata"] = json!({"name": name, "namespace": "fapi-mesh"});
        kubectl.apply(&backup.to_string()).unwrap();
    }
    operators.start("operator-d", &[]).end();
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn roots_come_back_where_they_are_needed_and_go_where_they_are_not() {
    let operators = Operators::new("operator-roots");
    let kubectl = operators.kubectl();
    let operator = operators.start("operator", &[]);
    let right = wait_for("the roots", 30, || roots(kubectl, "bank"));
    assert!(right.starts_with("-----BEGIN CERTIFICATE-----"), "{right}");
    let back = || wait_for("the roots to come back", 30, || roots(kubectl, "bank").filter(|found| *found == right));
    let forged = json!({"data": {"root.pem": "forged"}}).to_string();
    kubectl.run(&["patch", "configmap", "fapi-mesh-trust-bundle", "-n", "bank", "--type=merge", "-p", &forged]);
    back();
    kubectl.run(&["delete", "configmap", "fapi-mesh-trust-bundle", "-n", "bank"]);
    back();
    let for_good = json!({"immutable": true, "data": {"root.pem": "forged"}}).to_string();
    kubectl.run(&["patch", "configmap", "fapi-mesh-trust-bundle", "-n", "bank", "--type=merge", "-p", &for_good]);
    back();
    assert_eq!(roots(kubectl, "web"), None, "nobody there asked");
    kubectl.run(&["label", "namespace", "web", "fapi-mesh.dev/inject=enabled"]);
    wait_for("the roots of a namespace that asks", 30, || roots(kubectl, "web"));
    kubectl.run(&["label", "namespace", "web", "fapi-mesh.dev/inject-"]);
    wait_for("the roots to go", 30, || roots(kubectl, "web").is_none().then_some(()));
    operator.end();
}

/// A client, a policy of which the target is there, and an issuer that nobody uses.
const OBJECTS: &str = "apiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiClient\nmetadata: {name: shop, namespace: bank}\n\
    spec: {serviceAccountName: shop, targets: [{serviceName: ledger}]}\n---\n\
    apiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiPolicy\nmetadata: {name: ledger, namespace: bank}\n\
    spec: {targetRefs: [{name: ledger}]}\n---\n\
    apiVersion: v1\nkind: Service\nmetadata: {name: ledger, namespace: bank}\n\
    spec: {selector: {app: ledger}, ports: [{name: http, port: 80, targetPort: 8080}]}\n---\n\
    apiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiIssuer\nmetadata: {name: bank-as}\n\
    spec: {issuer: https://login.bank.example, allow: [{namespace: bank, audiences: [\"https://api.bank.example\"]}]}\n";

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn objects_say_what_became_of_them_and_nothing_is_written_while_nothing_changes() {
    let mut operators = Operators::new("operator-status");
    let operator = operators.start("operator", &[]);
    let kubectl = operators.kubectl().clone();
    kubectl.apply(OBJECTS).unwrap();
    let told = |kind: &str, name: &str| {
        wait_for("a status of this generation", 30, || {
            let object = kubectl.get(&[kind, name, "-n", "bank"]);
            let ready = condition(&object, "Ready");
            (ready["observedGeneration"] == object["metadata"]["generation"]).then_some(object)
        })
    };
    let client = told("fapiclient", "shop");
    assert_eq!(client["status"]["clientId"], "spiffe://cluster.local/ns/bank/sa/shop");
    told("fapiissuer", "bank-as");
    // The operator may have heard of the policy before it heard of the Service.
    let policy = wait_for("a policy that has its target", 30, || {
        let policy = told("fapipolicy", "ledger");
        let of_the_target = policy["status"]["ancestors"][0]["conditions"].as_array()?;
        let accepted = of_the_target.iter().find(|one| one["type"] == "Accepted")?;
        (accepted["status"] == "True" && accepted["observedGeneration"] == 1).then_some(policy)
    });
    assert_eq!(condition(&policy, "Ready")["status"], "False", "there are no pods");

    let rename = json!({"spec": {"targetRefs": [{"name": "nobody"}]}}).to_string();
    kubectl.run(&["patch", "fapipolicy", "ledger", "-n", "bank", "--type=merge", "-p", &rename]);
    let policy = told("fapipolicy", "ledger");
    assert_eq!(policy["metadata"]["generation"], 2);

    let quiet = settle(&kubectl);
    // What is known of the policy came after the first status of the client.
    let right = kubectl.get(&["fapiclient", "shop", "-n", "bank"])["status"].clone();
    // An edit of a status by somebody else does not stay.
    let forged = json!({"status": {"clientId": "forged"}}).to_string();
    kubectl.run(&["patch", "fapiclient", "shop", "-n", "bank", "--subresource=status", "--type=merge", "-p", &forged]);
    wait_for("the status to be right again", 30, || {
        (kubectl.get(&["fapiclient", "shop", "-n", "bank"])["status"] == right).then_some(())
    });
    assert!(settle(&kubectl) > quiet, "a write is counted");

    // Watches that break and begin again change nothing.
    let before = versions(&kubectl);
    operators.server().restart();
    renewals(operators.kubectl(), 3);
    assert_eq!(versions(&kubectl), before);
    operator.end();
}

/// How often something was written, once that has not changed for three renewals of the Lease.
fn settle(kubectl: &Kubectl) -> u64 {
    wait_for("writes to end", 120, || {
        let before = writes(kubectl);
        renewals(kubectl, 3);
        (writes(kubectl) == before).then_some(before)
    })
}

/// The writes that the API server has answered about what the operator may write, but for the Lease.
fn writes(kubectl: &Kubectl) -> u64 {
    let metrics = kubectl.run(&["get", "--raw", "/metrics"]);
    let ours =
        ["configmaps", "events", "secrets", "fapiclients", "fapiissuers", "fapimeshes", "fapipolicies", "revocations"];
    let counts = metrics.lines().filter(|line| {
        line.starts_with("apiserver_request_total{")
            && ours.iter().any(|resource| line.contains(&format!("resource=\"{resource}\"")))
            && ["APPLY", "DELETE", "PATCH", "POST", "PUT"].iter().any(|verb| line.contains(&format!("verb=\"{verb}\"")))
    });
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Waits until the Lease has been renewed so often.
fn renewals(kubectl: &Kubectl, count: usize) {
    let renewed =
        || kubectl.attempt(&["get", "lease", "fapi-operator", "-n", "fapi-mesh", "-o=jsonpath={.spec.renewTime}"]);
    for _ in 0..count {
        let before = wait_for("the Lease", 30, || renewed().ok());
        wait_for("the Lease to be renewed", 30, || renewed().ok().filter(|after| *after != before));
    }
}

/// The version of everything that the operator may write, but for the Lease.
fn versions(kubectl: &Kubectl) -> Vec<(String, String)> {
    let kinds = "secrets,configmaps,fapiclients,fapipolicies,fapimeshes,fapiissuers,revocations";
    let all = kubectl.get(&[kinds, "-A"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let objects = all["items"].as_array().unwrap().iter();
    let ours = objects.filter(|object| object["metadata"]["namespace"] != "kube-system");
    ours.map(|object| (text(&object["metadata"]["uid"]), text(&object["metadata"]["resourceVersion"]))).collect()
}

/// Pods of the service account `shop` in `bank`, and sidecars with their tokens.
struct Pods<'a> {
    operators: &'a Operators,
    operator: Operator,
}

impl<'a> Pods<'a> {
    fn new(operators: &'a Operators) -> Self {
        let kubectl = operators.kubectl();
        kubectl.run(&["create", "serviceaccount", "shop", "-n", "bank"]);
        let operator = operators.start("operator", &[]);
        let roots = wait_for("the roots", 30, || roots(kubectl, "bank"));
        fs::write(operators.folder().join("root.pem"), roots).unwrap();
        Self { operators, operator }
    }

    fn make(&self, name: &str) {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "bank"},
            "spec": {
                "serviceAccountName": "shop",
                "initContainers": [{"name": "fapi-sidecar", "image": "sidecar", "restartPolicy": "Always"}],
                "containers": [{"name": "app", "image": "app"}],
            },
        });
        self.operators.kubectl().apply(&pod.to_string()).unwrap();
    }

    fn delete(&self, name: &str) {
        self.operators.kubectl().run(&["delete", "pod", name, "-n", "bank", "--grace-period=0", "--force"]);
    }

    /// A token as the kubelet asks for one.
    fn token(&self, pod: Option<&str>, audience: &str) -> String {
        let of_pod = pod.map(|pod| ["--bound-object-kind=Pod".to_owned(), format!("--bound-object-name={pod}")]);
        let of_pod: Vec<&str> = of_pod.iter().flatten().map(String::as_str).collect();
        let args = ["create", "token", "shop", "-n", "bank", "--audience", audience];
        self.operators.kubectl().run(&[&args[..], &of_pod].concat()).trim().to_owned()
    }

    /// Starts a sidecar; its token is in the file.
    fn sidecar(&self, name: &str, token: &str) -> (Running, PathBuf) {
        let folder = self.operators.folder();
        let (file, log) = (folder.join(format!("{name}.jwt")), folder.join(format!("{name}.log")));
        fs::write(&file, token).unwrap();
        let mut command = Command::new(program("fapi-sidecar"));
        command.args(["--control", &self.operator.address("control").unwrap().to_string()]);
        command.args(["--trust-domain", "cluster.local", "--trust-bundle"]).arg(folder.join("root.pem"));
        command.arg("--token-file").arg(&file);
        command.stdout(Stdio::null()).stderr(fs::File::create(log).unwrap());
        (Running::start(&mut command), file)
    }

    /// Waits until an enrolment has come to this.
    fn wait(&self, what: &[(&str, &str)]) {
        wait_for(&format!("an enrolment with {what:?}"), 30, || {
            let lines = self.operator.lines().into_iter();
            lines
                .filter(|line| line["event"] == "enrolment")
                .find(|line| what.iter().all(|(field, value)| line[field] == *value))
        });
    }
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn pods_enrol_with_tokens_that_the_api_server_vouches_for_and_nobody_else_does() {
    let operators = Operators::new("operator-enrol");
    let mut pods = Pods::new(&operators);
    for name in ["shop-1", "shop-2", "shop-3"] {
        pods.make(name);
    }
    let good = "fapi-mesh.dev";
    let (sidecar, file) = pods.sidecar("good", &pods.token(Some("shop-1"), good));
    pods.wait(&[("outcome", "issued"), ("kind", "first"), ("pod", "shop-1"), ("service_account", "shop")]);

    let gone = pods.token(Some("shop-3"), good);
    pods.delete("shop-3");
    for (name, token, reason) in [
        (
            "audience",
            pods.token(Some("shop-2"), "https://kubernetes.default.svc.cluster.local"),
            "token_audience_mismatch",
        ),
        ("no-pod", pods.token(None, good), "token_malformed"),
        ("gone", gone, "token_not_authenticated"),
    ] {
        let refused = pods.sidecar(name, &token);
        pods.wait(&[("outcome", "refused"), ("reason", reason)]);
        drop(refused);
    }

    // With a certificate of one pod and the token of another nothing is renewed.
    fs::write(&file, pods.token(Some("shop-2"), good)).unwrap();
    pods.operator.process().hang_up();
    pods.wait(&[("kind", "renewal"), ("outcome", "refused"), ("reason", "certificate_of_other_pod")]);
    fs::write(&file, pods.token(Some("shop-1"), good)).unwrap();
    pods.wait(&[("kind", "renewal"), ("outcome", "issued"), ("pod", "shop-1")]);
    drop(sidecar);
    pods.operator.end();
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn pods_and_documents_are_told_what_is_wrong_with_them() {
    let operators = Operators::new("operator-events");
    let (kubectl, mut pods) = (operators.kubectl(), Pods::new(&operators));
    pods.make("shop-1");
    pods.make("shop-2");
    let good = "fapi-mesh.dev";
    let (first, _) = pods.sidecar("first", &pods.token(Some("shop-1"), good));
    pods.wait(&[("outcome", "issued"), ("pod", "shop-1")]);
    drop(first);
    let (sidecar, file) = pods.sidecar("again", &pods.token(Some("shop-1"), good));
    pods.wait(&[("outcome", "repeated"), ("pod", "shop-1")]);
    let event = told(kubectl, "bank", ["Pod", "shop-1"], "EnrolmentRepeated");
    assert_eq!((&event["type"], &event["reportingController"]), (&json!("Warning"), &json!("fapi-mesh.dev/operator")));
    let described = kubectl.run(&["describe", "pod", "shop-1", "-n", "bank"]);
    assert!(described.contains("EnrolmentRepeated"), "{described}");

    let (stranger, _) = pods.sidecar("nobody", &pods.token(None, good));
    pods.wait(&[("outcome", "refused"), ("reason", "token_malformed")]);
    drop(stranger);
    fs::write(&file, pods.token(Some("shop-2"), good)).unwrap();
    pods.operator.process().hang_up();
    pods.wait(&[("kind", "renewal"), ("outcome", "refused"), ("reason", "certificate_of_other_pod")]);
    drop(sidecar);
    let refused = told(kubectl, "bank", ["Pod", "shop-2"], "EnrolmentRefused");
    assert!(refused["note"].as_str().unwrap().contains("(certificate_of_other_pod)"), "{refused}");
    assert_eq!(events(kubectl, "bank", "EnrolmentRefused").len(), 1, "whose token nobody believes is not told");

    // The schema takes this key, and it is on no curve. Nobody asked the webhook.
    let key = json!({"kid": "a", "kty": "EC", "crv": "P-256", "x": "A".repeat(43), "y": "A".repeat(43)});
    let client = json!({
        "apiVersion": "fapi-mesh.dev/v1alpha1", "kind": "FapiClient",
        "metadata": {"name": "batch", "namespace": "bank"},
        "spec": {
            "serviceAccountName": "batch", "targets": [{"serviceName": "ledger"}],
            "authentication": {"method": "PrivateKeyJWT", "jwks": {"keys": [key]}},
        },
    });
    kubectl.apply(&client.to_string()).unwrap();
    let event = told(kubectl, "bank", ["FapiClient", "batch"], "NotInForce");
    assert!(event["note"].as_str().unwrap().contains("spec.authentication.jwks"), "{event}");

    // The same again is one Event, which tells a minute later how often it was.
    let (thrice, _) = pods.sidecar("thrice", &pods.token(Some("shop-1"), good));
    wait_for("the Event to say how often", 120, || {
        let repeated = events(kubectl, "bank", "EnrolmentRepeated");
        assert_eq!(repeated.len(), 1, "{repeated:?}");
        (repeated[0]["series"]["count"].as_u64() >= Some(2)).then_some(())
    });
    drop(thrice);
    // While nothing happens, nothing is told.
    settle(kubectl);
    pods.operator.end();
}
