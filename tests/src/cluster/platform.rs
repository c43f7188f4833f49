//! A cluster with the mesh in it, as an engineer of a platform makes it: by the charts.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use super::kubectl::{is_ready, target};
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

    /// Waits until all pods that end have ended: until then they serve, an operator also what API servers ask it.
    ///
    /// # Panics
    /// If that takes a minute.
    pub fn nothing_ends(&self) {
        wait_for("pods that end to have ended", 60, || {
            let pods = self.kubectl().get(&["pods", "-A"]);
            pods["items"].as_array()?.iter().all(|pod| pod["metadata"]["deletionTimestamp"].is_null()).then_some(())
        });
    }

    /// Waits until there are as many operators as there are to be, all of them ready. Unlike the status of a Deployment, which may be of
    /// a moment ago, this knows of one that was killed just now.
    ///
    /// # Panics
    /// If that takes two minutes.
    pub fn operators_are(&self, count: usize) {
        wait_for("all operators to be there", 120, || {
            let pods = self.kubectl().pods_with(&OPERATORS).ok()?;
            (pods.len() == count && pods.iter().all(is_ready)).then_some(())
        });
    }

    /// The JSON lines of a container.
    ///
    /// # Panics
    /// If kubectl fails.
    pub fn log(&self, namespace: &str, target: &str, container: &str) -> Vec<Value> {
        self.attempt_log(namespace, target, container).unwrap_or_else(|error| panic!("{target}: {error}"))
    }

    fn attempt_log(&self, namespace: &str, target: &str, container: &str) -> Result<Vec<Value>, String> {
        let text = self.kubectl().attempt(&["logs", "-n", namespace, target, "-c", container])?;
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Waits until a sidecar of the bank, of a pod that does not end, has told of something with all of these.
    ///
    /// # Panics
    /// If it does not in a minute.
    pub fn told(&self, of: &str, facts: &[(&str, &str)]) {
        let all = |line: &Value| facts.iter().all(|(key, value)| line[*key] == *value);
        wait_for(&format!("the sidecar of {of} to tell {facts:?}"), 60, || {
            let pods = self.kubectl().pods_of("bank", of).ok()?;
            let logs = pods.iter().filter_map(|pod| self.attempt_log("bank", &target(pod), "fapi-sidecar").ok());
            logs.flatten().any(|line| all(&line)).then_some(())
        });
    }

    /// Waits for a condition; of a policy, the one of the whole.
    ///
    /// # Panics
    /// If it does not come in three minutes: ten pods may start at once on a small machine that has other work too.
    pub fn is(&self, condition: &str, namespace: &str, object: &str) {
        let condition = format!("--for=condition={condition}");
        self.kubectl().run(&["wait", &condition, "-n", namespace, object, "--timeout=180s"]);
    }

    /// A pod of an app that does not end; one that is ready, if there is one.
    ///
    /// # Panics
    /// If there is none.
    pub fn pod(&self, namespace: &str, app: &str) -> Value {
        self.kubectl().pods_of(namespace, app).unwrap().remove(0)
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
