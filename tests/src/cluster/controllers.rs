//! The controller manager and the scheduler, which run where the API server does.

use super::folder::Folder;
use super::pki::Authority;
use super::programs;

/// Makes the certificates of both, and of the proxies, by which they know the API server.
pub(super) fn certify(authority: &Authority<'_>, server: &str) {
    for name in ["kube-controller-manager", "kube-scheduler", "kube-proxy"] {
        authority.kubeconfig(name, &format!("system:{name}"), None, server);
    }
}

/// Starts the controller manager; `watchful` is one that gives a node up that says nothing for twelve seconds.
pub(super) fn start_manager(folder: &mut Folder, watchful: bool) {
    let mut command = folder.command(programs::folder().join("kube-controller-manager"));
    command.args(quiet(folder, "kube-controller-manager")).args([
        format!("--service-account-private-key-file={}", path(folder, "pki/accounts.key")),
        format!("--root-ca-file={}", path(folder, "pki/ca.crt")),
        format!("--cluster-signing-cert-file={}", path(folder, "pki/ca.crt")),
        format!("--cluster-signing-key-file={}", path(folder, "pki/ca.key")),
        "--use-service-account-credentials".to_owned(),
    ]);
    if watchful {
        command.args(["--node-monitor-grace-period=12s", "--node-monitor-period=1s"]);
    }
    folder.start("kube-controller-manager", &mut command);
}

pub(super) fn start_scheduler(folder: &mut Folder) {
    let mut command = folder.command(programs::folder().join("kube-scheduler"));
    command.args(quiet(folder, "kube-scheduler"));
    folder.start("kube-scheduler", &mut command);
}

/// What the controllers have in common: one of each, known to itself only.
fn quiet(folder: &Folder, name: &str) -> [String; 3] {
    [
        format!("--kubeconfig={}", path(folder, &format!("{name}.kubeconfig"))),
        "--leader-elect=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
    ]
}

fn path(folder: &Folder, name: &str) -> String {
    folder.file(name).display().to_string()
}
