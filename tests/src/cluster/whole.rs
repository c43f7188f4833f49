//! A whole cluster: a node that runs pods, or two.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::control_plane::{ControlPlane, ready};
use super::folder::{Folder, turn};
use super::kubectl::Kubectl;
use super::logs::Logs;
use super::node::Node;
use super::pki::Authority;
use super::{Owned, controllers, programs, remains};
use crate::repository;

/// The names of nodes. The first is also where the control plane and the DNS are; the second is there if a test needs it.
pub const NODES: [&str; 2] = ["node-1", "node-2"];

/// How many warnings of a cluster a failing test repeats.
const WARNINGS: usize = 30;

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
    /// Those that every node has.
    const OF_NODES: [Self; 3] = [Self::Containerd, Self::Kubelet, Self::Proxy];

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

/// A cluster, each node of it in a network namespace of its own, gone when this is dropped.
pub struct Cluster {
    // Before the folder: it ends before that goes.
    logs: Logs,
    folder: Owned,
    nodes: Vec<Node>,
    control_plane: ControlPlane,
    kubectl: Kubectl,
}

impl Cluster {
    /// Starts one of one node for a test.
    ///
    /// # Panics
    /// If something is missing, with what to do; or if it is not up in a few minutes.
    pub fn start(name: &str) -> Self {
        Self::for_a_test(name, 1)
    }

    /// Starts one of two nodes for a test. That a node has died is noticed after twelve seconds.
    ///
    /// # Panics
    /// As [`Cluster::start`] does.
    pub fn start_two_nodes(name: &str) -> Self {
        Self::for_a_test(name, 2)
    }

    fn for_a_test(name: &str, nodes: usize) -> Self {
        let missing = programs::missing_for_node();
        assert!(missing.is_empty(), "a cluster cannot run here; missing:\n  {}", missing.join("\n  "));
        Self::bring_up(Folder::of_this_process(name), nodes)
    }

    /// Starts one of one node that stays until [`take_down`] is called, and gives its KUBECONFIG.
    ///
    /// # Panics
    /// As [`Cluster::start`] does.
    pub fn keep(name: &str) -> PathBuf {
        let mut cluster = Self::bring_up(Folder::of_nobody(name), 1);
        cluster.folder.release();
        cluster.kubectl.kubeconfig().to_path_buf()
    }

    fn bring_up(folder: Folder, nodes: usize) -> Self {
        let mut folder = Owned::new(folder);
        let nodes: Vec<Node> = NODES[..nodes].iter().map(|name| Node::make(&mut folder, name)).collect();
        let first = nodes[0].network();
        nodes[1..].iter().for_each(|node| first.join(node.network()));
        let control_plane = ControlPlane::on(first);
        let authority = Authority::make(folder.path());
        control_plane.certify(&authority);
        controllers::certify(&authority, &control_plane.server());
        for node in &nodes {
            node.prepare(&folder, &authority, &control_plane.server(), first.dns());
        }
        let kubectl = Kubectl::new(folder.file("admin.kubeconfig"));
        let logs = Logs::keep(nodes.iter().map(|node| node.logs(&folder)).collect());
        let mut cluster = Self { logs, folder, nodes, control_plane, kubectl };
        cluster.start_part(Part::Etcd);
        cluster.start_part(Part::ApiServer);
        cluster.start_on_all(Part::Containerd);
        for image in ["pause", "coredns"] {
            cluster.load(&programs::program(&format!("{image}.tar")));
        }
        cluster.start_on_all(Part::Kubelet);
        cluster.start_part(Part::ControllerManager);
        cluster.start_part(Part::Scheduler);
        cluster.start_on_all(Part::Proxy);
        cluster.wait_until_usable();
        cluster
    }

    fn wait_until_usable(&mut self) {
        let dns = fs::read_to_string(repository().join("tests/cluster/coredns.yaml")).unwrap();
        let dns = dns.replace("10.233.0.10", &self.dns().to_string());
        self.kubectl.apply(&dns).unwrap_or_else(|error| panic!("{error}"));
        let of_nodes = self.nodes.iter().flat_map(|node| Part::OF_NODES.map(|part| node.process(part.name())));
        let others = [Part::ControllerManager, Part::Scheduler].map(|part| part.name().to_owned());
        let processes: Vec<String> = of_nodes.chain(others).collect();
        let kubectl = &self.kubectl;
        let is = |what: &[&str]| kubectl.attempt(&[&["wait", "--timeout=5s"], what].concat()).is_ok();
        let ready = remains::within(240, || {
            for process in &processes {
                if let Some(log) = self.folder.ended(process) {
                    panic!("{process} has ended; its log is in {}:\n{log}", self.folder.path().display());
                }
            }
            // A node that is ready takes no pods before its taint is gone.
            let has_no_taint = |node: &str| {
                kubectl
                    .attempt(&["get", "node", node, "-o", "jsonpath={.spec.taints}"])
                    .is_ok_and(|said| said.is_empty())
            };
            is(&["--for=condition=Available", "deployment/coredns", "-n", "kube-system"])
                && NODES[..self.nodes.len()]
                    .iter()
                    .all(|node| is(&["--for=condition=Ready", "node", node]) && has_no_taint(node))
        });
        assert!(ready, "the cluster or its DNS is not up; logs are in {}", self.folder.path().display());
    }

    /// kubectl, as administrator.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// The address of the first node, which this machine reaches.
    pub fn node(&self) -> IpAddr {
        self.nodes[0].network().node()
    }

    /// The address of its DNS, which this machine reaches as well as all Services and pods.
    pub fn dns(&self) -> IpAddr {
        self.nodes[0].network().dns()
    }

    /// Where its files are: logs of its parts, and under `NODE/logs` those of the pods, also of those that are gone.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The network namespaces of its nodes, by the names that `ip netns` knows.
    pub fn networks(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.network().name()).collect()
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Gives all nodes an image; pods use it with `imagePullPolicy: Never`.
    ///
    /// # Panics
    /// If containerd does not take it for the archive of an image.
    pub fn load(&self, archive: &Path) {
        let archive = archive.display().to_string();
        self.ctr(&["images", "import", &archive]);
    }

    fn ctr(&self, args: &[&str]) {
        for node in &self.nodes {
            node.ctr(&self.folder, args).unwrap_or_else(|error| panic!("ctr {}: {error}", args.join(" ")));
        }
    }

    /// Ends a part as a service manager does; what all nodes have, on the first.
    pub fn stop_part(&mut self, part: Part) {
        let name =
            if Part::OF_NODES.contains(&part) { self.nodes[0].process(part.name()) } else { part.name().to_owned() };
        self.folder.stop(&name);
    }

    /// Starts a part; what all nodes have, on the first. Of the API server and containerd, waits until they answer.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_part(&mut self, part: Part) {
        self.start_on(part, 0);
    }

    fn start_on_all(&mut self, part: Part) {
        (0..self.nodes.len()).for_each(|at| self.start_on(part, at));
    }

    fn start_on(&mut self, part: Part, at: usize) {
        let (folder, node) = (&mut *self.folder, &self.nodes[at]);
        match part {
            Part::Etcd => self.control_plane.start_etcd(folder),
            Part::ApiServer => {
                self.control_plane.start_api_server(folder);
                ready(folder, &self.kubectl);
            }
            // A kubelet does not wait for it, and ends.
            Part::Containerd => {
                node.start_containerd(folder);
                let answers = remains::within(60, || node.ctr(folder, &["version"]).is_ok());
                assert!(answers, "containerd does not answer; its log is in {}", folder.path().display());
            }
            Part::Kubelet => node.start_kubelet(folder),
            Part::ControllerManager => controllers::start_manager(folder, self.nodes.len() > 1),
            Part::Scheduler => controllers::start_scheduler(folder),
            Part::Proxy => node.start_proxy(folder),
        }
    }

    /// Has the second node die: it is cut off, then everything that runs on it is killed.
    ///
    /// # Panics
    /// If there is none.
    pub fn kill_second_node(&mut self) {
        let [first, second] = &self.nodes[..] else { panic!("there is no second node") };
        first.network().cut(second.network());
        second.kill(&mut self.folder);
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
        self.logs.look();
    }

    /// Says which pods there are and what went wrong last, for those who have only what the test printed.
    fn tell(&self) {
        let ask = |args: &[&str]| self.kubectl.attempt(args).unwrap_or_else(|error| error);
        let warnings = ask(&["get", "events", "-A", "--field-selector=type=Warning", "--sort-by=.lastTimestamp"]);
        let lines: Vec<&str> = warnings.lines().collect();
        let last = lines[lines.len().saturating_sub(WARNINGS)..].join("\n");
        eprintln!("{}\n{last}", ask(&["get", "pods", "-A", "-o", "wide"]));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_evidence();
            self.tell();
            eprintln!(
                "events.txt, pods.txt and objects.yaml say what went on, NODE/logs/ has the logs of all pods, also of those gone"
            );
        }
    }
}

/// Where the KUBECONFIG of a cluster is that was started to stay, if its API server answers within 20 seconds: the files of one that
/// did not come up, or that a restart of the machine has ended, are no cluster.
pub fn kept(name: &str) -> Option<PathBuf> {
    let kubeconfig = Folder::open(name)?.file("admin.kubeconfig");
    let kubectl = Kubectl::new(kubeconfig.clone());
    let ready = || kubectl.attempt(&["get", "--raw=/readyz", "--request-timeout=5s"]).is_ok();
    remains::within(20, ready).then_some(kubeconfig)
}

/// Takes down a cluster that was started to stay, whatever is left of it; whether there was one.
pub fn take_down(name: &str) -> bool {
    let _turn = turn();
    let folder = Folder::open(name);
    let there = folder.is_some();
    folder.into_iter().for_each(Folder::remove);
    there
}
