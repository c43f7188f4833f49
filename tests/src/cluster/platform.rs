//! A cluster with the mesh in it, as an engineer of a platform makes it: by the charts.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use super::{Cluster, Kubectl, helm, image};
use crate::{repository, wait_for};

/// Where the operator is.
pub const HOME: &str = "fapi-mesh";
/// What selects the pods of the operator.
pub const OPERATORS: [&str; 4] = ["-n", HOME, "-l", "app.kubernetes.io/name=fapi-operator"];

/// A cluster, as an engineer of a platform has it before.
pub struct Platform {
    /// The cluster itself.
    pub cluster: Cluster,
}

impl Platform {
    /// A node that has our images, and a namespace for the operator under the strictest Pod Security.
    ///
    /// # Panics
    /// If it does not come up, as everything here.
    pub fn new(name: &str) -> Self {
        Self::with_images(|| Cluster::start(name))
    }

    /// As [`Platform::new`], with two nodes.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn of_two_nodes(name: &str) -> Self {
        Self::with_images(|| Cluster::start_two_nodes(name))
    }

    fn with_images(start: impl FnOnce() -> Cluster) -> Self {
        let began = Instant::now();
        let cluster = start();
        for name in ["fapi-operator", "fapi-sidecar", "fapictl"] {
            cluster.load(&image(name));
        }
        took("a cluster with the images", began);
        let platform = Self { cluster };
        platform.kubectl().run(&["create", "namespace", HOME]);
        platform.kubectl().run(&["label", "namespace", HOME, "pod-security.kubernetes.io/enforce=restricted"]);
        platform
    }

    /// kubectl, as administrator.
    pub fn kubectl(&self) -> &Kubectl {
        self.cluster.kubectl()
    }

    /// Runs Helm and gives what it says.
    ///
    /// # Panics
    /// If it fails.
    pub fn helm(&self, args: &[&str]) -> String {
        helm(self.kubectl(), args).unwrap_or_else(|error| panic!("helm {}: {error}", args.join(" ")))
    }

    /// Installs both charts and waits, as README says.
    ///
    /// # Panics
    /// If Helm fails.
    pub fn install(&self) {
        self.install_with(&[]);
    }

    /// As [`Platform::install`], with more to say to Helm about the operator.
    ///
    /// # Panics
    /// If Helm fails.
    pub fn install_with(&self, more: &[&str]) {
        self.install_from(&repository().join("charts"), more);
    }

    /// As [`Platform::install_with`], with the charts of another folder.
    ///
    /// # Panics
    /// If Helm fails.
    pub fn install_from(&self, charts: &Path, more: &[&str]) {
        let chart = |name: &str| charts.join(name).display().to_string();
        self.helm(&["install", "fapi-mesh-crds", &chart("fapi-mesh-crds")]);
        let chart = chart("fapi-mesh");
        let args = ["install", "fapi-mesh", &chart, "-n", HOME, "--set", "trustDomain=bank.example", "--wait"];
        self.helm(&[&args[..], more].concat());
    }

    /// Applies files of `examples/`.
    ///
    /// # Panics
    /// If kubectl fails.
    pub fn apply(&self, files: &[&str]) {
        for file in files {
            let file = repository().join("examples").join(file).display().to_string();
            self.kubectl().run(&["apply", "-f", &file]);
        }
    }

    /// The bank with its settings, and an intruder.
    ///
    /// # Panics
    /// If its pods are not ready in time.
    pub fn open_the_bank(&self) {
        self.apply(&[
            "kubernetes/bank.yaml",
            "bank/mesh.yaml",
            "bank/clients.yaml",
            "bank/policies.yaml",
            "bank/outside.yaml",
        ]);
        for (namespace, name) in [("bank", "ledger"), ("bank", "payments"), ("bank", "shop"), ("outside", "intruder")] {
            self.rolled_out(namespace, name);
        }
    }

    /// Waits until all pods of a Deployment are new and ready.
    ///
    /// # Panics
    /// If that takes two minutes.
    pub fn rolled_out(&self, namespace: &str, name: &str) {
        let deployment = format!("deployment/{name}");
        self.kubectl().run(&["rollout", "status", "-n", namespace, &deployment, "--timeout=120s"]);
    }

    /// The JSON lines of a container.
    ///
    /// # Panics
    /// If kubectl fails.
    pub fn log(&self, namespace: &str, target: &str, container: &str) -> Vec<Value> {
        let text = self.kubectl().run(&["logs", "-n", namespace, target, "-c", container]);
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until a sidecar of the bank has told of something with all of these.
    ///
    /// # Panics
    /// If it does not in 20 seconds.
    pub fn told(&self, of: &str, facts: &[(&str, &str)]) {
        wait_for(&format!("the sidecar of {of} to tell {facts:?}"), 20, || {
            let all = |line: &Value| facts.iter().all(|(key, value)| line[*key] == *value);
            self.log("bank", &format!("deployment/{of}"), "fapi-sidecar").iter().any(all).then_some(())
        });
    }

    /// Waits for a condition; of a policy, the one of the whole.
    ///
    /// # Panics
    /// If it does not come in a minute.
    pub fn is(&self, condition: &str, namespace: &str, object: &str) {
        let condition = format!("--for=condition={condition}");
        self.kubectl().run(&["wait", &condition, "-n", namespace, object, "--timeout=60s"]);
    }

    /// The pod of a deployment.
    ///
    /// # Panics
    /// If there is none.
    pub fn pod(&self, namespace: &str, app: &str) -> Value {
        let pods = self.kubectl().get(&["pods", "-n", namespace, "-l", &format!("app={app}")]);
        let living = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
        pods["items"].as_array().unwrap().iter().find(living).unwrap().clone()
    }

    /// The names of all objects that do not come and go by themselves.
    ///
    /// # Panics
    /// If kubectl fails.
    pub fn objects(&self) -> BTreeSet<String> {
        let kinds = self.kubectl().run(&["api-resources", "--verbs=list", "-o", "name"]);
        let passing = [
            "events",
            "events.events.k8s.io",
            "endpoints",
            "leases.coordination.k8s.io",
            "ipaddresses.networking.k8s.io",
        ];
        let kinds: Vec<&str> = kinds.lines().filter(|kind| !passing.contains(kind)).collect();
        let all = self.kubectl().run(&["get", &kinds.join(","), "-A", "-o", "name", "--ignore-not-found"]);
        let leases = self.kubectl().run(&["get", "leases", "-n", HOME, "-o", "name"]);
        all.lines().chain(leases.lines()).map(str::to_owned).collect()
    }
}

/// The folder of a chart.
pub fn chart(name: &str) -> String {
    repository().join("charts").join(name).display().to_string()
}

/// Says how long something took, for whoever reads the output of the tests.
pub fn took(what: &str, began: Instant) {
    eprintln!("{what}: {:.1} s", began.elapsed().as_secs_f64());
}
