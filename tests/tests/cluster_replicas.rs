//! Several operators of one cluster: they serve alike, one writes, and when it dies another takes over.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use e2e::cluster::{Kubectl, Operator, Operators, tell_of_webhooks};
use e2e::{Running, get, program, wait_for};
use serde_json::{Value, json};

/// The issuer as all of them name it. Nobody dials it here.
const ISSUER: &str = "https://127.0.0.1:8443";

const OBJECTS: &str = "apiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiClient\nmetadata: {name: shop, namespace: bank}\n\
    spec: {serviceAccountName: shop, targets: [{serviceName: ledger}]}\n---\n\
    apiVersion: v1\nkind: Service\nmetadata: {name: ledger, namespace: bank}\n\
    spec: {selector: {app: ledger}, ports: [{name: http, port: 80, targetPort: 8080}]}\n";

/// The endpoints of a Service.
type Backends = Arc<Mutex<Vec<SocketAddr>>>;

/// A Service before operators: a connection goes to the first that takes it.
fn service(backends: Backends) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let backends = backends.lock().unwrap().clone();
            let Some(server) = backends.iter().find_map(|backend| TcpStream::connect(backend).ok()) else { continue };
            for (mut from, mut to) in [
                (client.try_clone().unwrap(), server.try_clone().unwrap()),
                (server.try_clone().unwrap(), client.try_clone().unwrap()),
            ] {
                thread::spawn(move || {
                    let mut bytes = [0; 16 * 1024];
                    while let Ok(count @ 1..) = from.read(&mut bytes) {
                        if to.write_all(&bytes[..count]).is_err() {
                            break;
                        }
                    }
                    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                });
            }
        }
    });
    address
}

fn holder(kubectl: &Kubectl) -> Option<String> {
    let lease = kubectl.attempt(&["get", "lease", "fapi-operator", "-n", "fapi-mesh", "-o", "json"]).ok()?;
    let lease: Value = serde_json::from_str(&lease).unwrap();
    let holder = lease["spec"]["holderIdentity"].as_str()?;
    Some(holder.split_once('_')?.0.to_owned())
}

fn pod(kubectl: &Kubectl, name: &str, account: &str) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "bank", "labels": {"app": account}},
        "spec": {
            "serviceAccountName": account,
            "initContainers": [{"name": "fapi-sidecar", "image": "sidecar", "restartPolicy": "Always"}],
            "containers": [{"name": "app", "image": "app"}],
        },
    });
    kubectl.apply(&pod.to_string()).unwrap();
}

fn workload_token(kubectl: &Kubectl, pod: &str) -> String {
    let name = format!("--bound-object-name={pod}");
    let args = ["create", "token", "shop", "-n", "bank", "--audience=fapi-mesh.dev", "--bound-object-kind=Pod", &name];
    kubectl.run(&args).trim().to_owned()
}

fn fapictl(args: &[&str]) -> Result<String, String> {
    let output = Command::new(program("fapictl")).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// Starts an operator; where its issuer is really.
fn start(operators: &Operators, name: &str) -> (Operator, SocketAddr) {
    let issuer = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let operator = operators.start(name, &["--issuer-url", ISSUER, "--issuer-listen", &issuer.to_string()]);
    (operator, issuer)
}

/// Enrols a pod at one operator; the folder of its certificate.
fn enrol(operators: &Operators, at: &Operator, pod: &str) -> PathBuf {
    let (kubectl, state) = (operators.kubectl(), operators.folder().join(format!("{pod}-state")));
    fs::create_dir_all(state.join("tokens/bank")).unwrap();
    let address = |which| at.address(which).unwrap().to_string();
    let addresses = json!({
        "control": address("control"), "issuer": ISSUER, "admin": address("admin"), "trust_domain": "cluster.local",
    });
    fs::write(state.join("addresses.json"), addresses.to_string()).unwrap();
    fs::copy(operators.folder().join("root.pem"), state.join("trust-bundle.pem")).unwrap();
    fs::write(state.join(format!("tokens/bank/{pod}.jwt")), workload_token(kubectl, pod)).unwrap();
    let (out, workload) = (operators.folder().join(pod), format!("bank/{pod}"));
    let (state, folder) = (state.display().to_string(), out.display().to_string());
    fapictl(&["identity", "--state", &state, "--workload", &workload, "--out", &folder]).unwrap();
    out
}

/// Posts a form to one operator's issuer, as a pod.
fn ask(identity: &Path, issuer: SocketAddr, path: &str, form: &[&str]) -> Value {
    let mut command = Command::new("curl");
    // It cannot check a server by its SPIFFE ID.
    command.args(["-sk", "--max-time", "20", &format!("https://{issuer}{path}")]);
    command.arg("--cert").arg(identity.join("chain.pem")).arg("--key").arg(identity.join("key.pem"));
    for field in form.iter().chain(&["client_id=spiffe://cluster.local/ns/bank/sa/shop"]) {
        command.args(["--data-urlencode", field]);
    }
    let output = command.output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn token(identity: &Path, issuer: SocketAddr) -> String {
    let form = ["grant_type=client_credentials", "resource=https://ledger.bank"];
    let answer = ask(identity, issuer, "/token", &form);
    answer["access_token"].as_str().unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
}

fn is_active(identity: &Path, issuer: SocketAddr, token: &str) -> bool {
    let answer = ask(identity, issuer, "/introspect", &[&format!("token={token}")]);
    answer["active"].as_bool().unwrap_or_else(|| panic!("no answer: {answer}"))
}

/// A sidecar, which finds operators by a Service.
struct Sidecar {
    admin: SocketAddr,
    _process: Running,
}

impl Sidecar {
    fn start(operators: &Operators, control: SocketAddr, pod: &str) -> Self {
        let (folder, token) = (operators.folder(), operators.folder().join("sidecar.jwt"));
        fs::write(&token, workload_token(operators.kubectl(), pod)).unwrap();
        let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(program("fapi-sidecar"));
        command.args(["--control", &control.to_string(), "--admin-listen", &admin.to_string()]);
        command.args(["--trust-domain", "cluster.local", "--trust-bundle"]).arg(folder.join("root.pem"));
        command.arg("--token-file").arg(&token);
        command.stdout(Stdio::null()).stderr(fs::File::create(folder.join("sidecar.log")).unwrap());
        Self { admin, _process: Running::start(&mut command) }
    }

    /// A number of its metrics.
    fn metric(&self, name: &str) -> Option<u64> {
        let metrics = get(self.admin, "/metrics").ok()?.body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.trim().parse().ok()
    }
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn replicas_serve_alike_and_one_that_lives_takes_over() {
    let operators = Operators::new("replicas");
    let kubectl = operators.kubectl();
    for account in ["ledger", "shop"] {
        kubectl.run(&["create", "serviceaccount", account, "-n", "bank"]);
    }
    wait_for("the API server to serve our kinds", 30, || kubectl.apply(OBJECTS).ok());
    for name in ["shop-1", "shop-2", "shop-3", "shop-4"] {
        pod(kubectl, name, "shop");
    }
    // Tokens are for what may be called.
    pod(kubectl, "ledger-1", "ledger");
    let runs = json!({"status": {"phase": "Running", "podIP": "10.1.1.2", "podIPs": [{"ip": "10.1.1.2"}]}}).to_string();
    kubectl.run(&["patch", "pod", "ledger-1", "-n", "bank", "--subresource=status", "-p", &runs]);
    // The second one comes when things have happened that the first has heard of one by one.
    let (mut first, issuer_of_first) = start(&operators, "first");
    wait_for("the Lease", 30, || holder(kubectl).filter(|holder| holder == "first"));
    let roots = wait_for("the roots", 30, || {
        let found =
            kubectl.attempt(&["get", "configmap", "fapi-mesh-trust-bundle", "-n", "bank", "-o", "json"]).ok()?;
        serde_json::from_str::<Value>(&found).unwrap()["data"]["root.pem"].as_str().map(str::to_owned)
    });
    fs::write(operators.folder().join("root.pem"), roots).unwrap();
    let (mut second, issuer_of_second) = start(&operators, "second");
    assert_eq!(holder(kubectl).as_deref(), Some("first"), "it is not taken from one that lives");

    // Who was enrolled by one is known to the other, and so are its tokens and what becomes of them.
    let (one, other) = (enrol(&operators, &first, "shop-1"), enrol(&operators, &second, "shop-2"));
    for (identity, issuer, elsewhere) in
        [(&one, issuer_of_second, issuer_of_first), (&other, issuer_of_first, issuer_of_second)]
    {
        let token = token(identity, issuer);
        assert!(is_active(identity, issuer, &token) && is_active(identity, elsewhere, &token));
        ask(identity, issuer, "/revoke", &[&format!("token={token}")]);
        assert!(!is_active(identity, issuer, &token));
        wait_for("the other operator to hear of it", 30, || (!is_active(identity, elsewhere, &token)).then_some(()));
    }

    // A sidecar has what the second one knew, which is younger and so has newer versions of everything.
    let control = |operator: &Operator| operator.address("control").unwrap();
    let backends = Backends::new(Mutex::new(vec![control(&second), control(&first)]));
    let sidecar = Sidecar::start(&operators, service(backends.clone()), "shop-3");
    let applied = || sidecar.metric("fapi_snapshot_order").filter(|order| *order > 0);
    let at_first = wait_for("a snapshot", 60, applied);
    second.process().kill();
    // The first one catches up, and what it says then is taken.
    let change = |constraint: &str| {
        let target = json!({"serviceName": "ledger", "senderConstraint": constraint});
        let change = json!({"spec": {"targets": [target]}}).to_string();
        kubectl.run(&["patch", "fapiclient", "shop", "-n", "bank", "--type=merge", "-p", &change]);
        wait_for("a status of this change", 60, || {
            let client = kubectl.get(&["fapiclient", "shop", "-n", "bank"]);
            let of_now = client["status"]["conditions"][0]["observedGeneration"] == client["metadata"]["generation"];
            of_now.then_some(())
        });
    };
    change("DPoP");
    let after = wait_for("a newer snapshot of the first one", 90, || applied().filter(|order| *order > at_first));

    // The one that writes dies, and another takes over: Lease, statuses, sidecars, enrolment.
    let (third, _) = start(&operators, "third");
    backends.lock().unwrap().push(control(&third));
    assert_eq!(holder(kubectl).as_deref(), Some("first"));
    first.process().kill();
    change("MTLS");
    assert_eq!(holder(kubectl).as_deref(), Some("third"));
    wait_for("a newer snapshot of the third one", 90, || applied().filter(|order| *order > after));
    enrol(&operators, &third, "shop-4");

    // One that ends in order lets the Lease go at once.
    let (fourth, _) = start(&operators, "fourth");
    third.end();
    wait_for("the Lease that was let go", 10, || holder(kubectl).filter(|holder| holder == "fourth"));
    fourth.end();
}

/// Whether whoever listens there is a webhook that API servers with this bundle trust.
fn is_trusted(folder: &Path, bundle: &str, port: u16) -> bool {
    let file = folder.join("webhook.pem");
    fs::write(&file, bundle).unwrap();
    let mut command = Command::new("curl");
    command.args(["-s", "--max-time", "10", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"]).arg(file);
    command.args(["--connect-to", &format!("::127.0.0.1:{port}"), "https://fapi-operator.fapi-mesh.svc/inject"]);
    let output = command.output().unwrap();
    output.stdout == b"405"
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn replicas_serve_webhooks_that_api_servers_trust_alike() {
    let operators = Operators::new("replicas-webhooks");
    let kubectl = operators.kubectl();
    let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
    tell_of_webhooks(kubectl, ports[0]);
    kubectl.run(&["create", "serviceaccount", "shop", "-n", "bank"]);
    let start = |name: &str, port: u16| {
        let listen = format!("127.0.0.1:{port}");
        let image = ["--sidecar-image", "fapi-sidecar:test", "--sidecar-control", "fapi-operator.fapi-mesh.svc:15010"];
        operators.start(name, &[&["--webhook-listen", &listen][..], &image].concat())
    };
    let bundle = || {
        let template = "-o=go-template={{(index .webhooks 0).clientConfig.caBundle | base64decode}}";
        let bundle = kubectl.attempt(&["get", "mutatingwebhookconfiguration", "fapi-operator", template]).ok()?;
        bundle.starts_with("-----BEGIN").then_some(bundle)
    };
    let first = start("first", ports[0]);
    let trusted = wait_for("the API server to be told of the webhooks", 60, bundle);
    let second = start("second", ports[1]);
    for port in ports {
        wait_for("a webhook", 30, || is_trusted(operators.folder(), &trusted, port).then_some(()));
    }
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "shop", "namespace": "bank"},
        "spec": {"serviceAccountName": "shop", "containers": [{"name": "app", "image": "app"}]},
    });
    let made = wait_for("a pod with a sidecar", 30, || {
        let args = ["create", "--dry-run=server", "-o", "json", "-f", "-"];
        kubectl.with_input(&args, &pod.to_string()).ok()
    });
    assert!(made.contains("fapi-sidecar:test"), "{made}");
    // One that begins when the first is gone has the same authority.
    first.end();
    let third = start("third", ports[0]);
    wait_for("a webhook", 30, || is_trusted(operators.folder(), &trusted, ports[0]).then_some(()));
    assert_eq!(bundle().as_deref(), Some(&*trusted));
    second.end();
    third.end();
}
