//! What tests share.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

pub(crate) mod api;
pub(crate) mod bank;
pub(crate) mod cluster;
mod dice;
pub(crate) mod foreign;
pub(crate) mod mesh;

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use fapi::{SpiffeId, TrustDomain, UnixTime};
use tracing::{Dispatch, subscriber::NoSubscriber};

pub(crate) use self::dice::Dice;
use crate::clock::Clock;
use crate::events::Events;
use crate::inject::Allowed;
use crate::model::Mesh;
use crate::pki::{Authority, PkiError};
use crate::shelf::Shelf;

/// The time at which tests play; certificates are checked against the machine's clock only in tests with sockets.
pub(crate) const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// A folder of its own for one test, removed at its end.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        let name = crate::crypto::random::<8>().map(|byte| format!("{byte:02x}")).concat();
        let path = std::env::temp_dir().join(format!("fapi-operator-test-{name}"));
        std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The authority of a state folder.
pub(crate) fn authority(state: &Path, trust_domain: &TrustDomain, now: UnixTime) -> Result<Authority, PkiError> {
    Authority::open(Shelf::Folder(state.join("pki")), Some(state.join("trust-bundle.pem")), trust_domain, now)
}

/// The trust domain of the tests.
pub(crate) fn domain() -> TrustDomain {
    TrustDomain::parse("bank.example").unwrap()
}

/// A FapiMesh in force that sets what it must and allows this.
pub(crate) fn fapi_mesh(allowed: Allowed) -> Mesh {
    let hour = Duration::from_secs(3600);
    Mesh {
        generation: 1,
        fault: None,
        in_force: true,
        trust_domain: None,
        certificate_lifetime: hour,
        token_lifetime: hour,
        unmeshed_refused: false,
        allowed,
    }
}

/// `spiffe://bank.example/ns/bank/sa/<name>`.
pub(crate) fn id(name: &str) -> SpiffeId {
    SpiffeId::new(&domain(), "bank", name).unwrap()
}

/// Runs openssl, the second opinion on everything X.509; its standard output, or `None` if it says no.
pub(crate) fn openssl(dir: &Path, arguments: &[&str]) -> Option<Vec<u8>> {
    let mut command = Command::new("openssl");
    let output = command.current_dir(dir).args(arguments).stdin(Stdio::null()).output().unwrap();
    output.status.success().then_some(output.stdout)
}

/// What is logged on this thread while the guard lives, as JSON lines.
pub(crate) fn capture_log() -> (Log, tracing::subscriber::DefaultGuard) {
    // With one subscriber alone, a place in the code that a thread without any comes to first is taken for one that nobody hears.
    static ANOTHER: OnceLock<Dispatch> = OnceLock::new();
    ANOTHER.get_or_init(|| Dispatch::new(NoSubscriber::default()));
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone()).finish();
    (log, tracing::subscriber::set_default(subscriber))
}

/// Captured log lines.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The lines of one event.
    pub(crate) fn of(&self, event: &str) -> Vec<serde_json::Value> {
        let lines = self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>();
        lines.into_iter().filter(|line: &serde_json::Value| line["event"] == event).collect()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A place to tell Events in, and what is told there: of what, why, in which words. Each is given once.
pub(crate) fn told() -> (Events, impl Fn() -> Vec<[String; 3]>) {
    let (events, unwritten) = Events::open(api::client(|_| api::failure(500)), Clock::manual(NOW));
    (events, move || unwritten.told())
}

/// A CSR in DER, made by openssl, with the names and usages of somebody else in it.
pub(crate) fn greedy_csr(dir: &Path, algorithm: &[&str]) -> Vec<u8> {
    let mut arguments = vec!["req", "-new", "-nodes", "-keyout", "csr.key", "-outform", "DER", "-newkey"];
    arguments.extend_from_slice(algorithm);
    arguments.extend_from_slice(&["-subj", "/CN=root", "-addext", "basicConstraints=critical,CA:TRUE"]);
    arguments.extend_from_slice(&["-addext", "subjectAltName=URI:spiffe://bank.example/ns/fapi-mesh/sa/fapi-operator"]);
    openssl(dir, &arguments).unwrap()
}

/// openssl's words for a P-256 key.
pub(crate) const P256: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
