//! What a mesh does while its parts come and go.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use e2e::{Mesh, Running, Scratch, get, living, program, signal, wait_for};
use rustix::process::Signal;
use serde_json::Value;

/// A sidecar started by the test itself.
struct Sidecar {
    _process: Running,
    log: PathBuf,
}

impl Sidecar {
    fn start(control: &str, bundle: &Path, token: &Path, log: PathBuf) -> Self {
        let mut command = Command::new(program("fapi-sidecar"));
        command.args(["--control", control, "--trust-domain", "bank.example", "--trust-bundle"]).arg(bundle);
        Self::run(command.arg("--token-file").arg(token), log)
    }

    /// Starts what a process was started as, which is gone.
    fn again(words: &[String], log: PathBuf) -> Self {
        let [program, args @ ..] = words else { panic!("no command line") };
        Self::run(Command::new(program).args(args), log)
    }

    fn run(command: &mut Command, log: PathBuf) -> Self {
        command.stdout(std::fs::File::create(&log).unwrap()).stderr(Stdio::null());
        Self { _process: Running::start(command), log }
    }

    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn listening(&self, listener: &str) -> Option<SocketAddr> {
        let lines = self.lines();
        let line = lines.iter().find(|line| line["event"] == "listening" && line["listener"] == listener)?;
        line["address"].as_str().unwrap().parse().ok()
    }
}

#[test]
fn a_sidecar_without_a_snapshot_is_alive_but_not_ready() {
    let scratch = Scratch::new("unready");
    // An operator that takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (bundle, token) = (scratch.path().join("bundle.pem"), scratch.path().join("token.jwt"));
    let mesh = Mesh::start("bundle");
    std::fs::copy(mesh.folder().join("trust-bundle.pem"), &bundle).unwrap();
    std::fs::write(&token, "e30.e30.e30").unwrap();
    let control = silent.local_addr().unwrap().to_string();
    let sidecar = Sidecar::start(&control, &bundle, &token, scratch.path().join("log"));
    let admin = wait_for("the admin listener", 10, || sidecar.listening("admin"));
    assert_eq!(get(admin, "/livez").unwrap().status, 200);
    assert_eq!(get(admin, "/readyz").unwrap().status, 503);
    assert_eq!(sidecar.listening("inbound"), None, "without rules nobody is let in");
    let outbound = wait_for("the outbound listener", 10, || sidecar.listening("outbound"));
    let refused = call(outbound, "http://payments.bank/transfers");
    assert!(refused.contains(" 503 ") && refused.contains("destination_unknown"), "{refused}");
}

#[test]
fn two_replicas_share_the_calls() {
    let mesh = Mesh::start("replicas");
    // Held until the process that is to have it starts.
    let hold = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (hold_inbound, hold_app) = (hold(), hold());
    let (inbound, app) = (hold_inbound.local_addr().unwrap(), hold_app.local_addr().unwrap());
    drop(hold_app);
    let _app = Running::start(
        Command::new(program("fapictl"))
            .args(["app", "--name", "payments", "--listen", &app.to_string()])
            .stdout(std::fs::File::create(mesh.folder().join("logs/payments-2.app.log")).unwrap()),
    );
    let document = format!(
        "apiVersion: fapi-mesh.dev/v1alpha1\nkind: Workload\nmetadata: {{name: payments-2, namespace: bank}}\nspec:\n  \
         serviceAccountName: payments\n  serviceName: payments\n  ports:\n  \
         - {{name: http, port: 80, address: \"{inbound}\", appAddress: \"{app}\"}}\n"
    );
    std::fs::write(mesh.folder().join("config/payments-2.yaml"), document).unwrap();
    let token = mesh.folder().join("tokens/bank/payments-2.jwt");
    wait_for("the operator to see the new workload", 10, || token.is_file().then_some(()));
    let addresses: Value =
        serde_json::from_slice(&std::fs::read(mesh.folder().join("addresses.json")).unwrap()).unwrap();
    drop(hold_inbound);
    let second = Sidecar::start(
        addresses["control"].as_str().unwrap(),
        &mesh.folder().join("trust-bundle.pem"),
        &token,
        mesh.folder().join("logs/payments-2.log"),
    );
    wait_for("the second sidecar to serve", 20, || second.listening("inbound"));

    let outbound = mesh.address("shop", "outbound");
    let admitted = |lines: Vec<Value>| lines.iter().filter(|line| line["outcome"] == "admitted").count();
    wait_for("both to be called", 20, || {
        let answer = call(outbound, "http://payments.bank/transfers");
        assert!(answer.contains(" 200 "), "{answer}");
        (admitted(mesh.log("payments")) > 0 && admitted(second.lines()) > 0).then_some(())
    });
}

#[test]
fn a_sidecar_that_ends_finishes_what_it_has_begun() {
    let mesh = Mesh::start("drain");
    let mut stream = TcpStream::connect(mesh.address("shop", "outbound")).unwrap();
    let head = "POST http://payments.bank/transfers HTTP/1.1\r\nhost: payments.bank\r\nconnection: close\r\n\
                content-length: 4\r\n\r\nhal";
    stream.write_all(head.as_bytes()).unwrap();
    // The head has reached payments, and was admitted, when its sidecar turns to the app.
    wait_for("the request to arrive", 10, || {
        let metrics = get(mesh.address("payments", "admin"), "/metrics").unwrap().body;
        (!metrics.contains("fapi_app_connects_total{outcome=\"succeeded\"} 0\n")).then_some(())
    });
    let sidecar = living(mesh.folder()).into_iter().find(|(_, line)| line.contains("payments-1.jwt")).unwrap().0;
    signal(sidecar, Signal::TERM);
    let inbound = mesh.address("payments", "inbound");
    wait_for("it to take no more calls", 10, || TcpStream::connect(inbound).is_err().then_some(()));
    stream.write_all(b"f").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    wait_for("it to end", 10, || (!living(mesh.folder()).iter().any(|(id, _)| *id == sidecar)).then_some(()));
}

/// Somebody with a stolen identity, who needs no sidecar.
struct Thief<'a> {
    mesh: &'a Mesh,
    folder: PathBuf,
}

impl<'a> Thief<'a> {
    fn of(mesh: &'a Mesh, workload: &str) -> Self {
        let thief = Self { mesh, folder: mesh.folder().join(workload.replace('/', "-")) };
        let state = mesh.folder().display().to_string();
        thief.fapictl(&["identity", "--state", &state, "--workload", workload, "--out", &thief.file("")]);
        thief
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn fapictl(&self, args: &[&str]) -> String {
        let output = Command::new(program("fapictl")).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A token for payments.
    fn token(&self) -> String {
        let (issuer, audience) = (self.issuer(), "https://payments.bank");
        self.fapictl(&["token", "--identity", &self.file(""), "--issuer", issuer, "--audience", audience])
    }

    fn issuer(&self) -> &str {
        self.mesh.description()["issuer"].as_str().unwrap()
    }

    /// A call of payments with this token; its status, 0 if the handshake fails.
    fn calls(&self, token: &str) -> u16 {
        let to = format!("payments.bank:443:{}", self.mesh.address("payments", "inbound"));
        let authorization = format!("Authorization: Bearer {token}");
        self.curl(&["--connect-to", &to, "-H", &authorization, "-X", "POST", "https://payments.bank/transfers"])
    }

    /// Has its own token revoked (RFC 7009).
    fn revokes(&self, token: &str) {
        let (token, client) = (format!("token={token}"), "client_id=spiffe://bank.example/ns/bank/sa/shop");
        assert_eq!(self.curl(&["-d", &token, "-d", client, &format!("{}/revoke", self.issuer())]), 200);
    }

    fn curl(&self, args: &[&str]) -> u16 {
        let mut command = Command::new("curl");
        command.args(["-sk", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code}"]);
        command.args(["--cert", &self.file("chain.pem"), "--key", &self.file("key.pem")]).args(args);
        String::from_utf8(command.output().unwrap().stdout).unwrap().parse().unwrap()
    }
}

#[test]
fn what_is_revoked_stays_revoked_for_a_sidecar_that_begins_anew() {
    let mesh = Mesh::start("revoked");
    let (shop, intruder) = (Thief::of(&mesh, "bank/shop-1"), Thief::of(&mesh, "outside/intruder-1"));
    let (stolen, good) = (shop.token(), shop.token());
    assert_eq!((shop.calls(&stolen), intruder.calls(&stolen)), (200, 401), "it is bound to another certificate");

    shop.revokes(&stolen);
    let config: Value = serde_json::from_str(&get(mesh.address("intruder", "admin"), "/config").unwrap().body).unwrap();
    let document = format!(
        "apiVersion: fapi-mesh.dev/v1alpha1\nkind: Revocation\nmetadata: {{name: intruder}}\n\
         spec: {{podUid: {}, expires: \"2999-12-31T23:59:59Z\"}}\n",
        config["snapshot"]["podUid"]
    );
    std::fs::write(mesh.folder().join("config/revoked.yaml"), document).unwrap();
    let refused = || (shop.calls(&stolen), intruder.calls(&stolen)) == (401, 0);
    wait_for("both to be refused", 20, || refused().then_some(()));

    let (sidecar, line) = living(mesh.folder()).into_iter().find(|(_, line)| line.contains("payments-1.jwt")).unwrap();
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    signal(sidecar, Signal::KILL);
    let inbound = mesh.address("payments", "inbound");
    wait_for("it to be gone", 10, || TcpStream::connect(inbound).is_err().then_some(()));
    let again = Sidecar::again(&words, mesh.folder().join("logs/payments-again.log"));
    wait_for("the new one to serve", 20, || again.listening("inbound"));
    assert!(refused(), "from its first moment");
    assert_eq!(shop.calls(&good), 200, "what is not revoked goes on");
    for (event, status) in [("decision", Value::from(401)), ("handshake", Value::Null)] {
        wait_for("the refusal to be logged", 10, || {
            let revoked = |line: &&Value| line["event"] == event && line["reason"] == "revoked";
            again.lines().iter().find(revoked).map(|line| assert_eq!(line["status"], status))
        });
    }
}

#[test]
fn a_policy_that_never_was_good_closes_its_target() {
    let mesh = Mesh::start("closed");
    let broken = "apiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiPolicy\nmetadata: {name: intruder, namespace: outside}\n\
                  spec:\n  targetRefs: [{name: intruder}]\n  rules:\n  - methods: [FETCH]\n";
    std::fs::write(mesh.folder().join("config/broken.yaml"), broken).unwrap();
    let problems = mesh.folder().join("status/problems.yaml");
    let told = wait_for("the problem to be reported", 10, || {
        std::fs::read_to_string(&problems).ok().filter(|told| told.contains("broken.yaml"))
    });
    for part in ["line", "field", "remedy"] {
        assert!(told.contains(part), "{told}");
    }
    let admin = mesh.address("intruder", "admin");
    wait_for("the port to be closed", 10, || {
        let config = get(admin, "/config").unwrap().body;
        config.to_lowercase().contains("invalid").then_some(())
    });
}

#[test]
fn callers_follow_a_rule_about_details_and_age_without_a_refused_call() {
    let mesh = Mesh::start("consent");
    let policy = "apiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiPolicy\nmetadata: {name: payments, namespace: bank}\n\
                  spec:\n  targetRefs: [{name: payments}]\n  rules:\n  - paths: [/transfers]\n    maxTokenAge: 6s\n    \
                  actors: {max: 0}\n    authorizationDetails: [{type: payment, actions: [initiate]}]\n";
    std::fs::write(mesh.folder().join("config/payments.yaml"), policy).unwrap();
    let admin = mesh.address("payments", "admin");
    wait_for("the rule to be in force", 10, || {
        get(admin, "/config").unwrap().body.contains("authorizationDetails").then_some(())
    });
    let outbound = mesh.address("shop", "outbound");
    let call = || call(outbound, "http://payments.bank/transfers");
    wait_for("a token with the details", 10, || call().contains(" 200 ").then_some(()));
    // Longer than any token is taken.
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_secs(8) {
        let answer = call();
        assert!(answer.contains(" 200 "), "after {:?}: {answer}", begun.elapsed());
    }
    let admitted = |line: &&Value| line["policy"] == "bank/payments" && line["outcome"] == "admitted";
    let log = wait_for("the calls to be logged", 5, || {
        let log = mesh.log("payments");
        log.iter().any(|line| admitted(&line)).then_some(log)
    });
    let tokens: std::collections::BTreeSet<_> =
        log.iter().filter(admitted).map(|line| line["token"].to_string()).collect();
    assert!(tokens.len() > 1, "several tokens, each for its time: {tokens:?}");
}

#[test]
fn a_policy_in_audit_shows_what_it_let_pass_until_it_refuses() {
    let mesh = Mesh::start("audit");
    let policy = |mode: &str| {
        let text = format!(
            "apiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiPolicy\nmetadata: {{name: payments, namespace: bank}}\n\
             spec:\n  targetRefs: [{{name: payments}}]\n  mode: {mode}\n  rules:\n  - methods: [GET]\n"
        );
        std::fs::write(mesh.folder().join("config/payments.yaml"), text).unwrap();
        let admin = mesh.address("payments", "admin");
        wait_for(&format!("{mode} to be in force"), 10, || {
            let config = get(admin, "/config").unwrap().body;
            (config.contains(mode) && config.contains("GET")).then_some(())
        });
    };
    let status = mesh.folder().join("status/FapiPolicy/bank/payments.yaml");
    let status = || std::fs::read_to_string(&status).unwrap_or_default();
    let outbound = mesh.address("shop", "outbound");
    let call = || call(outbound, "http://payments.bank/transfers");
    policy("Audit");
    assert!(!status().contains("wouldRefuse"), "nobody was there yet: {}", status());
    for _ in 0..3 {
        assert!(call().contains(" 200 "), "it passes");
    }
    // Told within half a minute, shown within a minute.
    let shown =
        wait_for("the status to tell of all three", 120, || Some(status()).filter(|it| it.contains("count: 3")));
    for part in ["wouldRefuse:", "since: ", "reason: rule_not_matched", "caller: bank/shop"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    policy("Enforce");
    assert!(call().contains(" 403 "), "it refuses");
    wait_for("the status to tell of it no more", 10, || (!status().contains("wouldRefuse")).then_some(()));
}

/// One call through a proxy; the whole answer as text.
fn call(outbound: SocketAddr, url: &str) -> String {
    let mut stream = TcpStream::connect(outbound).unwrap();
    let request =
        format!("POST {url} HTTP/1.1\r\nhost: payments.bank\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
