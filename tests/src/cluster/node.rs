//! What runs on a node beside the API server, and its configuration. Everything it writes is in the folder of the cluster.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::folder::Folder;
use super::network::Network;
use super::pki::Authority;
use super::{programs, remains};

/// The name of the node.
pub(super) const NAME: &str = "node";
/// The image of the process that holds a pod's namespaces.
const PAUSE: &str = "fapi-mesh.dev/pause:test";
/// Makes certificates and configuration of everything that runs on the node.
pub(super) fn prepare(folder: &Folder, authority: &Authority<'_>, network: &Network, server: &str) {
    let kubelet = format!("system:node:{NAME}");
    authority.kubeconfig("kubelet", &kubelet, Some("system:nodes"), server);
    authority.certify("kubelet-server", NAME, None, &[network.node()], &[NAME]);
    for name in ["kube-controller-manager", "kube-scheduler", "kube-proxy"] {
        authority.kubeconfig(name, &format!("system:{name}"), None, server);
    }
    for name in ["cni", "pods", "run"] {
        fs::create_dir_all(folder.file(name)).unwrap();
    }
    write(folder, "containerd.toml", &containerd(folder));
    write(folder, "cni/10-pods.conflist", &pod_network(folder, network).to_string());
    write(folder, "kubelet.json", &kubelet_settings(folder, network).to_string());
    write(folder, "kube-proxy.json", &proxy_settings(folder, network).to_string());
    make_control_group(&folder.control_group());
}

/// The socket of containerd.
pub(super) fn socket(folder: &Folder) -> String {
    path(folder, "run/containerd.sock")
}

pub(super) fn start_containerd(folder: &mut Folder) {
    let mut command = folder.command("containerd");
    command.arg("--config").arg(folder.file("containerd.toml"));
    folder.start("containerd", &mut command);
}

pub(super) fn start_kubelet(folder: &mut Folder, network: &Network) {
    let mut command = folder.command(programs::folder().join("kubelet"));
    command.args([
        format!("--config={}", path(folder, "kubelet.json")),
        format!("--kubeconfig={}", path(folder, "kubelet.kubeconfig")),
        format!("--root-dir={}", path(folder, "kubelet")),
        format!("--cert-dir={}", path(folder, "pki")),
        format!("--hostname-override={NAME}"),
        format!("--node-ip={}", network.node()),
    ]);
    folder.start("kubelet", &mut command);
}

pub(super) fn start_controller_manager(folder: &mut Folder) {
    let mut command = folder.command(programs::folder().join("kube-controller-manager"));
    command.args(quiet(folder, "kube-controller-manager")).args([
        format!("--service-account-private-key-file={}", path(folder, "pki/accounts.key")),
        format!("--root-ca-file={}", path(folder, "pki/ca.crt")),
        format!("--cluster-signing-cert-file={}", path(folder, "pki/ca.crt")),
        format!("--cluster-signing-key-file={}", path(folder, "pki/ca.key")),
        "--use-service-account-credentials".to_owned(),
    ]);
    folder.start("kube-controller-manager", &mut command);
}

pub(super) fn start_scheduler(folder: &mut Folder) {
    let mut command = folder.command(programs::folder().join("kube-scheduler"));
    command.args(quiet(folder, "kube-scheduler"));
    folder.start("kube-scheduler", &mut command);
}

pub(super) fn start_proxy(folder: &mut Folder) {
    let mut command = folder.command(programs::folder().join("kube-proxy"));
    command.arg(format!("--config={}", path(folder, "kube-proxy.json")));
    folder.start("kube-proxy", &mut command);
}

/// What the controllers have in common: one of each, known to itself only.
fn quiet(folder: &Folder, name: &str) -> [String; 3] {
    [
        format!("--kubeconfig={}", path(folder, &format!("{name}.kubeconfig"))),
        "--leader-elect=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
    ]
}

fn containerd(folder: &Folder) -> String {
    let at = |name: &str| path(folder, name);
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
        socket = socket(folder),
        opt = at("opt"),
        runc = at("run/runc"),
        cni = programs::cni().unwrap_or_default(),
        conf = at("cni"),
    )
}

/// A route to each pod and no bridge: what a pod sends to a Service comes back the way it went.
fn pod_network(folder: &Folder, network: &Network) -> Value {
    let range = json!([[{"subnet": network.pods()}]]);
    json!({"cniVersion": "0.4.0", "name": format!("{}-pods", folder.network().unwrap_or_default()), "plugins": [
        {
            "type": "ptp",
            "ipam": {"type": "host-local", "dataDir": path(folder, "run/addresses"), "ranges": range,
                "routes": [{"dst": "0.0.0.0/0"}]},
        },
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]})
}

fn kubelet_settings(folder: &Folder, network: &Network) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": path(folder, "pki/ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": path(folder, "pki/kubelet-server.crt"),
        "tlsPrivateKeyFile": path(folder, "pki/kubelet-server.key"),
        "containerRuntimeEndpoint": format!("unix://{}", socket(folder)),
        "clusterDNS": [network.dns()],
        "clusterDomain": "cluster.local",
        "resolvConf": "/dev/null",
        "podLogsDir": path(folder, "pods"),
        "volumePluginDir": path(folder, "volume-plugins"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", folder.control_group()),
        "failCgroupV1": false,
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        "localStorageCapacityIsolation": false,
        // How full the disk of this machine is, is no matter of the cluster's: nothing is evicted, no image removed.
        "evictionHard": {"memory.available": "10Mi"},
        "imageGCHighThresholdPercent": 100,
    })
}

fn proxy_settings(folder: &Folder, network: &Network) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": path(folder, "kube-proxy.kubeconfig")},
        "hostnameOverride": NAME,
        "mode": "nftables",
        "clusterCIDR": network.pods(),
        "healthzBindAddress": "127.0.0.1:10256",
        // These belong to the whole machine.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    })
}

/// The control group above all pods, one for each hierarchy there is: a kubelet takes it as it finds it.
fn make_control_group(name: &str) {
    for (kind, at) in remains::mounts() {
        if kind == "cgroup" || kind == "cgroup2" {
            let _ = fs::create_dir(at.join(name));
            // With version 2, what may be limited below is said above.
            if let Ok(controllers) = fs::read_to_string(at.join("cgroup.controllers")) {
                let all: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
                for folder in [at.clone(), at.join(name)] {
                    let _ = fs::write(folder.join("cgroup.subtree_control"), all.join(" "));
                }
            }
        }
    }
}

fn path(folder: &Folder, name: &str) -> String {
    folder.file(name).display().to_string()
}

fn write(folder: &Folder, name: &str, text: &str) {
    let file = folder.file(name);
    let error = |error| panic!("{}: {error}", Path::new(&file).display());
    fs::write(&file, text).unwrap_or_else(error);
}
