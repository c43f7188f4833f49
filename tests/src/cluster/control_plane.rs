//! etcd and the API server.

use std::net::{IpAddr, Ipv4Addr};

use super::asked;
use super::folder::Folder;
use super::kubectl::Kubectl;
use super::network::{self, Network};
use super::pki::Authority;
use super::programs;
use crate::{free_port, wait_for};

/// The number of the Services of an API server that has no network.
const NO_NETWORK: u8 = 255;

/// Where an API server and its etcd listen.
pub(super) struct ControlPlane {
    address: IpAddr,
    port: u16,
    etcd: u16,
    services: u8,
}

impl ControlPlane {
    /// On this machine's loopback, at free ports.
    pub(super) fn on_loopback() -> Self {
        Self { address: Ipv4Addr::LOCALHOST.into(), port: free_port(), etcd: free_port(), services: NO_NETWORK }
    }

    /// On the node of a network that nobody else is in.
    pub(super) fn on(network: &Network) -> Self {
        Self { address: network.node(), port: 6443, etcd: 2379, services: network.number() }
    }

    pub(super) fn server(&self) -> String {
        format!("https://{}:{}", self.address, self.port)
    }

    /// Makes the certificates that both need, and `admin.kubeconfig`.
    pub(super) fn certify(&self, authority: &Authority<'_>) {
        let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        let addresses = [self.address, network::service(self.services, 1)];
        authority.certify("kube-apiserver", "kube-apiserver", None, &addresses, &names);
        // In the group of masters: what the API server asks of a kubelet, logs and exec, is for administrators.
        authority.certify("kubelet-client", "kube-apiserver-kubelet-client", Some("system:masters"), &[], &[]);
        authority.kubeconfig("admin", "admin", Some("system:masters"), &self.server());
    }

    pub(super) fn start_etcd(&self, folder: &mut Folder) {
        let mut command = folder.command(programs::folder().join("etcd"));
        command.arg("--data-dir").arg(folder.file("etcd")).args([
            // What a power failure takes away, no test misses.
            "--unsafe-no-fsync",
            "--log-level=warn",
            "--listen-peer-urls=http://127.0.0.1:0",
        ]);
        for flag in ["listen-client-urls", "advertise-client-urls"] {
            command.arg(format!("--{flag}=http://127.0.0.1:{}", self.etcd));
        }
        folder.start("etcd", &mut command);
    }

    /// Starts the API server; [`ready`] tells when it answers.
    pub(super) fn start_api_server(&self, folder: &mut Folder) {
        let file = |name: &str| folder.file(&format!("pki/{name}")).display().to_string();
        let flags = [
            ("etcd-servers", format!("http://127.0.0.1:{}", self.etcd)),
            ("bind-address", self.address.to_string()),
            ("advertise-address", self.address.to_string()),
            ("secure-port", self.port.to_string()),
            ("tls-cert-file", file("kube-apiserver.crt")),
            ("tls-private-key-file", file("kube-apiserver.key")),
            ("client-ca-file", file("ca.crt")),
            ("service-account-issuer", "https://kubernetes.default.svc.cluster.local".to_owned()),
            ("service-account-key-file", file("accounts.pub")),
            ("service-account-signing-key-file", file("accounts.key")),
            ("service-cluster-ip-range", network::services(self.services)),
            ("authorization-mode", "Node,RBAC".to_owned()),
            ("enable-admission-plugins", "NodeRestriction".to_owned()),
            ("allow-privileged", "true".to_owned()),
            // By name it would look a node up in a DNS that does not know it.
            ("kubelet-preferred-address-types", "InternalIP".to_owned()),
            ("kubelet-client-certificate", file("kubelet-client.crt")),
            ("kubelet-client-key", file("kubelet-client.key")),
        ];
        let mut command = folder.command(programs::folder().join("kube-apiserver"));
        command.args(flags.into_iter().chain(asked::flags(folder)).map(|(name, value)| format!("--{name}={value}")));
        // An API server on loopback is no endpoint of a Service: it would refuse to advertise itself.
        if self.address.is_loopback() {
            command.arg("--endpoint-reconciler-type=none");
        }
        folder.start("kube-apiserver", &mut command);
    }
}

/// Waits until the API server says that it is ready.
///
/// # Panics
/// If it ends, or is not ready in two minutes.
pub(super) fn ready(folder: &mut Folder, kubectl: &Kubectl) {
    wait_for("the API server to be ready", 120, || {
        for name in ["etcd", "kube-apiserver"] {
            if let Some(log) = folder.ended(name) {
                panic!("{name} has ended; its log is in {}:\n{log}", folder.path().display());
            }
        }
        // Ready, it may not have made its own namespaces yet.
        kubectl.attempt(&["get", "namespace", "default", "kube-system"]).ok()?;
        kubectl.attempt(&["get", "--raw", "/readyz"]).ok()
    });
}
