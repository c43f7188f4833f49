//! An API server that asks the webhooks of an operator.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{ApiServer, Kubectl};
use crate::{Running, Scratch, free_port, program, repository, wait_for};

/// An API server that knows the webhooks, the namespaces `bank` (which asks for sidecars) and `web` (which does not), and no
/// operator yet.
pub struct WithWebhooks {
    server: ApiServer,
    scratch: Scratch,
    port: u16,
}

impl WithWebhooks {
    /// Starts it.
    ///
    /// # Panics
    /// If something is missing, or does not come up.
    pub fn new(name: &str) -> Self {
        let server = ApiServer::with_resources(name, &["bank", "fapi-mesh", "web"]);
        let kubectl = server.kubectl();
        kubectl.run(&["label", "namespace", "bank", "fapi-mesh.dev/inject=enabled"]);
        for namespace in ["bank", "kube-system", "web"] {
            kubectl.run(&["create", "serviceaccount", "default", "-n", namespace]);
        }
        let port = free_port();
        tell_of_webhooks(kubectl, port);
        let new = Self { server, scratch: Scratch::new(name), port };
        wait_for("the API server to know that there are webhooks", 60, || {
            let tried = new.attempt("bank", &pod_to_inject("probe", json!({})), true);
            tried.err().filter(|error| error.contains("inject.fapi-mesh.dev"))
        });
        new
    }

    /// kubectl, as administrator.
    pub fn kubectl(&self) -> &Kubectl {
        self.server.kubectl()
    }

    /// Where the operator has its files; gone with this value.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// Starts an operator, and waits until the API server asks it.
    ///
    /// # Panics
    /// If that does not happen within a minute.
    pub fn operator(&self) -> Running {
        let [source, state] = ["source", "state"].map(|name| self.scratch.path().join(name));
        fs::create_dir_all(&source).unwrap();
        let mesh = "apiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiMesh\nmetadata: {name: default}\n\
                    spec: {podAnnotations: [{allow: [OptOut], namespaces: [bank]}]}\n";
        fs::write(source.join("mesh.yaml"), mesh).unwrap();
        let log = fs::File::create(self.scratch.path().join("operator.log")).unwrap();
        let operator = Running::start(
            Command::new(program("fapi-operator"))
                .arg("--source")
                .arg(format!("directory:{}", source.display()))
                .arg("--state")
                .arg(&state)
                .args(["--webhook-listen", &format!("127.0.0.1:{}", self.port)])
                .args([
                    "--sidecar-image",
                    "fapi-sidecar:test",
                    "--sidecar-control",
                    "fapi-operator.fapi-mesh.svc:15010",
                ])
                .env("KUBECONFIG", self.kubectl().kubeconfig())
                .stdout(Stdio::null())
                .stderr(log),
        );
        wait_for("the API server to ask the webhooks", 60, || {
            let served = self.attempt("web", &pod_to_inject("probe", json!({"fapi-mesh.dev/inject": "enabled"})), true);
            served.ok().filter(|pod| pod["spec"]["initContainers"].is_array())
        });
        // The operator has it ask about objects a while later.
        wait_for("the API server to ask about objects too", 60, || {
            let told = self.kubectl().get(&["validatingwebhookconfiguration", "fapi-operator"]);
            told["webhooks"][0]["rules"].is_array().then_some(())
        });
        operator
    }

    /// Makes a pod, or only tries it.
    ///
    /// # Errors
    /// What kubectl says when the API server refuses it.
    ///
    /// # Panics
    /// If what kubectl says is not JSON.
    pub fn attempt(&self, namespace: &str, pod: &Value, dry_run: bool) -> Result<Value, String> {
        let dry_run = if dry_run { "--dry-run=server" } else { "--dry-run=none" };
        let args = ["create", "-n", namespace, dry_run, "-o", "json", "-f", "-"];
        // An API server or an operator that is slow on this machine says nothing of the pod; a controller tries again, too.
        let is_late = |error: &String| error.contains("deadline exceeded") || error.contains("cannot be read now");
        let made = wait_for("an answer in time", 60, || {
            let made = self.kubectl().with_input(&args, &pod.to_string());
            Some(made).filter(|made| !made.as_ref().is_err_and(is_late))
        });
        Ok(serde_json::from_str(&made?).unwrap())
    }
}

/// Has the API server ask webhooks at this port of this machine.
///
/// # Panics
/// If it does not take the documents.
pub fn tell_of_webhooks(kubectl: &Kubectl, port: u16) {
    // No pods here, so the Service is a name for this machine.
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "fapi-operator", "namespace": "fapi-mesh"},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    });
    kubectl.apply(&service.to_string()).unwrap();
    for name in ["mutating", "validating"] {
        let golden = repository().join("operator/tests/golden/webhook").join(name).with_extension("yaml");
        let text = fs::read_to_string(golden).unwrap();
        kubectl.apply(&text.replace("port: 443", &format!("port: {port}"))).unwrap();
    }
}

/// A pod with ports and probes.
pub fn pod_to_inject(name: &str, annotations: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": annotations},
        "spec": {"containers": [{
            "name": "app", "image": "app", "ports": [{"name": "http", "containerPort": 8080}],
            "livenessProbe": {"httpGet": {"port": "http", "path": "/healthz"}},
            "readinessProbe": {"grpc": {"port": 9090}},
        }]},
    })
}
