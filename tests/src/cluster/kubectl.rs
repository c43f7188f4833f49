//! kubectl, as a user runs it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::programs;
use crate::fapictl;

/// kubectl of one cluster.
#[derive(Clone)]
pub struct Kubectl {
    kubeconfig: PathBuf,
}

impl Kubectl {
    pub(super) fn new(kubeconfig: PathBuf) -> Self {
        Self { kubeconfig }
    }

    /// The KUBECONFIG.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Runs it and gives what it says.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(&self, args: &[&str]) -> String {
        self.attempt(args).unwrap_or_else(|error| panic!("kubectl {}: {error}", args.join(" ")))
    }

    /// The object or list that `get` gives.
    ///
    /// # Panics
    /// If it fails.
    pub fn get(&self, args: &[&str]) -> Value {
        let args = [&["get", "-o", "json"], args].concat();
        serde_json::from_str(&self.run(&args)).unwrap()
    }

    /// The pods of an app that do not end; those first that are ready.
    ///
    /// # Errors
    /// What kubectl says when it fails.
    ///
    /// # Panics
    /// If that is no list of pods.
    pub fn pods_of(&self, namespace: &str, app: &str) -> Result<Vec<Value>, String> {
        self.pods_with(&["-n", namespace, "-l", &format!("app={app}")])
    }

    pub(super) fn pods_with(&self, selector: &[&str]) -> Result<Vec<Value>, String> {
        let list = self.attempt(&[&["get", "pods", "-o", "json"], selector].concat())?;
        let list: Value = serde_json::from_str(&list).unwrap();
        let mut pods = list["items"].as_array().unwrap().clone();
        pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        pods.sort_by_key(|pod| !is_ready(pod));
        Ok(pods)
    }

    /// Runs it.
    ///
    /// # Errors
    /// What it says when it fails.
    pub fn attempt(&self, args: &[&str]) -> Result<String, String> {
        self.with_input(args, "")
    }

    /// Applies documents as if they stood in a file.
    ///
    /// # Errors
    /// What kubectl says when it fails.
    pub fn apply(&self, documents: &str) -> Result<String, String> {
        self.with_input(&["apply", "-f", "-"], documents)
    }

    /// Runs it with something to read.
    ///
    /// # Errors
    /// What it says when it fails.
    ///
    /// # Panics
    /// If it cannot be run.
    pub fn with_input(&self, args: &[&str], input: &str) -> Result<String, String> {
        let mut child = self
            .command()
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("kubectl: {error}"));
        // What does not read its input is done with it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Runs fapictl as the same user; everything that it says, complaints last.
    ///
    /// # Errors
    /// The same, when it fails.
    pub fn fapictl(&self, args: &[&str]) -> Result<String, String> {
        fapictl::said(self.direct(fapictl::command()).args(args))
    }

    /// The bare command, for what the others cannot do. It ends after five minutes at the latest.
    pub fn command(&self) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "300"]).arg(programs::folder().join("kubectl"));
        self.direct(command)
    }

    /// A command that runs until it is killed.
    pub(super) fn endless(&self) -> Command {
        self.direct(Command::new(programs::folder().join("kubectl")))
    }

    /// Tells a command which cluster it is for.
    fn direct(&self, mut command: Command) -> Command {
        command.env("KUBECONFIG", &self.kubeconfig);
        // What it remembers of an API server by address would be wrong for the next one at that address.
        command.env("KUBECACHEDIR", self.kubeconfig.with_extension("cache"));
        command
    }
}

/// How kubectl names a pod.
pub(super) fn target(pod: &Value) -> String {
    format!("pod/{}", pod["metadata"]["name"].as_str().unwrap())
}

/// Whether a pod says that it is ready.
pub(super) fn is_ready(pod: &Value) -> bool {
    let ready = |one: &Value| one["type"] == "Ready" && one["status"] == "True";
    pod["status"]["conditions"].as_array().is_some_and(|conditions| conditions.iter().any(ready))
}
