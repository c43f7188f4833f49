//! A whole cluster: one node that runs pods.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::control_plane::{ControlPlane, ready};
use super::folder::Folder;
use super::kubectl::Kubectl;
use super::network::Network;
use super::pki::Authority;
use super::{Owned, node, programs, remains};
use crate::repository;

/// A part of a cluster, which can be stopped and started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Part {
    Etcd,
    ApiServer,
    Containerd,
    Kubelet,
    ControllerManager,
    Scheduler,
    Proxy,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::Containerd => "containerd",
            Self::Kubelet => "kubelet",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Proxy => "kube-proxy",
        }
    }
}

/// A cluster of one node in a network namespace of its own, gone when this is dropped.
pub struct Cluster {
    folder: Owned,
    network: Network,
    control_plane: ControlPlane,
    kubectl: Kubectl,
}

impl Cluster {
    /// Starts one for a test.
    ///
    /// # Panics
    /// If something is missing, with what to do; or if it is not up in a few minutes.
    pub fn start(name: &str) -> Self {
        let missing = programs::missing_for_node();
        assert!(missing.is_empty(), "a cluster cannot run here; missing:\n  {}", missing.join("\n  "));
        Self::bring_up(Folder::of_this_process(name))
    }

    /// Starts one that stays until [`take_down`] is called, and gives its KUBECONFIG.
    ///
    /// # Panics
    /// As [`Cluster::start`] does.
    pub fn keep(name: &str) -> PathBuf {
        let mut cluster = Self::bring_up(Folder::of_nobody(name));
        cluster.folder.release();
        cluster.kubectl.kubeconfig().to_path_buf()
    }

    fn bring_up(folder: Folder) -> Self {
        let mut folder = Owned::new(folder);
        let network = Network::make(&mut folder);
        let control_plane = ControlPlane::on(&network);
        let authority = Authority::make(folder.path());
        control_plane.certify(&authority);
        node::prepare(&folder, &authority, &network, &control_plane.server());
        let kubectl = Kubectl::new(folder.file("admin.kubeconfig"));
        let mut cluster = Self { folder, network, control_plane, kubectl };
        for part in [Part::Etcd, Part::ApiServer, Part::Containerd] {
            cluster.start_part(part);
        }
        for image in ["pause", "coredns"] {
            cluster.load(&programs::program(&format!("{image}.tar")));
        }
        for part in [Part::Kubelet, Part::ControllerManager, Part::Scheduler, Part::Proxy] {
            cluster.start_part(part);
        }
        cluster.wait_until_usable();
        cluster
    }

    fn wait_until_usable(&mut self) {
        let dns = fs::read_to_string(repository().join("tests/cluster/coredns.yaml")).unwrap();
        let dns = dns.replace("10.233.0.10", &self.network.dns().to_string());
        self.kubectl.apply(&dns).unwrap_or_else(|error| panic!("{error}"));
        let ready = remains::within(120, || {
            for part in [Part::Containerd, Part::Kubelet, Part::ControllerManager, Part::Scheduler, Part::Proxy] {
                if let Some(log) = self.folder.ended(part.name()) {
                    panic!("{} has ended; its log is in {}:\n{log}", part.name(), self.folder.path().display());
                }
            }
            let condition = "--for=condition=Available";
            self.kubectl
                .attempt(&["wait", condition, "--timeout=5s", "deployment/coredns", "-n", "kube-system"])
                .is_ok()
        });
        assert!(ready, "the cluster's DNS is not up; logs are in {}", self.folder.path().display());
    }

    /// kubectl, as administrator.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// The address of the node, which this machine reaches.
    pub fn node(&self) -> IpAddr {
        self.network.node()
    }

    /// The address of its DNS, which this machine reaches as well as all Services and pods.
    pub fn dns(&self) -> IpAddr {
        self.network.dns()
    }

    /// Where its files are: logs of its parts, and under `pods` those of the pods.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A command that runs on the node: in its network, with everything else of this machine.
    pub fn on_node(&self, program: &str) -> Command {
        self.folder.command(program)
    }

    /// Gives the node an image; pods use it with `imagePullPolicy: Never`.
    ///
    /// # Panics
    /// If containerd does not take it for the archive of an image.
    pub fn load(&self, archive: &Path) {
        let archive = archive.display().to_string();
        self.ctr(&["images", "import", &archive]).unwrap_or_else(|error| panic!("{archive}: {error}"));
    }

    /// Gives an image of the node another name too.
    ///
    /// # Panics
    /// If there is no such image.
    pub fn tag(&self, image: &str, another: &str) {
        self.ctr(&["images", "tag", "--force", image, another]).unwrap_or_else(|error| panic!("{image}: {error}"));
    }

    /// Asks containerd for something, as a person does.
    fn ctr(&self, args: &[&str]) -> Result<(), String> {
        let mut command = Command::new("ctr");
        command.args(["--address", &node::socket(&self.folder), "--timeout", "60s", "--namespace", "k8s.io"]);
        let output = command.args(args).output().map_err(|error| error.to_string())?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// Ends a part as a service manager does.
    pub fn stop_part(&mut self, part: Part) {
        self.folder.stop(part.name());
    }

    /// Starts a part; of the API server and containerd, waits until they answer.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_part(&mut self, part: Part) {
        let folder = &mut self.folder;
        match part {
            Part::Etcd => self.control_plane.start_etcd(folder),
            Part::ApiServer => {
                self.control_plane.start_api_server(folder);
                ready(folder, &self.kubectl);
            }
            // A kubelet does not wait for it, and ends.
            Part::Containerd => {
                node::start_containerd(folder);
                let answers = remains::within(60, || self.ctr(&["version"]).is_ok());
                assert!(answers, "containerd does not answer; its log is in {}", self.folder.path().display());
            }
            Part::Kubelet => node::start_kubelet(folder, &self.network),
            Part::ControllerManager => node::start_controller_manager(folder),
            Part::Scheduler => node::start_scheduler(folder),
            Part::Proxy => node::start_proxy(folder),
        }
    }

    /// Writes down what only the API server knows.
    fn keep_evidence(&self) {
        for (file, args) in [
            ("events.txt", &["get", "events", "-A", "--sort-by=.lastTimestamp"] as &[&str]),
            ("pods.txt", &["describe", "pods", "-A"]),
            ("objects.yaml", &["get", "fapi-mesh,deployments,services,endpointslices,configmaps", "-A", "-o", "yaml"]),
        ] {
            let text = self.kubectl.attempt(args).unwrap_or_else(|error| error);
            let _ = fs::write(self.folder.file(file), text);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_evidence();
            eprintln!("events.txt, pods.txt and objects.yaml say what went on, pods/ has the logs of all pods");
        }
    }
}

/// Where the KUBECONFIG of a cluster is that was started to stay, if it is there.
pub fn kept(name: &str) -> Option<PathBuf> {
    Folder::open(name).map(|folder| folder.file("admin.kubeconfig"))
}

/// Takes down a cluster that was started to stay; whether there was one.
pub fn take_down(name: &str) -> bool {
    let folder = Folder::open(name);
    let there = folder.is_some();
    folder.into_iter().for_each(Folder::remove);
    there
}
