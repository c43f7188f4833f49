//! A whole mesh for a test: `fapictl demo` without its story.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::{Running, Scratch, program, wait_for};

/// A mesh that runs until it is dropped.
pub struct Mesh {
    demo: Running,
    description: Value,
    folder: PathBuf,
    _scratch: Scratch,
}

impl Mesh {
    /// Starts one.
    ///
    /// # Panics
    /// If it is not up after a minute.
    pub fn start(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let folder = scratch.path().join("mesh");
        let mut demo = Running::start(
            Command::new(program("fapictl"))
                .args(["demo", "--keep", "--no-story", "--state"])
                .arg(&folder)
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        );
        let description = folder.join("demo.json");
        let text = wait_for("the mesh to start", 60, || {
            assert!(demo.ended().is_none(), "the demo has ended; its logs are in {}", folder.display());
            std::fs::read_to_string(&description).ok()
        });
        Self { demo, description: serde_json::from_str(&text).unwrap(), folder, _scratch: scratch }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `demo.json`.
    pub fn description(&self) -> &Value {
        &self.description
    }

    /// An address of a workload: `inbound`, `outbound`, `app` or `admin`.
    ///
    /// # Panics
    /// If there is no such workload or address.
    pub fn address(&self, account: &str, which: &str) -> SocketAddr {
        self.workload(account)[which].as_str().unwrap().parse().unwrap()
    }

    /// The lines of the decision log of a workload's sidecar.
    ///
    /// # Panics
    /// If the log is not there.
    pub fn log(&self, account: &str) -> Vec<Value> {
        lines(Path::new(self.workload(account)["log"].as_str().unwrap()))
    }

    /// The process `fapictl demo` itself.
    pub fn demo(&mut self) -> &mut Running {
        &mut self.demo
    }

    fn workload(&self, account: &str) -> &Value {
        let workloads = self.description["workloads"].as_array().unwrap();
        workloads.iter().find(|workload| workload["service_account"] == account).unwrap()
    }
}

/// The lines of a file that are JSON.
fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
