//! Two pods as a cluster would have them: network namespaces of their own, the init step's rules, and the real sidecar and
//! operator. Neither app knows of a proxy. Needs root; says so where it has none.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Stdio,
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use e2e::{Node, Place, Running, Scratch, program, wait_for};
use serde_json::Value;

const APP: u16 = 8080;
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), APP);
const PROXY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15002);
/// Of something that is not HTTP.
const DATABASE: u16 = 5432;
/// As a client with `http_proxy` sends it.
const CALL: &str = "GET http://payments.bank/transfers HTTP/1.1\r\nhost: payments.bank\r\nconnection: close\r\n\r\n";
const SOON: Duration = Duration::from_secs(10);

/// An operator and pods: `shop`, which calls, `payments`, which answers and has a database, and `ledger`, whom nothing names.
struct Pods {
    node: Node,
    interception: &'static str,
    scratch: Scratch,
    _operator: Running,
    _sidecars: Vec<Running>,
}

impl Pods {
    fn start(interception: &'static str) -> Option<Self> {
        let node = Node::with_pods(3)?;
        let scratch = Scratch::new("pods");
        // Sidecars run as a user of their own.
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(scratch.path().join("config")).unwrap();
        fs::write(scratch.path().join("resolv.conf"), "").unwrap();
        fs::write(scratch.path().join("config/pods.yaml"), documents(node.pod(1), interception)).unwrap();
        let operator = operator(&node, &scratch);
        let mut pods = Self { node, interception, scratch, _operator: operator, _sidecars: Vec::new() };
        let names = ["shop-1", "payments-1", "ledger-1"];
        pods._sidecars = names.iter().enumerate().map(|(number, name)| pods.sidecar(number, name)).collect();
        for number in 0..names.len() {
            wait_for("a sidecar to be ready", 30, || pods.is_ready(number).then_some(()));
        }
        Some(pods)
    }

    fn shop(&self) -> &Place {
        self.node.pod(0)
    }

    fn payments(&self) -> &Place {
        self.node.pod(1)
    }

    fn ledger(&self) -> &Place {
        self.node.pod(2)
    }

    /// Another document of the mesh, or a new version of it.
    fn write(&self, name: &str, text: &str) {
        fs::write(self.scratch.path().join("config").join(name), text).unwrap();
    }

    /// The init step, and then the sidecar of a pod.
    fn sidecar(&self, number: usize, name: &str) -> Running {
        let (pod, folder) = (self.node.pod(number), self.scratch.path());
        if self.interception == "redirect" {
            let mut rules = pod.command(program("fapi-sidecar"));
            let rules = rules.args(["redirect", "--resolv-conf"]).arg(folder.join("resolv.conf")).output().unwrap();
            assert!(rules.status.success(), "{}", String::from_utf8_lossy(&rules.stderr));
        }
        let issued = folder.join(format!("state/tokens/bank/{name}.jwt"));
        wait_for("a token to enrol with", 20, || issued.is_file().then_some(()));
        let token = folder.join(format!("{name}.jwt"));
        fs::copy(&issued, &token).unwrap();
        fs::copy(folder.join("state/trust-bundle.pem"), folder.join("bundle.pem")).unwrap();
        for file in [&token, &folder.join("bundle.pem")] {
            fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
        }
        let addresses = fs::read_to_string(folder.join("state/addresses.json")).unwrap();
        let addresses: Value = serde_json::from_str(&addresses).unwrap();
        Running::start(
            pod.command_as_sidecar(program("fapi-sidecar"))
                .args(["--interception", self.interception, "--trust-domain", "bank.example", "--control"])
                .arg(addresses["control"].as_str().unwrap())
                .arg("--trust-bundle")
                .arg(folder.join("bundle.pem"))
                .arg("--token-file")
                .arg(&token)
                .stdout(fs::File::create(self.log_file(name)).unwrap())
                .stderr(fs::File::create(folder.join(format!("{name}.err"))).unwrap()),
        )
    }

    fn log_file(&self, name: &str) -> PathBuf {
        self.scratch.path().join(format!("{name}.log"))
    }

    fn log(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.log_file(name)).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for a line that has all of these.
    fn logged(&self, name: &str, facts: &[(&str, &str)]) {
        wait_for(&format!("{name} to log {facts:?}"), 10, || {
            let all = |line: &Value| facts.iter().all(|(key, value)| line[*key] == *value);
            self.log(name).iter().any(all).then_some(())
        });
    }

    fn is_ready(&self, number: usize) -> bool {
        self.node.pod(number).run(|| {
            e2e::get(SocketAddr::from(([127, 0, 0, 1], 15000)), "/readyz").is_ok_and(|ready| ready.status == 200)
        })
    }
}

fn operator(node: &Node, scratch: &Scratch) -> Running {
    let (folder, here) = (scratch.path(), SocketAddr::new(node.machine().v4(), 0).to_string());
    let operator = Running::start(
        node.machine()
            .command(program("fapi-operator"))
            .arg("--source")
            .arg(format!("directory:{}", folder.join("config").display()))
            .arg("--state")
            .arg(folder.join("state"))
            .args(["--trust-domain", "bank.example", "--control-listen", &here, "--issuer-listen", &here])
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("operator.err")).unwrap()),
    );
    wait_for("the operator", 30, || folder.join("state/addresses.json").is_file().then_some(()));
    operator
}

/// Payments' app listens on every address of its pod, and its sidecar is found where the app seems to be; or the app listens on
/// loopback, and its sidecar before it.
fn documents(payments: &Place, interception: &str) -> String {
    let port = |name: &str, number: u16, address: SocketAddr| {
        let app = if interception == "redirect" { address } else { SocketAddr::new(LOOPBACK.ip(), address.port()) };
        format!("  - {{name: {name}, port: {number}, address: \"{address}\", appAddress: \"{app}\"}}\n")
    };
    let kind = |kind: &str, name: &str| {
        format!(
            "apiVersion: fapi-mesh.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: bank}}\nspec:\n"
        )
    };
    [
        kind("Workload", "payments-1") + "  serviceAccountName: payments\n  serviceName: payments\n  ports:\n",
        port("http", 80, SocketAddr::new(payments.v4(), APP)),
        port("http6", 8080, SocketAddr::new(payments.v6(), APP)),
        port("db", DATABASE, SocketAddr::new(payments.v4(), DATABASE)),
        port("db6", DATABASE + 1, SocketAddr::new(payments.v6(), DATABASE)),
        "---\n".to_owned() + &kind("Workload", "shop-1") + "  serviceAccountName: shop\n",
        "---\n".to_owned() + &kind("Workload", "ledger-1") + "  serviceAccountName: ledger\n",
        "---\n".to_owned() + &kind("FapiClient", "shop") + "  serviceAccountName: shop\n",
        "  targets: [{serviceName: payments}]\n---\n".to_owned(),
        kind("FapiClient", "payments") + "  serviceAccountName: payments\n",
        "  targets: [{serviceName: payments}]\n".to_owned(),
    ]
    .concat()
}

/// An app that answers every request with the name of its caller.
fn app(pod: &Place, at: SocketAddr) {
    let listener = pod.run(|| TcpListener::bind(at).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut head = String::new();
                let mut byte = [0];
                while !head.ends_with("\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                    head.push(char::from(byte[0]));
                }
                let caller = head.lines().find_map(|line| line.strip_prefix("x-fapi-caller: ")).unwrap_or("nobody");
                let length = caller.len();
                let _ =
                    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{caller}");
            });
        }
    });
}

/// Writes something from a pod to an address and gives what comes back, to the end.
fn say(from: &Place, to: SocketAddr, what: &str) -> String {
    from.run(|| {
        let mut stream = TcpStream::connect_timeout(&to, SOON).unwrap_or_else(|error| panic!("{to}: {error}"));
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(what.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A connection that is reset has ended too.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    })
}

fn get(host: &str) -> String {
    format!("GET /transfers HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
}

#[test]
fn plain_calls_between_pods_are_guarded_and_nothing_gets_past() {
    let Some(pods) = Pods::start("redirect") else { return };
    let (shop, payments, outside) = (pods.shop(), pods.payments(), pods.node.machine());
    app(payments, SocketAddr::new("::".parse().unwrap(), APP));
    let (v4, v6) = (SocketAddr::new(payments.v4(), APP), SocketAddr::new(payments.v6(), APP));
    for (address, host) in [(v4, "payments.bank"), (v6, "payments.bank:8080")] {
        let answer = say(shop, address, &get(host));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.ends_with("spiffe://bank.example/ns/bank/sa/shop"), "{answer}");
    }
    pods.logged("payments-1", &[("outcome", "admitted"), ("caller", "spiffe://bank.example/ns/bank/sa/shop")]);

    for address in [v4, v6] {
        let answer = say(outside, address, &get("payments.bank"));
        assert!(!answer.contains("200"), "somebody outside the mesh was answered: {answer}");
        let direct = SocketAddr::new(address.ip(), 15006);
        assert_eq!(say(outside, direct, &get("payments.bank")), "", "the sidecar's own port has nothing to give");
        let inside = say(payments, address, &get("payments.bank"));
        assert!(inside.ends_with("nobody"), "what stays in the pod is the pod's own: {inside}");
        assert_eq!(say(shop, address, "SSH-2.0-OpenSSH_9.2\r\n"), "", "a protocol that carries no token");
        let unknown = say(shop, SocketAddr::new(address.ip(), 9), &get("payments.bank"));
        assert!(unknown.starts_with("HTTP/1.1 503 ") && unknown.contains("destination_unknown"), "{unknown}");
    }
    pods.logged("payments-1", &[("event", "handshake"), ("reason", "policy_missing")]);
    let own = say(payments, PROXY, CALL);
    assert!(own.ends_with("/sa/payments"), "a call to the pod's own Service is guarded as any: {own}");
    pods.logged(
        "shop-1",
        &[("direction", "outbound"), ("reason", "opaque_not_allowed"), ("destination", &v6.to_string())],
    );
}

#[test]
fn a_pod_without_rules_is_unready_while_its_app_can_be_reached_past_the_sidecar() {
    let Some(pods) = Pods::start("proxy") else { return };
    let (shop, payments, outside) = (pods.shop(), pods.payments(), pods.node.machine());
    app(payments, LOOPBACK);
    let answer = say(shop, PROXY, CALL);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("sa/shop"), "{answer}");
    let answer = say(outside, SocketAddr::new(payments.v4(), APP), &get("payments.bank"));
    assert!(!answer.contains("200"), "somebody outside the mesh was answered: {answer}");

    let readiness = || outside.run(|| e2e::get(SocketAddr::new(payments.v6(), 15020), "/readyz").unwrap());
    assert_eq!(readiness().status, 200);
    let open = payments.run(|| TcpListener::bind("0.0.0.0:9090").unwrap());
    let told = wait_for("the open socket to be seen", 10, || Some(readiness()).filter(|ready| ready.status == 503));
    assert!(told.body.contains("InboundBypass") && told.body.contains("0.0.0.0:9090"), "{}", told.body);
    drop(open);
    wait_for("it to be ready again", 10, || (readiness().status == 200).then_some(()));
}

/// The policy of the database: who may connect.
fn database_is_for(account: &str) -> String {
    format!(
        "apiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiPolicy\nmetadata: {{name: db, namespace: bank}}\nspec:\n  \
         protocol: TCP\n  targetRefs: [{{name: payments, sectionName: db}}, {{name: payments, sectionName: db6}}]\n  \
         rules: [{{callers: [{{serviceAccountName: {account}}}]}}]\n"
    )
}

/// A server that speaks first and then repeats what it hears. What each connection said is given once it has ended.
fn database(pod: &Place) -> Receiver<String> {
    let listener = pod.run(|| TcpListener::bind(SocketAddr::new("::".parse().unwrap(), DATABASE)).unwrap());
    let (told, heard) = mpsc::sync_channel(64);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, told) = (stream.unwrap(), told.clone());
            std::thread::spawn(move || {
                let (mut said, mut buffer) = (Vec::new(), [0; 64]);
                let _ = stream.write_all(b"220 db\r\n");
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    said.extend_from_slice(&buffer[..count]);
                    let _ = stream.write_all(&buffer[..count]);
                }
                let _ = told.send(String::from_utf8_lossy(&said).into_owned());
            });
        }
    });
    heard
}

/// A connection that has been greeted and heard its own words again; `None` if that is not what it heard.
fn joined(from: &Place, to: SocketAddr, words: &str) -> Option<TcpStream> {
    from.run(|| {
        let mut stream = TcpStream::connect_timeout(&to, SOON).ok()?;
        stream.set_read_timeout(Some(SOON)).ok()?;
        stream.write_all(words.as_bytes()).ok()?;
        let mut heard = vec![0; 8 + words.len()];
        stream.read_exact(&mut heard).ok()?;
        (heard == format!("220 db\r\n{words}").as_bytes()).then_some(stream)
    })
}

/// The words of the next connection that ended and had said anything.
fn next(heard: &Receiver<String>) -> String {
    let mut said = std::iter::repeat_with(|| heard.recv_timeout(SOON).unwrap());
    said.find(|said| !said.is_empty()).unwrap()
}

/// Whether it ends soon, without another word.
fn has_ended(mut stream: TcpStream) -> bool {
    match stream.read(&mut [0; 8]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn a_port_that_is_not_http_is_joined_with_named_callers_alone() {
    let Some(pods) = Pods::start("redirect") else { return };
    let (shop, payments, ledger, outside) = (pods.shop(), pods.payments(), pods.ledger(), pods.node.machine());
    let heard = database(payments);
    let (v4, v6) = (SocketAddr::new(payments.v4(), DATABASE), SocketAddr::new(payments.v6(), DATABASE));
    let caller = |account: &str| format!("spiffe://bank.example/ns/bank/sa/{account}");
    assert_eq!(say(shop, v4, "hello"), "", "a port of HTTP until a policy says otherwise");
    pods.write("db.yaml", &database_is_for("shop"));
    let living = wait_for("the policy to be in force", 10, || joined(shop, v4, "select 1;"));
    drop(joined(shop, v6, "select 6;"));
    assert_eq!(next(&heard), "select 6;");
    pods.logged("payments-1", &[("outcome", "admitted"), ("policy", "bank/db"), ("caller", &caller("shop"))]);

    for address in [v4, v6] {
        assert_eq!(say(ledger, address, "select 2;"), "", "a caller that is not named");
        let answer = say(outside, address, "select 3;");
        assert!(!answer.contains("db"), "somebody outside the mesh was answered: {answer}");
    }
    pods.logged("payments-1", &[("reason", "caller_not_allowed"), ("caller", &caller("ledger"))]);
    let answer = say(shop, v4, &get("payments.bank"));
    assert!(!answer.contains("HTTP"), "HTTP gets round no token here: {answer}");
    pods.logged("payments-1", &[("reason", "opaque_not_allowed"), ("caller", &caller("shop"))]);

    pods.write("db.yaml", &database_is_for("ledger"));
    assert!(has_ended(living), "it is named no longer");
    pods.logged("payments-1", &[("reason", "caller_not_allowed"), ("caller", &caller("shop"))]);
    assert_eq!(next(&heard), "select 1;", "nobody else has said a word to it");
    assert_eq!(say(shop, v4, "select 4;"), "");

    let living = joined(ledger, v4, "select 5;").unwrap();
    pods.write(
        "revoked.yaml",
        &format!(
            "apiVersion: fapi-mesh.dev/v1alpha1\nkind: Revocation\nmetadata: {{name: ledger}}\nspec: {{spiffeId: {}, \
             expires: \"2999-12-31T23:59:59Z\"}}\n",
            caller("ledger")
        ),
    );
    assert!(has_ended(living), "its caller is revoked");
    assert_eq!(say(ledger, v4, "select 7;"), "");
    pods.logged("payments-1", &[("event", "handshake"), ("reason", "revoked")]);
}

/// The policy of payments: `outside` may scrape its metrics.
fn metrics_are_for(outside: &Place) -> String {
    format!(
        "apiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiPolicy\nmetadata: {{name: payments, namespace: bank}}\nspec:\n  \
         targetRefs: [{{name: payments}}]\n  exempt:\n  - {{port: 80, paths: [/metrics], sources: [{}/32]}}\n  \
         - {{port: 8080, paths: [/metrics], sources: [\"{}/128\"]}}\n",
        outside.v4(),
        outside.v6()
    )
}

fn scrape(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: payments\r\nconnection: close\r\n{more}\r\n")
}

#[test]
fn a_scraper_outside_the_mesh_gets_what_is_exempt_and_nothing_else() {
    let Some(pods) = Pods::start("redirect") else { return };
    let (shop, payments, ledger, outside) = (pods.shop(), pods.payments(), pods.ledger(), pods.node.machine());
    app(payments, SocketAddr::new("::".parse().unwrap(), APP));
    let (v4, v6) = (SocketAddr::new(payments.v4(), APP), SocketAddr::new(payments.v6(), APP));
    assert!(!say(outside, v4, &scrape("/metrics", "")).contains("200"), "nothing is exempt by default");
    pods.write("payments.yaml", &metrics_are_for(outside));
    wait_for("the policy to be in force", 10, || {
        say(outside, v4, &scrape("/metrics", "")).starts_with("HTTP/1.1 200 ").then_some(())
    });
    for address in [v4, v6] {
        let forged = "x-fapi-caller: spiffe://bank.example/ns/bank/sa/shop\r\n";
        let answer = say(outside, address, &scrape("/metrics", forged));
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("nobody"), "{answer}");
        for refused in [scrape("/transfers", ""), scrape("/metrics", "authorization: Bearer x\r\n")] {
            let answer = say(outside, address, &refused);
            assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        }
        let elsewhere = ledger.run_as_sidecar(|| say(ledger, address, &scrape("/metrics", "")));
        assert!(!elsewhere.contains("HTTP/1.1 200 "), "somebody at another address: {elsewhere}");
        let answer = say(shop, address, &get(if address.is_ipv4() { "payments.bank" } else { "payments.bank:8080" }));
        assert!(answer.ends_with("/sa/shop"), "callers of the mesh as before: {answer}");
    }
    let from = |line: &Value| line["peer"].as_str().unwrap_or_default().starts_with(&outside.v4().to_string());
    let is_exempt = |line: &Value| line["outcome"] == "exempt" && line["caller"].is_null() && from(line);
    wait_for("the log to tell", 10, || pods.log("payments-1").iter().any(is_exempt).then_some(()));
    pods.logged("payments-1", &[("outcome", "refused"), ("reason", "plaintext_not_allowed"), ("path", "/transfers")]);
    let status = pods.scratch.path().join("state/status/FapiPolicy/bank/payments.yaml");
    wait_for("the status to tell", 10, || {
        let text = fs::read_to_string(&status).unwrap_or_default();
        (text.contains("exempt:") && text.contains(&format!("{}/32", outside.v4()))).then_some(())
    });

    let own = |port: u16, path: &str| outside.run(|| e2e::get(SocketAddr::new(payments.v4(), port), path).ok());
    let metrics = own(15020, "/metrics").unwrap();
    assert!(metrics.status == 200 && metrics.body.contains("outcome=\"exempt\""), "{}", metrics.body);
    assert_eq!(own(15020, "/readyz").unwrap().status, 200);
    assert_eq!(own(15020, "/config").unwrap().status, 404);
    assert!(own(15000, "/metrics").is_none_or(|answer| answer.status != 200), "the rest is on loopback");
}
