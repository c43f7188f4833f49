//! The programs of a cluster: where they are, and what to do about those that are missing.

use std::path::{Path, PathBuf};

use super::network;

/// What `tests/cluster/build` makes for an API server alone.
pub(super) const API_SERVER: [&str; 4] = ["etcd", "helm", "kube-apiserver", "kubectl"];

/// What it makes beside these for a node.
const NODE: [&str; 8] = [
    "coredns",
    "coredns.tar",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubelet",
    "pause",
    "pause.tar",
];

/// What a node takes from the system, and the Debian package that brings it.
const SYSTEM: [(&str, &str); 9] = [
    ("containerd", "containerd"),
    ("conntrack", "conntrack"),
    ("ctr", "containerd"),
    ("curl", "curl"),
    ("ip", "iproute2"),
    ("mount", "mount"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("runc", "runc"),
];

/// Where Debian and everyone else put the CNI plugins.
const CNI: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// The folder of the programs that were built.
///
/// # Panics
/// As [`target`].
pub(super) fn folder() -> PathBuf {
    target().join("cluster/bin")
}

/// The folder of what operators of tests have asked.
///
/// # Panics
/// As [`target`].
pub(super) fn asked() -> PathBuf {
    target().join("cluster/asked")
}

/// The folder of all that was built, in which this very program lies.
///
/// # Panics
/// If it does not lie where cargo puts it.
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
fn target() -> PathBuf {
    let me = std::env::current_exe().unwrap();
    // target/debug/cluster, target/debug/deps/some_test-0123 -> target/cluster/bin
    let profile = me.ancestors().skip(1).find(|folder| !folder.ends_with("deps")).unwrap();
    profile.parent().unwrap().to_path_buf()
}

/// A program that was built, or the archive of an image.
///
/// # Panics
/// If it is not there.
#[allow(clippy::panic, reason = "a test fails by panicking")]
pub fn program(name: &str) -> PathBuf {
    let program = folder().join(name);
    assert!(program.is_file(), "{} is not there: run `make cluster-programs`", program.display());
    program
}

/// The archive of an image of ours that was packed.
///
/// # Panics
/// If it is not there.
#[allow(clippy::panic, reason = "a test fails by panicking")]
pub fn image(name: &str) -> PathBuf {
    let archive = target().join("images").join(name).with_extension("tar");
    assert!(archive.is_file(), "{} is not there: run `make images IMAGES_PROFILE=dev`", archive.display());
    archive
}

/// The folder of an earlier release: the archives of its images, and its charts in `source/charts`.
///
/// # Panics
/// If it was not made.
#[allow(clippy::panic, reason = "a test fails by panicking")]
pub fn before() -> PathBuf {
    let folder = target().join("before");
    assert!(folder.join("commit").is_file(), "{} is not whole: run `make images-before`", folder.display());
    folder
}

/// What keeps this machine from running an API server, a line each; empty if nothing does.
pub fn missing_for_api_server() -> Vec<String> {
    not_built(&API_SERVER)
}

/// What keeps this machine from running a node, a line each; empty if nothing does.
pub fn missing_for_node() -> Vec<String> {
    [not_built(&API_SERVER), not_built(&NODE), of_machine()].concat()
}

/// What keeps this machine from building all of it and running a node, a line each; empty if nothing does. It can be asked before
/// anything is built.
pub fn lacking() -> Vec<String> {
    let mut missing = of_machine();
    if rustix::process::geteuid().is_root()
        && system("ip").is_some()
        && let Some(error) = network::hindrance()
    {
        missing.push(format!("the right to make network namespaces: use a privileged container ({error})"));
    }
    let built = not_built(&API_SERVER).is_empty() && not_built(&NODE).is_empty();
    if !built && system("go").is_none() {
        missing
            .push("go, for programs that are not built yet: install Go 1.26 or later (https://go.dev/dl)".to_owned());
    }
    missing
}

fn of_machine() -> Vec<String> {
    let mut missing = Vec::new();
    if !cfg!(target_os = "linux") {
        missing.push("Linux: containers need its kernel; use a virtual machine".to_owned());
    }
    if !rustix::process::geteuid().is_root() {
        missing.push("root: namespaces, mounts and control groups are made; run it by sudo -E".to_owned());
    }
    let mut packages: Vec<&str> =
        SYSTEM.iter().filter(|(program, _)| system(program).is_none()).map(|(_, package)| *package).collect();
    if cni().is_none() {
        packages.push("containernetworking-plugins");
    }
    packages.sort_unstable();
    packages.dedup();
    if !packages.is_empty() {
        missing.push(format!("programs of the system: apt-get install {}", packages.join(" ")));
    }
    missing
}

/// The folder of the CNI plugins.
pub(super) fn cni() -> Option<&'static str> {
    CNI.into_iter().find(|folder| Path::new(folder).join("bridge").is_file())
}

fn not_built(names: &[&str]) -> Vec<String> {
    let folder = folder();
    let missing: Vec<&str> = names.iter().copied().filter(|name| !folder.join(name).is_file()).collect();
    if missing.is_empty() {
        return Vec::new();
    }
    vec![format!("{} in {}: run `make cluster-programs` (needs Go)", missing.join(", "), folder.display())]
}

fn system(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
