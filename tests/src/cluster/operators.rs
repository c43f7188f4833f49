//! Operators of an API server: processes of this machine, each with the rights that the manual tells and no others.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{ApiServer, Kubectl};
use crate::{Running, Scratch, get, program, repository, wait_for};

/// An API server with our kinds and the namespaces `bank`, which asks for sidecars, `web`, which does not, and `fapi-mesh`,
/// where operators are at home.
pub struct Operators {
    server: ApiServer,
    scratch: Scratch,
}

/// One operator.
pub struct Operator {
    process: Running,
    log: PathBuf,
}

impl Operators {
    /// Starts the API server, and no operator yet.
    ///
    /// # Panics
    /// If it does not start.
    pub fn new(name: &str) -> Self {
        let server = ApiServer::with_resources(name, &["bank", "fapi-mesh", "web"]);
        let kubectl = server.kubectl();
        kubectl.run(&["label", "namespace", "bank", "fapi-mesh.dev/inject=enabled"]);
        kubectl.run(&["create", "serviceaccount", "fapi-operator", "-n", "fapi-mesh"]);
        for role in roles() {
            kubectl.apply(&role.to_string()).unwrap();
        }
        let new = Self { server, scratch: Scratch::new(name) };
        fs::write(new.kubeconfig(), new.config_of_operators().to_string()).unwrap();
        new
    }

    /// kubectl, as administrator.
    pub fn kubectl(&self) -> &Kubectl {
        self.server.kubectl()
    }

    /// The API server.
    pub fn server(&mut self) -> &mut ApiServer {
        &mut self.server
    }

    /// A folder for files of the test.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// Starts an operator that is the pod `name`, and waits until it is ready.
    ///
    /// # Panics
    /// If it ends, or is not ready in a minute.
    pub fn start(&self, name: &str, args: &[&str]) -> Operator {
        let mut operator = self.launch(name, args);
        wait_for("an operator to be ready", 60, || {
            assert!(operator.process.ended().is_none(), "{name} has ended: {}", operator.said());
            get(operator.address("admin")?, "/readyz").ok().filter(|answer| answer.status == 200)
        });
        operator
    }

    /// Starts an operator that may not come far.
    ///
    /// # Panics
    /// If it does not even start.
    pub fn launch(&self, name: &str, args: &[&str]) -> Operator {
        let log = self.scratch.path().join(format!("{name}.log"));
        let file = fs::File::create(&log).unwrap();
        let mut command = Command::new(program("fapi-operator"));
        command.args(["--source", "kubernetes"]).args(args);
        command.env("KUBECONFIG", self.kubeconfig()).env("HOSTNAME", name);
        Operator { process: Running::start(command.stdout(Stdio::null()).stderr(file)), log }
    }

    fn kubeconfig(&self) -> PathBuf {
        self.scratch.path().join("operator.kubeconfig")
    }

    fn config_of_operators(&self) -> Value {
        let token = self.kubectl().run(&["create", "token", "fapi-operator", "-n", "fapi-mesh", "--duration=2h"]);
        let mut config: Value =
            serde_json::from_str(&self.kubectl().run(&["config", "view", "--raw", "-o", "json"])).unwrap();
        config["users"][0]["user"] = json!({"token": token.trim()});
        config
    }
}

impl Operator {
    /// The process.
    pub fn process(&mut self) -> &mut Running {
        &mut self.process
    }

    /// Ends it in order.
    ///
    /// # Panics
    /// If it takes longer than it should.
    pub fn end(mut self) {
        self.process.terminate();
        self.process.wait(20);
    }

    /// Where it listens: `control`, `issuer` or `admin`; nothing before it does.
    pub fn address(&self, which: &str) -> Option<SocketAddr> {
        let lines = self.lines();
        let listening = lines.iter().find(|line| line["event"] == "listening")?;
        listening[which].as_str()?.trim_start_matches("https://").parse().ok()
    }

    /// The lines of its log so far.
    pub fn lines(&self) -> Vec<Value> {
        self.said().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// All that it said so far.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// ClusterRole and Role of the manual's table, bound to the operator's service account.
///
/// # Panics
/// If the manual has no such table.
pub fn roles() -> [Value; 4] {
    let manual = fs::read_to_string(repository().join("docs/operating.md")).unwrap();
    let rules = |place: &str| -> Vec<Value> {
        let rows = manual.lines().filter_map(|line| line.strip_prefix("| ")?.strip_prefix(place)?.strip_prefix(" | "));
        rows.map(|row| rule(&row.split(" | ").collect::<Vec<_>>())).collect()
    };
    let role = |kind: &str, namespace: Option<&str>, rules: Vec<Value>| {
        assert!(!rules.is_empty(), "the manual tells of no {kind}");
        let api = "rbac.authorization.k8s.io/v1";
        json!({"apiVersion": api, "kind": kind, "metadata": {"name": "fapi-operator", "namespace": namespace}, "rules": rules})
    };
    let binding = |kind: &str, namespace: Option<&str>| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": format!("{kind}Binding"),
            "metadata": {"name": "fapi-operator", "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "fapi-operator"},
            "subjects": [{"kind": "ServiceAccount", "name": "fapi-operator", "namespace": "fapi-mesh"}],
        })
    };
    let own = Some("fapi-mesh");
    [
        role("ClusterRole", None, rules("cluster")),
        role("Role", own, rules("own namespace")),
        binding("ClusterRole", None),
        binding("Role", own),
    ]
}

fn rule(cells: &[&str]) -> Value {
    let list = |cell: &str| -> Vec<String> { cell.split(", ").map(|item| item.trim_matches('`').to_owned()).collect() };
    let [group, resources, names, verbs, ..] = cells else { panic!("no rule: {cells:?}") };
    let group = if *group == "core" { "" } else { group.trim_matches('`') };
    let mut rule = json!({"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)});
    if *names != "all" {
        rule["resourceNames"] = list(names).into();
    }
    rule
}
