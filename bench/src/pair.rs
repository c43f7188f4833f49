//! Two proxies with an app behind them: ours, under a real operator, or the floor.

use std::{
    fmt, fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use clap::ValueEnum;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use crate::{
    Failure,
    load::Protocol,
    process::{Process, wait_for},
};

/// What is spoken between the two proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Between {
    H1,
    H2,
}

impl fmt::Display for Between {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::H1 => "h1",
            Self::H2 => "h2",
        })
    }
}

/// Which core does what.
#[derive(Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) proxies: u32,
    pub(crate) load: u32,
}

/// A running pair; everything ends when it is dropped.
pub(crate) struct Pair {
    folder: PathBuf,
    outbound: SocketAddr,
    proxies: Vec<Process>,
    others: Vec<Process>,
}

impl Drop for Pair {
    fn drop(&mut self) {
        // First those who write into the folder.
        self.proxies.clear();
        self.others.clear();
        // Logs and throw-away certificates; what stays does no harm.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Pair {
    /// Where the load goes.
    pub(crate) fn outbound(&self) -> SocketAddr {
        self.outbound
    }

    /// What the load asks for.
    pub(crate) fn url(&self) -> &'static str {
        "http://balance.bench/accounts/1"
    }

    /// Where files of this pair go.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// CPU of both proxies so far.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        self.proxies.iter().map(Process::cpu).sum()
    }

    /// Memory of both proxies, MiB.
    pub(crate) fn memory(&self) -> Result<f64, Failure> {
        let sum = self.proxies.iter().map(Process::memory).sum::<Result<u64, _>>()?;
        Ok(f64::from(u32::try_from(sum)?) / 1024.0)
    }

    /// The floor.
    pub(crate) fn floor(bins: &Path, cores: Cores, between: Between, app: Protocol) -> Result<Self, Failure> {
        let folder = new_folder("floor")?;
        certificates(&folder)?;
        let (floor, [outbound, inbound, app_at]) = (bins.join("floor"), free_addresses()?);
        let pems = folder.display().to_string();
        let text = |address: SocketAddr| address.to_string();
        let start = |core, name: &str, args: Vec<String>| Process::start(core, &floor, &args, &folder.join(name));
        let app_process = start(cores.load, "app.log", vec!["app".into(), text(app_at)])?;
        let mut inbound_args = vec!["inbound".into(), text(inbound), text(app_at), pems.clone(), between.to_string()];
        if app == Protocol::H2 {
            inbound_args.push("--h2-app".into());
        }
        let outbound_args = vec!["outbound".into(), text(outbound), text(inbound), pems, between.to_string()];
        let proxies = vec![
            start(cores.proxies, "inbound.log", inbound_args)?,
            start(cores.proxies, "outbound.log", outbound_args)?,
        ];
        for address in [outbound, inbound, app_at] {
            wait_for("the floor", || TcpStream::connect(address).ok())?;
        }
        Ok(Self { folder, outbound, proxies, others: vec![app_process] })
    }

    /// Our sidecars: certificates, tokens, all checks, decision log and metrics as in production.
    pub(crate) fn mesh(bins: &Path, cores: Cores, between: Between, dpop: bool) -> Result<Self, Failure> {
        let folder = new_folder("mesh")?;
        let [inbound, app_at, _] = free_addresses()?;
        fs::create_dir_all(folder.join("config"))?;
        fs::write(folder.join("config/bench.yaml"), documents(inbound, app_at, dpop))?;
        let state = folder.join("state");
        let args = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let source = format!("directory:{}", folder.join("config").display());
        let state_text = state.display().to_string();
        let operator = Process::start(
            cores.load,
            &bins.join("fapi-operator"),
            &args(&["--source", &source, "--state", &state_text, "--trust-domain", "bench.example"]),
            &folder.join("operator.log"),
        )?;
        let app = Process::start(
            cores.load,
            &bins.join("floor"),
            &args(&["app", &app_at.to_string()]),
            &folder.join("app.log"),
        )?;
        let control = wait_for("the operator", || control_address(&state))?;
        let mut proxies = Vec::new();
        for name in ["caller", "balance"] {
            let token = state.join(format!("tokens/bench/{name}.jwt"));
            wait_for("an enrolment token", || token.exists().then_some(()))?;
            let words = [
                "--control",
                &control,
                "--trust-domain",
                "bench.example",
                "--trust-bundle",
                &format!("{state_text}/trust-bundle.pem"),
                "--token-file",
                &token.display().to_string(),
                "--between",
                &between.to_string(),
            ];
            proxies.push(Process::start(
                cores.proxies,
                &bins.join("fapi-sidecar"),
                &args(&words),
                &folder.join(format!("{name}.log")),
            )?);
        }
        let outbound = wait_for("the outbound listener", || listening(&folder.join("caller.log"), "outbound"))?;
        let pair = Self { folder, outbound, proxies, others: vec![operator, app] };
        wait_for("the first good answer", || pair.answers().then_some(()))?;
        Ok(pair)
    }

    /// Whether one call through the pair is answered with 200.
    fn answers(&self) -> bool {
        let ask = || -> std::io::Result<bool> {
            let mut tcp = TcpStream::connect(self.outbound)?;
            tcp.set_read_timeout(Some(Duration::from_secs(3)))?;
            let head = format!("GET {} HTTP/1.1\r\nhost: balance.bench\r\nconnection: close\r\n\r\n", self.url());
            tcp.write_all(head.as_bytes())?;
            let mut answer = Vec::new();
            tcp.read_to_end(&mut answer)?;
            Ok(answer.starts_with(b"HTTP/1.1 200"))
        };
        ask().unwrap_or(false)
    }
}

fn documents(inbound: SocketAddr, app: SocketAddr, dpop: bool) -> String {
    let constraint = if dpop { "DPoP" } else { "MTLS" };
    format!(
        "apiVersion: fapi-mesh.dev/v1alpha1
kind: FapiClient
metadata: {{name: caller, namespace: bench}}
spec:
  serviceAccountName: caller
  targets: [{{serviceName: balance}}]
---
apiVersion: fapi-mesh.dev/v1alpha1
kind: FapiPolicy
metadata: {{name: balance, namespace: bench}}
spec:
  targetRefs: [{{name: balance}}]
  senderConstraints: [{constraint}]
  rules:
  - methods: [GET]
    pathPrefixes: [/accounts]
    callers: [{{serviceAccountName: caller}}]
    scopes: [\"accounts:read\"]
---
apiVersion: fapi-mesh.dev/v1alpha1
kind: Workload
metadata: {{name: caller, namespace: bench}}
spec:
  serviceAccountName: caller
---
apiVersion: fapi-mesh.dev/v1alpha1
kind: Workload
metadata: {{name: balance, namespace: bench}}
spec:
  serviceAccountName: balance
  serviceName: balance
  ports: [{{name: http, port: 80, address: \"{inbound}\", appAddress: \"{app}\"}}]
"
    )
}

fn control_address(state: &Path) -> Option<String> {
    let text = fs::read(state.join("addresses.json")).ok()?;
    let addresses: serde_json::Value = serde_json::from_slice(&text).ok()?;
    Some(addresses.get("control")?.as_str()?.to_owned())
}

fn listening(log: &Path, listener: &str) -> Option<SocketAddr> {
    fs::read_to_string(log).ok()?.lines().find_map(|line| {
        let event: serde_json::Value = serde_json::from_str(line).ok()?;
        (event["event"] == "listening" && event["listener"] == listener)
            .then(|| event["address"].as_str()?.parse().ok())?
    })
}

fn new_folder(name: &str) -> Result<PathBuf, Failure> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(format!("fapi-bench-{process}-{number}-{name}"));
    fs::create_dir(&folder)?;
    Ok(folder)
}

/// Three addresses that were free a moment ago.
fn free_addresses() -> Result<[SocketAddr; 3], Failure> {
    let bind = || TcpListener::bind("127.0.0.1:0");
    let held = [bind()?, bind()?, bind()?];
    Ok([held[0].local_addr()?, held[1].local_addr()?, held[2].local_addr()?])
}

/// A root and one leaf for both sides of the floor.
fn certificates(folder: &Path) -> Result<(), Failure> {
    let root_key = KeyPair::generate()?;
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root_pem = root.self_signed(&root_key)?.pem();
    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::default();
    leaf.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let leaf_pem = leaf.signed_by(&key, &Issuer::new(root, root_key))?.pem();
    fs::write(folder.join("root.pem"), root_pem)?;
    fs::write(folder.join("leaf.pem"), leaf_pem)?;
    fs::write(folder.join("leaf.key"), key.serialize_pem())?;
    Ok(())
}
