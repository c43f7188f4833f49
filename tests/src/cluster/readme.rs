//! README's section "On your cluster", as it stands there.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use super::Cluster;
use super::programs;
use crate::repository;

/// The commands of the block below a heading of README.
///
/// # Panics
/// If there are none.
fn block(heading: &str) -> String {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let (_, section) = readme.split_once(&format!("\n## {heading}\n")).unwrap();
    let (_, block) = section.split_once("\n```sh\n").unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

/// Runs the commands below "On your cluster", all of which must work, and gives what they print; what they leave in the background
/// is ended. The images are on the node by their names, as README asks, so nothing is changed. The shell is on the node, where port
/// 8080 is nobody else's.
///
/// # Panics
/// If one of them fails, with what all have said.
pub fn on_your_cluster(cluster: &Cluster, scratch: &Path) -> String {
    let bin = programs::folder();
    let known = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths([bin].into_iter().chain(std::env::split_paths(&known)));
    let mut said = File::create_new(scratch.join("said")).unwrap();
    // No pipe: what is in the background would keep it open.
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "600", "nsenter"]).arg(format!("--net=/run/netns/{}", cluster.networks()[0]));
    command.args(["bash", "-euxc", &block("On your cluster")]).current_dir(repository()).process_group(0);
    command.env("PATH", path.unwrap()).env("KUBECONFIG", cluster.kubectl().kubeconfig()).env("HOME", scratch);
    let mut shell = command
        .stdin(Stdio::null())
        .stdout(said.try_clone().unwrap())
        .stderr(said.try_clone().unwrap())
        .spawn()
        .unwrap();
    let status = shell.wait().unwrap();
    if let Some(group) = Pid::from_raw(shell.id().cast_signed()) {
        let _ = kill_process_group(group, Signal::TERM);
    }
    let mut text = String::new();
    said.rewind().unwrap();
    said.read_to_string(&mut text).unwrap();
    assert!(status.success(), "{text}");
    text
}
