//! The root of a mesh is replaced while its calls go on.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use e2e::{Mesh, Running, fapictl, get, program, wait_for};
use serde_json::Value;

const STEPS: [&str; 4] = ["Prepared", "Active", "Tainted", "Removed"];
/// What the old root and the new one are good for in each.
const PHASES: [[&str; 2]; 4] =
    [["Active", "Prepared"], ["Active", "Active"], ["Tainted", "Active"], ["Removed", "Active"]];

/// Calls of shop's programs to payments, and of payments to ledger, that go on until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<JoinHandle<usize>>,
}

impl Load {
    #[expect(clippy::disallowed_methods, reason = "a pause between calls, nothing is awaited")]
    fn start(outbound: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let caller = |_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let (mut calls, mut open) = (0, None);
                while !stop.load(Ordering::Relaxed) {
                    let stream = open.take().unwrap_or_else(|| TcpStream::connect(outbound).unwrap());
                    open = once(stream).unwrap_or_else(|failed| panic!("call {calls} failed: {failed}"));
                    calls += 1;
                    std::thread::sleep(Duration::from_millis(20));
                }
                calls
            })
        };
        Self { callers: (0..4).map(caller).collect(), stop }
    }

    /// How many calls there were; none has failed.
    fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.callers.into_iter().map(|caller| caller.join().unwrap()).sum()
    }
}

/// One call; the connection, if it goes on.
fn once(mut stream: TcpStream) -> Result<Option<TcpStream>, String> {
    let told = |error: std::io::Error| error.to_string();
    stream.set_read_timeout(Some(Duration::from_secs(20))).map_err(told)?;
    let request = "POST http://payments.bank/transfers HTTP/1.1\r\nhost: payments.bank\r\ncontent-length: 2\r\n\r\n{}";
    stream.write_all(request.as_bytes()).map_err(told)?;
    let mut reader = BufReader::new(stream);
    let (mut head, mut length, mut closes) = (String::new(), 0, false);
    while !head.ends_with("\r\n\r\n") {
        let begins = head.len();
        if reader.read_line(&mut head).map_err(told)? == 0 {
            return Err(format!("the connection ended after {head:?}"));
        }
        let line = head[begins..].trim().to_ascii_lowercase();
        length = line.strip_prefix("content-length: ").map_or(length, |value| value.parse().unwrap());
        closes |= line == "connection: close";
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).map_err(told)?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(format!("{head}{}", String::from_utf8_lossy(&body)));
    }
    Ok((!closes).then(|| reader.into_inner()))
}

/// A workload that only calls, whose sidecar this test starts again and again.
struct Teller<'a> {
    mesh: &'a Mesh,
    control: String,
    token: PathBuf,
}

impl<'a> Teller<'a> {
    fn open(mesh: &'a Mesh) -> Self {
        let document = "apiVersion: fapi-mesh.dev/v1alpha1\nkind: Workload\n\
                        metadata: {name: teller-1, namespace: bank}\nspec: {serviceAccountName: teller}\n";
        fs::write(mesh.folder().join("config/teller.yaml"), document).unwrap();
        let token = mesh.folder().join("tokens/bank/teller-1.jwt");
        wait_for("the operator to see the workload", 20, || token.is_file().then_some(()));
        let addresses: Value =
            serde_json::from_slice(&fs::read(mesh.folder().join("addresses.json")).unwrap()).unwrap();
        Self { mesh, control: addresses["control"].as_str().unwrap().to_owned(), token }
    }

    /// Starts its sidecar, and waits until the mesh has taken it in.
    fn starts(&self) -> Running {
        let log = self.mesh.folder().join("logs/teller.log");
        let sidecar = Running::start(
            Command::new(program("fapi-sidecar"))
                .args(["--control", &self.control, "--trust-domain", "bank.example", "--trust-bundle"])
                .arg(self.mesh.folder().join("trust-bundle.pem"))
                .arg("--token-file")
                .arg(&self.token)
                .stdout(fs::File::create(&log).unwrap())
                .stderr(Stdio::null()),
        );
        wait_for("the sidecar to be ready", 60, || {
            let text = fs::read_to_string(&log).unwrap();
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let admin = lines.into_iter().find(|line| line["event"] == "listening" && line["listener"] == "admin")?;
            let ready = get(admin["address"].as_str()?.parse().unwrap(), "/readyz").ok()?;
            (ready.status == 200).then_some(())
        });
        sidecar
    }
}

/// How far the rotation is.
fn progress(state: &str) -> Value {
    let told = fapictl(&["status", "--state", state, "-o", "json"]).unwrap();
    serde_json::from_str::<Value>(&told).unwrap()["rotation"].clone()
}

/// The phases of the roots as the status of the FapiMesh tells them, the older one first, and what is told of each.
fn anchors(mesh: &Mesh) -> Option<(Vec<String>, Vec<Value>)> {
    let status = fs::read_to_string(mesh.folder().join("status/FapiMesh/default.yaml")).ok()?;
    let status: Value = serde_saphyr::from_str(&status).unwrap();
    let anchors = status["status"]["trustAnchors"].as_array().unwrap().clone();
    Some((anchors.iter().map(|anchor| anchor["phase"].as_str().unwrap().to_owned()).collect(), anchors))
}

/// The reason with which payments refuses a handshake of this certificate; none if it takes it.
fn refused(mesh: &Mesh, identity: &Path) -> Option<String> {
    let before = mesh.log("payments").len();
    let mut command = Command::new("curl");
    command.args(["-sk", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code}"]);
    command.arg("--cert").arg(identity.join("chain.pem")).arg("--key").arg(identity.join("key.pem"));
    command.arg(format!("https://{}/transfers", mesh.address("payments", "inbound")));
    let status = String::from_utf8(command.output().unwrap().stdout).unwrap();
    if status != "000" {
        assert_eq!(status, "401", "it shows no token");
        return None;
    }
    Some(wait_for("the refusal to be told", 20, || {
        let log = mesh.log("payments");
        let line = log.iter().skip(before).find(|line| line["event"] == "handshake" && line["outcome"] == "refused")?;
        Some(line["reason"].as_str().unwrap().to_owned())
    }))
}

#[test]
fn a_root_is_replaced_under_load_with_no_failed_call() {
    let mesh = Mesh::start("rotation");
    let state = mesh.folder().display().to_string();
    let roots = || fs::read_to_string(mesh.folder().join("trust-bundle.pem")).unwrap();
    let old = roots();
    assert_eq!(fapictl(&["status", "--state", &state]).unwrap(), "its root was never rotated\n");
    let thief = mesh.folder().join("thief");
    fapictl(&["identity", "--state", &state, "--workload", "bank/shop-1", "--out", &thief.display().to_string()])
        .unwrap();
    let (phases, first) = wait_for("the status of the FapiMesh", 20, || anchors(&mesh));
    assert_eq!(phases, ["Active"]);
    let fingerprint = fs::read_to_string(mesh.folder().join("pki/fingerprint")).unwrap();
    assert_eq!(first[0]["fingerprint"], fingerprint.trim_end());
    assert_eq!(refused(&mesh, &thief), None, "it is good as long as its root counts");

    let teller = Teller::open(&mesh);
    let load = Load::start(mesh.address("shop", "outbound"));
    let begun = fapictl(&["rotate-root", "--state", &state, "--name", "spring"]).unwrap();
    assert!(begun.starts_with("spring: Prepared since "), "{begun}");
    for (at, (step, next)) in STEPS.into_iter().zip(&STEPS[1..]).enumerate() {
        // It does not go on without the one that is away.
        let oldest = wait_for("everybody else to have followed", 60, || {
            let now = progress(&state);
            assert_eq!(now["step"], step, "{now}");
            let (followed, all) = (now["followed"].as_u64()?, now["sidecars"].as_u64()?);
            (followed + 1 == all).then(|| now["oldest"].clone())
        });
        let waits = ("bank/teller-1", "it has no control stream");
        assert_eq!((oldest["pod"].as_str().unwrap(), oldest["why"].as_str().unwrap()), waits);
        wait_for("the status of the FapiMesh to say the same", 20, || {
            let (phases, told) = anchors(&mesh)?;
            assert_eq!(told[0]["fingerprint"], first[0]["fingerprint"]);
            let said = &told.get(usize::from(at < 2))?["acknowledgements"];
            let (pods, followed) = (said["pods"].as_u64()?, said["acknowledged"].as_u64()?);
            (phases == PHASES[at] && followed + 1 == pods && said["oldest"]["pod"] == waits.0).then_some(())
        });
        assert_eq!(roots().matches("BEGIN CERTIFICATE").count(), 2);
        let second = fapictl(&["rotate-root", "--state", &state, "--name", "summer"]).unwrap_err();
        assert!(second.contains(&format!("the rotation spring runs; its step is {step}")), "{second}");
        fapictl(&["rotate-root", "--state", &state, "--name", "spring"]).unwrap();

        let sidecar = teller.starts();
        wait_for("the next step", 60, || (progress(&state)["step"] == **next).then_some(()));
        drop(sidecar);
    }
    let _teller = teller.starts();
    wait_for("everybody to trust the new root alone", 60, || {
        let now = progress(&state);
        (now["followed"] == now["sidecars"] && now.get("waitsFor").is_none()).then_some(())
    });
    wait_for("the FapiMesh to say that they do", 20, || {
        let (phases, told) = anchors(&mesh)?;
        let said = &told[0]["acknowledgements"];
        (phases == PHASES[3] && said["pods"].as_u64() > Some(1) && said["acknowledged"] == said["pods"]).then_some(())
    });
    let calls = load.stop();
    assert!(calls > 100, "only {calls} calls");

    let new = roots();
    assert_eq!(new.matches("BEGIN CERTIFICATE").count(), 1);
    assert_ne!(new, old);
    assert!(!mesh.folder().join("pki/root.key").exists(), "its key is gone");
    assert_eq!(refused(&mesh, &thief).as_deref(), Some("peer_certificate_untrusted"));
    let shown = fapictl(&["status", "--state", &state]).unwrap();
    assert!(shown.starts_with("ROOT ") && shown.contains("Removed"), "{shown}");
}
