//! Helm, as a user runs it.

use std::process::Command;

use super::{Kubectl, programs};

/// Runs Helm against a cluster and gives what it says. It ends after five minutes at the latest.
///
/// # Errors
/// What it says when it fails.
///
/// # Panics
/// If it cannot be run.
pub fn helm(kubectl: &Kubectl, args: &[&str]) -> Result<String, String> {
    let own = kubectl.kubeconfig().with_extension("helm");
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "300"]).arg(programs::program("helm")).args(args);
    command.env("KUBECONFIG", kubectl.kubeconfig());
    for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(folder, &own);
    }
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}
