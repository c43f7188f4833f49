//! What runs on a node beside the API server, and its configuration. Everything it writes is in a folder of its own, below the one
//! of the cluster.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::folder::Folder;
use super::network::Network;
use super::pki::Authority;
use super::{programs, remains};

/// The image of the process that holds a pod's namespaces.
const PAUSE: &str = "fapi-mesh.dev/pause:test";

/// A node of a cluster.
pub(super) struct Node {
    name: &'static str,
    network: Network,
}

impl Node {
    /// A node in a network of its own.
    ///
    /// # Panics
    /// If the network cannot be made.
    pub(super) fn make(folder: &mut Folder, name: &'static str) -> Self {
        Self { name, network: Network::make(folder) }
    }

    /// Where it is.
    pub(super) fn network(&self) -> &Network {
        &self.network
    }

    /// Makes certificates and configuration of everything that runs on it.
    pub(super) fn prepare(&self, folder: &Folder, authority: &Authority<'_>, server: &str, dns: IpAddr) {
        let name = self.name;
        authority.kubeconfig(&format!("kubelet-{name}"), &format!("system:node:{name}"), Some("system:nodes"), server);
        authority.certify(&format!("kubelet-server-{name}"), name, None, &[self.network.node()], &[name]);
        for name in ["cni", "pods", "run"] {
            fs::create_dir_all(self.file(folder, name)).unwrap();
        }
        let write = |name: &str, text: &str| fs::write(self.file(folder, name), text).unwrap();
        write("containerd.toml", &self.containerd(folder));
        write("cni/10-pods.conflist", &self.pod_network(folder).to_string());
        write("kubelet.json", &self.kubelet_settings(folder, dns).to_string());
        write("kube-proxy.json", &self.proxy_settings(folder).to_string());
        make_control_group(&folder.control_group_of(name));
    }

    /// What the folder of the cluster knows one of its processes by.
    pub(super) fn process(&self, program: &str) -> String {
        format!("{}/{program}", self.name)
    }

    pub(super) fn start_containerd(&self, folder: &mut Folder) {
        let mut command = self.network.command("containerd");
        command.args(["--config", &self.file(folder, "containerd.toml")]);
        folder.start(&self.process("containerd"), &mut command);
    }

    pub(super) fn start_kubelet(&self, folder: &mut Folder) {
        let mut command = self.network.command(programs::folder().join("kubelet"));
        command.args([
            format!("--config={}", self.file(folder, "kubelet.json")),
            format!("--kubeconfig={}", path(folder, &format!("kubelet-{}.kubeconfig", self.name))),
            format!("--root-dir={}", self.file(folder, "kubelet")),
            format!("--cert-dir={}", path(folder, "pki")),
            format!("--hostname-override={}", self.name),
            format!("--node-ip={}", self.network.node()),
        ]);
        folder.start(&self.process("kubelet"), &mut command);
    }

    pub(super) fn start_proxy(&self, folder: &mut Folder) {
        let mut command = self.network.command(programs::folder().join("kube-proxy"));
        command.arg(format!("--config={}", self.file(folder, "kube-proxy.json")));
        folder.start(&self.process("kube-proxy"), &mut command);
    }

    /// Asks containerd for something, as a person does.
    ///
    /// # Errors
    /// What it says when it fails.
    pub(super) fn ctr(&self, folder: &Folder, args: &[&str]) -> Result<(), String> {
        let mut command = Command::new("ctr");
        command.args(["--address", &self.socket(folder), "--timeout", "60s", "--namespace", "k8s.io"]);
        let output = command.args(args).output().map_err(|error| error.to_string())?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// Ends everything that runs on it at once.
    pub(super) fn kill(&self, folder: &mut Folder) {
        for program in ["kube-proxy", "kubelet", "containerd"] {
            folder.kill(&self.process(program));
        }
        remains::end_control_group(&folder.control_group_of(self.name));
    }

    /// Where the logs of its pods are, and where they are kept.
    pub(super) fn logs(&self, folder: &Folder) -> [PathBuf; 2] {
        ["pods", "logs"].map(|name| PathBuf::from(self.file(folder, name)))
    }

    /// The socket of containerd.
    fn socket(&self, folder: &Folder) -> String {
        self.file(folder, "run/containerd.sock")
    }

    /// A file of the node.
    fn file(&self, folder: &Folder, name: &str) -> String {
        path(folder, &format!("{}/{name}", self.name))
    }

    fn containerd(&self, folder: &Folder) -> String {
        let at = |name: &str| self.file(folder, name);
        format!(
            r#"version = 2
root = "{root}"
state = "{state}"
[grpc]
address = "{socket}"
[debug]
level = "warn"
[plugins."io.containerd.internal.v1.opt"]
path = "{opt}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
# Only who has CAP_SYS_RESOURCE may make a process less likely to be killed than itself.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".containerd]
# The others depend on the file system of this machine.
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
Root = "{runc}"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{cni}"
conf_dir = "{conf}"
"#,
            root = at("containerd"),
            state = at("run/containerd"),
            socket = self.socket(folder),
            opt = at("opt"),
            runc = at("run/runc"),
            cni = programs::cni().unwrap_or_default(),
            conf = at("cni"),
        )
    }

    /// A route to each pod and no bridge: what a pod sends to a Service comes back the way it went.
    fn pod_network(&self, folder: &Folder) -> Value {
        let range = json!([[{"subnet": self.network.pods()}]]);
        json!({"cniVersion": "0.4.0", "name": format!("{}-pods", self.network.name()), "plugins": [
            {
                "type": "ptp",
                "ipam": {"type": "host-local", "dataDir": self.file(folder, "run/addresses"), "ranges": range,
                    "routes": [{"dst": "0.0.0.0/0"}]},
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ]})
    }

    fn kubelet_settings(&self, folder: &Folder, dns: IpAddr) -> Value {
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": path(folder, "pki/ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": path(folder, &format!("pki/kubelet-server-{}.crt", self.name)),
            "tlsPrivateKeyFile": path(folder, &format!("pki/kubelet-server-{}.key", self.name)),
            "containerRuntimeEndpoint": format!("unix://{}", self.socket(folder)),
            "clusterDNS": [dns],
            "clusterDomain": "cluster.local",
            "resolvConf": "/dev/null",
            "podLogsDir": self.file(folder, "pods"),
            "volumePluginDir": self.file(folder, "volume-plugins"),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}", folder.control_group_of(self.name)),
            "failCgroupV1": false,
            "enforceNodeAllocatable": [],
            "failSwapOn": false,
            // It shows that it lives each three seconds.
            "nodeLeaseDurationSeconds": 12,
            "localStorageCapacityIsolation": false,
            // How full the disk of this machine is, is no matter of the cluster's: nothing is evicted, no image removed.
            "evictionHard": {"memory.available": "10Mi"},
            "imageGCHighThresholdPercent": 100,
        })
    }

    fn proxy_settings(&self, folder: &Folder) -> Value {
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": path(folder, "kube-proxy.kubeconfig")},
            "hostnameOverride": self.name,
            "mode": "nftables",
            "clusterCIDR": self.network.pods(),
            "healthzBindAddress": "127.0.0.1:10256",
            // These belong to the whole machine.
            "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        })
    }
}

/// The control group above all pods of a node, one for each hierarchy there is: a kubelet takes it as it finds it.
fn make_control_group(name: &str) {
    for (kind, mut folder) in remains::mounts() {
        if kind == "cgroup" || kind == "cgroup2" {
            delegate(&folder);
            for part in Path::new(name) {
                folder.push(part);
                let _ = fs::create_dir(&folder);
                delegate(&folder);
            }
        }
    }
}

/// With version 2 of control groups, what may be limited below is said above.
fn delegate(folder: &Path) {
    if let Ok(controllers) = fs::read_to_string(folder.join("cgroup.controllers")) {
        let all: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
        let _ = fs::write(folder.join("cgroup.subtree_control"), all.join(" "));
    }
}

fn path(folder: &Folder, name: &str) -> String {
    folder.file(name).display().to_string()
}
