//! Several operators of one cluster: they serve alike, one writes, and when it dies another takes over.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use e2e::cluster::{Kubectl, Operator, Operators, tell_of_webhooks};
use e2e::{Running, fapictl, free_port, program, wait_for};
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
        "metadata": {
            "name": name, "namespace": "bank", "labels": {"app": account},
            "annotations": {"fapi-mesh.dev/interception": "proxy"},
        },
        "spec": {
            "serviceAccountName": account,
            "initContainers": [{"name": "fapi-sidecar", "image": "sidecar", "restartPolicy": "Always"}],
            "containers": [{"name": "app", "image": "app"}],
        },
    });
    kubectl.apply(&pod.to_string()).unwrap();
}

/// A pod runs, at this address.
fn runs(kubectl: &Kubectl, name: &str, address: &str) {
    let status = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}}).to_string();
    kubectl.run(&["patch", "pod", name, "-n", "bank", "--subresource=status", "-p", &status]);
}

fn workload_token(kubectl: &Kubectl, pod: &str) -> String {
    let name = format!("--bound-object-name={pod}");
    // The pods of a service account are numbered.
    let account = pod.split_once('-').map_or(pod, |(account, _)| account);
    let args = ["create", "token", account, "-n", "bank", "--audience=fapi-mesh.dev", "--bound-object-kind=Pod", &name];
    kubectl.run(&args).trim().to_owned()
}

/// Keeps the roots of the mesh in a file.
fn keep_roots(operators: &Operators) {
    let roots = wait_for("the roots", 30, || {
        let args = ["get", "configmap", "fapi-mesh-trust-bundle", "-n", "bank", "-o", "json"];
        let found = operators.kubectl().attempt(&args).ok()?;
        serde_json::from_str::<Value>(&found).unwrap()["data"]["root.pem"].as_str().map(str::to_owned)
    });
    fs::write(operators.folder().join("root.pem"), roots).unwrap();
}

/// Starts an operator; where its issuer is really.
fn start(operators: &Operators, name: &str) -> (Operator, SocketAddr) {
    let issuer = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
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

fn is_active(identity: &Path, issuer: SocketAddr, token: &str) -> Option<bool> {
    ask(identity, issuer, "/introspect", &[&format!("token={token}")])["active"].as_bool()
}

/// A pod gets its node.
fn is_placed(kubectl: &Kubectl, name: &str) {
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "namespace": "bank"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "node"},
    });
    let place = format!("/api/v1/namespaces/bank/pods/{name}/binding");
    kubectl.with_input(&["create", "--raw", &place, "-f", "-"], &binding.to_string()).unwrap();
}

/// A sidecar, which finds operators by a Service.
struct Sidecar {
    admin: SocketAddr,
    _process: Running,
}

impl Sidecar {
    fn start(operators: &Operators, control: SocketAddr, pod: &str) -> Self {
        let (folder, token) = (operators.folder(), operators.folder().join(format!("{pod}.jwt")));
        fs::write(&token, workload_token(operators.kubectl(), pod)).unwrap();
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut command = Command::new(program("fapi-sidecar"));
        command.args(["--control", &control.to_string(), "--admin-listen", &admin.to_string()]);
        command.args(["--trust-domain", "cluster.local", "--trust-bundle"]).arg(folder.join("root.pem"));
        command.arg("--token-file").arg(&token);
        command.stdout(Stdio::null()).stderr(fs::File::create(folder.join(format!("{pod}.log"))).unwrap());
        Self { admin, _process: Running::start(&mut command) }
    }

    /// A number of its metrics.
    fn metric(&self, name: &str) -> Option<u64> {
        e2e::metric(self.admin, name)
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
    kubectl.apply(OBJECTS).unwrap();
    for name in ["shop-1", "shop-2", "shop-3", "shop-4"] {
        pod(kubectl, name, "shop");
    }
    // Tokens are for what may be called.
    pod(kubectl, "ledger-1", "ledger");
    runs(kubectl, "ledger-1", "10.1.1.2");
    // The second one comes when things have happened that the first has heard of one by one.
    let (mut first, issuer_of_first) = start(&operators, "first");
    wait_for("the Lease", 30, || holder(kubectl).filter(|holder| holder == "first"));
    keep_roots(&operators);
    let (mut second, issuer_of_second) = start(&operators, "second");
    assert_eq!(holder(kubectl).as_deref(), Some("first"), "it is not taken from one that lives");

    // Who was enrolled by one is known to the other, and so are its tokens and what becomes of them.
    let (one, other) = (enrol(&operators, &first, "shop-1"), enrol(&operators, &second, "shop-2"));
    for (identity, issuer, elsewhere) in
        [(&one, issuer_of_second, issuer_of_first), (&other, issuer_of_first, issuer_of_second)]
    {
        let token = token(identity, issuer);
        assert_eq!([issuer, elsewhere].map(|issuer| is_active(identity, issuer, &token)), [Some(true); 2]);
        ask(identity, issuer, "/revoke", &[&format!("token={token}")]);
        assert_eq!(is_active(identity, issuer, &token), Some(false));
        wait_for("the other operator to hear of it", 30, || {
            is_active(identity, elsewhere, &token).filter(|active| !active)
        });
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
    wait_for("the Lease that was let go", 30, || holder(kubectl).filter(|holder| holder == "fourth"));
    fourth.end();
}

/// A number of an operator's metrics.
fn metric(operator: &Operator, name: &str) -> Option<u64> {
    e2e::metric(operator.address("admin")?, name)
}

/// How many keys of the sidecars of `shop` an operator publishes.
fn published(issuer: SocketAddr) -> Option<usize> {
    let mut command = Command::new("curl");
    command.args(["-sk", "--max-time", "10", &format!("https://{issuer}/clients/bank/shop/jwks")]);
    let keys: Value = serde_json::from_slice(&command.output().unwrap().stdout).ok()?;
    keys["keys"].as_array().map(Vec::len)
}

/// What a sidecar answers to a call with this certificate; nothing if it does not even shake hands.
fn answer(identity: &Path, sidecar: &str) -> Option<String> {
    let mut command = Command::new("curl");
    command.args(["-sk", "--max-time", "10", "-o", "/dev/null", "-w", "%{http_code}", &format!("https://{sidecar}/")]);
    command.arg("--cert").arg(identity.join("chain.pem")).arg("--key").arg(identity.join("key.pem"));
    let output = command.output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// Changes the policy of `ledger`, and waits until its status says that all its pods run the change.
fn change_and_see_it_run(kubectl: &Kubectl, mode: &str) {
    let change = json!({"spec": {"mode": mode}}).to_string();
    kubectl.run(&["patch", "fapipolicy", "ledger", "-n", "bank", "--type=merge", "-p", &change]);
    wait_for("all pods to run it, by the status", 90, || {
        let policy = kubectl.get(&["fapipolicy", "ledger", "-n", "bank"]);
        let conditions = policy["status"]["ancestors"][0]["conditions"].as_array()?;
        let programmed = conditions.iter().find(|condition| condition["type"] == "Programmed")?;
        let is_new = programmed["observedGeneration"] == policy["metadata"]["generation"];
        (is_new && programmed["message"].as_str()?.starts_with("2 of 2 pods run ")).then_some(())
    });
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn replicas_know_together_what_the_sidecars_of_each_say_and_what_is_revoked() {
    let operators = Operators::new("replicas-together");
    let kubectl = operators.kubectl();
    for account in ["ledger", "shop"] {
        kubectl.run(&["create", "serviceaccount", account, "-n", "bank"]);
    }
    let signs = OBJECTS
        .replace("serviceAccountName: shop", "serviceAccountName: shop, authentication: {method: PrivateKeyJWT}");
    let policy = "---\napiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiPolicy\nmetadata: {name: ledger, namespace: bank}\n\
        spec: {targetRefs: [{name: ledger}]}\n";
    kubectl.apply(&format!("{signs}{policy}")).unwrap();
    for name in ["ledger-1", "ledger-2", "shop-1", "shop-2", "shop-3"] {
        pod(kubectl, name, name.split_once('-').unwrap().0);
    }
    let listens = ["127.0.21.1", "127.0.21.2"];
    for (at, address) in listens.iter().enumerate() {
        runs(kubectl, &format!("ledger-{}", at + 1), address);
    }
    let (mut first, issuer_of_first) = start(&operators, "first");
    wait_for("the Lease", 30, || holder(kubectl).filter(|holder| holder == "first"));
    keep_roots(&operators);
    let (mut second, issuer_of_second) = start(&operators, "second");

    // Sidecars of both, spread over both.
    let control = |operator: &Operator| operator.address("control").unwrap();
    let at_first = Backends::new(Mutex::new(vec![control(&first), control(&second)]));
    let at_second = Backends::new(Mutex::new(vec![control(&second), control(&first)]));
    let (one, other) = (service(at_first.clone()), service(at_second.clone()));
    let placed = [("ledger-1", one), ("ledger-2", other), ("shop-1", one), ("shop-2", other)];
    let _sidecars = placed.map(|(pod, control)| Sidecar::start(&operators, control, pod));
    wait_for("one operator to report to the other", 60, || {
        metric(&first, "fapi_operator_replicas").filter(|count| *count == 1)
    });
    for operator in [&first, &second] {
        wait_for("two sidecars", 60, || {
            metric(operator, "fapi_operator_connected_sidecars").filter(|count| *count == 2)
        });
    }
    change_and_see_it_run(kubectl, "Audit");
    for issuer in [issuer_of_first, issuer_of_second] {
        wait_for("the keys of both sidecars", 30, || published(issuer).filter(|count| *count == 2));
    }

    // A rotation of the root hears of the sidecars of both.
    for (pod, _) in placed {
        is_placed(kubectl, pod);
    }
    kubectl.fapictl(&["rotate-root", "--name", "spring"]).unwrap();
    wait_for("all sidecars to trust both roots", 60, || {
        let status = kubectl.fapictl(&["status", "-A", "-o", "json"]).ok()?;
        let rotation = serde_json::from_str::<Value>(&status).unwrap()["rotation"].clone();
        assert_eq!(rotation["step"], "Prepared", "{rotation}");
        (rotation["sidecars"] == 4 && rotation["followed"] == 4).then_some(())
    });

    // What a person revokes counts at the pods of both.
    let stolen = enrol(&operators, &second, "shop-3");
    let sidecars = listens.map(|address| format!("{address}:8080"));
    for sidecar in &sidecars {
        wait_for("a sidecar to answer", 60, || answer(&stolen, sidecar));
    }
    let uid = kubectl.get(&["pod", "shop-3", "-n", "bank"])["metadata"]["uid"].as_str().unwrap().to_owned();
    let revocation = json!({
        "apiVersion": "fapi-mesh.dev/v1alpha1", "kind": "Revocation", "metadata": {"name": "stolen"},
        "spec": {"podUid": uid, "expires": "2126-01-01T00:00:00Z"},
    });
    kubectl.apply(&revocation.to_string()).unwrap();
    let refuse = || sidecars.iter().all(|sidecar| answer(&stolen, sidecar).is_none());
    wait_for("both sidecars to refuse it", 30, || refuse().then_some(()));
    wait_for("the status of the revocation", 60, || {
        let conditions = kubectl.get(&["revocation", "stolen"])["status"]["conditions"].clone();
        let mut ready = conditions.as_array()?.iter().filter(|condition| condition["type"] == "Ready");
        // The pod that is revoked does not have to say so.
        ready.any(|ready| ready["status"] == "True").then_some(())
    });
    let shorter = json!({"spec": {"expires": "2026-01-01T00:00:00Z"}}).to_string();
    let refused = kubectl.attempt(&["patch", "revocation", "stolen", "--type=merge", "-p", &shorter]).unwrap_err();
    assert!(refused.contains("cannot be changed or taken back"), "{refused}");
    kubectl.run(&["delete", "revocation", "stolen"]);

    // The one that holds the Lease dies: the other hears everything again.
    first.process().kill();
    wait_for("another holder", 60, || holder(kubectl).filter(|holder| holder == "second"));
    change_and_see_it_run(kubectl, "Enforce");
    // When both were replaced, nothing is forgotten.
    let (third, issuer_of_third) = start(&operators, "third");
    for backends in [&at_first, &at_second] {
        backends.lock().unwrap().push(control(&third));
    }
    second.process().kill();
    wait_for("another holder", 60, || holder(kubectl).filter(|holder| holder == "third"));
    assert_eq!(metric(&third, "fapi_operator_revocations"), Some(1));
    change_and_see_it_run(kubectl, "Audit");
    wait_for("the keys of both sidecars", 30, || published(issuer_of_third).filter(|count| *count == 2));
    assert!(refuse(), "the object is gone, and what it revoked stays revoked");
    third.end();
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
    let ports = [(); 2].map(|()| free_port());
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
