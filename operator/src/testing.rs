//! What tests share.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

pub(crate) mod bank;
pub(crate) mod mesh;

use std::path::{Path, PathBuf};
use std::process::Command;

use fapi::{SpiffeId, TrustDomain, UnixTime};

/// The time at which tests play; certificates are checked against the machine's clock only in tests with sockets.
pub(crate) const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// A folder of its own for one test, removed at its end.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        let name = crate::crypto::random::<8>().map(|byte| format!("{byte:02x}")).concat();
        let path = std::env::temp_dir().join(format!("fapi-operator-test-{name}"));
        std::fs::create_dir(&path).unwrap();
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

/// The trust domain of the tests.
pub(crate) fn domain() -> TrustDomain {
    TrustDomain::parse("bank.example").unwrap()
}

/// `spiffe://bank.example/ns/bank/sa/<name>`.
pub(crate) fn id(name: &str) -> SpiffeId {
    SpiffeId::new(&domain(), "bank", name).unwrap()
}

/// Runs openssl, the second opinion on everything X.509; its standard output, or `None` if it says no.
pub(crate) fn openssl(dir: &Path, arguments: &[&str]) -> Option<Vec<u8>> {
    let output = Command::new("openssl").current_dir(dir).args(arguments).output().unwrap();
    output.status.success().then_some(output.stdout)
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
