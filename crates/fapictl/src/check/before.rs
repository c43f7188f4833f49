//! `fapictl check --pre`: whether a cluster can have a mesh, and whether this user may install it.

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::api::{Api, ListParams};
use operator::{inject, names};

use super::definitions::{self, Definitions};
use super::finding::{Check, Finding, about, several};
use super::rights::{self, Right};
use super::versions;
use crate::cluster::{Cluster, Scope, Seen, Unseen, Version, ask, list};

/// The minor versions of Kubernetes 1 that this version supports: tests run on the last, and check injected pods against the schemas
/// of all. Native sidecars are in all of them for good.
const SUPPORTED: std::ops::RangeInclusive<u32> = 33..=37;
/// How others call their injecting webhooks.
const OTHER_MESHES: [&str; 4] = [".istio.io", ".linkerd.io", ".kuma.io", ".consul.hashicorp.com"];
const ADMISSION: &str = "admissionregistration.k8s.io/v1";
/// The two levels that forbid what redirection needs.
const STRICT: [&str; 2] = ["baseline", "restricted"];

/// What is to be known of a cluster before.
pub(super) struct Before {
    pub(super) version: Version,
    pub(super) nodes: Seen<Vec<Node>>,
    /// The kinds of the admission API.
    pub(super) admission: Seen<Vec<String>>,
    pub(super) rights: Vec<(Right, Seen<bool>)>,
    pub(super) definitions: Definitions,
    pub(super) injecting: Seen<Vec<MutatingWebhookConfiguration>>,
    /// The one that the operator is to run in.
    pub(super) home: Seen<Namespace>,
    /// Those whose workloads are to be in the mesh: the one that was named, else those that ask for sidecars.
    pub(super) joining: Seen<Vec<Namespace>>,
    pub(super) operator_namespace: String,
}

impl Before {
    /// Asks for all of it.
    pub(super) async fn gather(cluster: &Cluster, version: Version, scope: &Scope, operator_namespace: &str) -> Self {
        let (client, all) = (cluster.client(), ListParams::default());
        let namespaces: Api<Namespace> = Api::all(cluster.client());
        let opted_in = ListParams::default().labels(&format!("{}=enabled", inject::INJECT));
        let admission = ask(client.list_api_group_resources(ADMISSION)).await;
        Self {
            version,
            nodes: list(&Api::all(cluster.client()), &all).await,
            admission: admission.map(|list| list.resources.into_iter().map(|resource| resource.name).collect()),
            rights: rights::gather(cluster, operator_namespace).await,
            definitions: definitions::gather(cluster).await,
            injecting: list(&Api::all(cluster.client()), &all).await,
            home: ask(namespaces.get(operator_namespace)).await,
            joining: match scope {
                Scope::All => list(&namespaces, &opted_in).await,
                Scope::Namespace(name) => ask(namespaces.get(name)).await.map(|namespace| vec![namespace]),
            },
            operator_namespace: operator_namespace.to_owned(),
        }
    }

    /// What all of that means.
    pub(super) fn judge(&self) -> Vec<Finding> {
        let mut findings = vec![api_server(&self.version)];
        findings.extend(about(Check::AdmissionApi, ADMISSION, &self.admission, |kinds| vec![admission(kinds)]));
        findings.extend(about(Check::Nodes, "the nodes", &self.nodes, |nodes| vec![systems(nodes)]));
        findings.extend(about(Check::NativeSidecars, "the nodes", &self.nodes, |nodes| native_sidecars(nodes)));
        findings.extend(rights::judge(&self.rights));
        findings.push(home(&self.home, &self.operator_namespace));
        findings.extend(about(Check::PodSecurity, "the namespaces of workloads", &self.joining, |all| joining(all)));
        findings.extend(about(Check::OtherWebhooks, "the webhooks that change pods", &self.injecting, |all| {
            others(all, &self.operator_namespace)
        }));
        findings.extend(definitions::judge_before(&self.definitions));
        findings
    }
}

/// Whether this version of Kubernetes will do.
pub(super) fn api_server(version: &Version) -> Finding {
    let Version { major, minor, name } = version;
    let (least, newest) = (SUPPORTED.start(), SUPPORTED.end());
    match (major, minor) {
        (1, minor) if SUPPORTED.contains(minor) => Finding::ok(Check::ApiServer, name.clone()),
        (1, minor) if minor > newest => {
            let found = format!("{name} is newer than 1.{newest}, the newest that this version is tested with");
            Finding::warning(Check::ApiServer, found, "look for a newer version of the charts and of fapictl")
        }
        _ => {
            let found = format!("{name} is older than 1.{least}, the first with native sidecars for good");
            Finding::failed(Check::ApiServer, found, format!("upgrade the cluster to 1.{least} or newer"))
        }
    }
}

fn admission(kinds: &[String]) -> Finding {
    let wanted = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"];
    let missing: Vec<&str> =
        wanted.into_iter().filter(|wanted| !kinds.iter().any(|kind| kind.as_str() == *wanted)).collect();
    if missing.is_empty() {
        return Finding::ok(Check::AdmissionApi, format!("{ADMISSION} is served"));
    }
    let found = format!("{ADMISSION} has no {}", several(&missing));
    Finding::failed(
        Check::AdmissionApi,
        found,
        "start the API server with the admission plugins that are on by default",
    )
}

fn systems(nodes: &[Node]) -> Finding {
    let (linux, others): (Vec<&Node>, Vec<&Node>) = nodes.iter().partition(|node| is_linux(node));
    let others: Vec<String> = others.into_iter().map(name).collect();
    if linux.is_empty() {
        let found = "there is no node that runs Linux";
        return Finding::failed(Check::Nodes, found, "add one: operator and sidecars are programs for Linux");
    }
    if others.is_empty() {
        return Finding::ok(Check::Nodes, format!("{} with Linux", linux.len()));
    }
    let found = format!("not Linux: {}", several(&others));
    Finding::warning(
        Check::Nodes,
        found,
        "keep workloads of the mesh off these nodes: nodeSelector kubernetes.io/os: linux",
    )
}

fn native_sidecars(nodes: &[Node]) -> Vec<Finding> {
    let old = |node: &&&Node| {
        let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
        let kubelet = info.and_then(|info| versions::parse(&info.kubelet_version));
        kubelet.is_none_or(|(_, minor)| minor < *SUPPORTED.start())
    };
    let linux: Vec<&Node> = nodes.iter().filter(|node| is_linux(node)).collect();
    let old: Vec<String> = linux.iter().filter(old).map(|node| name(node)).collect();
    if linux.is_empty() {
        // Named by another check.
        return Vec::new();
    }
    if old.is_empty() {
        return vec![Finding::ok(Check::NativeSidecars, "every kubelet has them")];
    }
    let found = format!("kubelet is older than 1.{} on {}", SUPPORTED.start(), several(&old));
    let remedy = "upgrade these nodes: sidecars must start before the app and end after it";
    vec![Finding::failed(Check::NativeSidecars, found, remedy)]
}

/// The pods of the chart meet `restricted`, so every level will do.
fn home(home: &Seen<Namespace>, name: &str) -> Finding {
    match home {
        Ok(namespace) => {
            let level = level(namespace).unwrap_or("privileged");
            Finding::ok(Check::PodSecurity, format!("namespace {name} enforces {level}, which the operator meets"))
        }
        Err(Unseen::Absent) => Finding::ok(
            Check::PodSecurity,
            format!("there is no namespace {name} yet: helm install --create-namespace"),
        ),
        Err(unseen) => Finding::unseen(Check::PodSecurity, &format!("namespace {name}"), unseen),
    }
}

fn joining(namespaces: &[Namespace]) -> Vec<Finding> {
    let strict = namespaces.iter().filter_map(|namespace| {
        let level = level(namespace).filter(|level| STRICT.contains(level))?;
        Some(format!("{} ({level})", namespace.metadata.name.as_deref().unwrap_or_default()))
    });
    let strict: Vec<String> = strict.collect();
    if strict.is_empty() {
        return Vec::new();
    }
    let found = format!("redirection needs NET_ADMIN, which is forbidden in {}", several(&strict));
    let remedy = format!("annotate pods there with {}: {}", inject::INTERCEPTION, inject::Interception::Proxy.name());
    vec![Finding::warning(Check::PodSecurity, found, remedy)]
}

/// One mesh in a cluster, and one sidecar in a pod.
fn others(configurations: &[MutatingWebhookConfiguration], operator_namespace: &str) -> Vec<Finding> {
    let (mut findings, mut meshes) = (Vec::new(), Vec::new());
    for configuration in configurations {
        let name = configuration.metadata.name.as_deref().unwrap_or_default();
        let entries = configuration.webhooks.iter().flatten();
        let mut services = entries.clone().filter_map(|entry| entry.client_config.service.as_ref());
        if name == names::OPERATOR {
            if let Some(other) = services.find(|service| service.namespace != operator_namespace) {
                let found =
                    format!("the webhooks of an operator in namespace {} have the name {name}", other.namespace);
                let remedy = "uninstall that one first, or give its namespace as --operator-namespace";
                findings.push(Finding::failed(Check::OtherWebhooks, found, remedy));
            }
        } else if entries.clone().any(|entry| OTHER_MESHES.iter().any(|ending| entry.name.ends_with(ending))) {
            meshes.push(name);
        }
    }
    if !meshes.is_empty() {
        let found = format!("another mesh injects sidecars here: {}", several(&meshes));
        let remedy = "let a namespace ask for the sidecars of one mesh only: two of them take each other's calls";
        findings.push(Finding::warning(Check::OtherWebhooks, found, remedy));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(Check::OtherWebhooks, "nothing else injects sidecars"));
    }
    findings
}

fn is_linux(node: &Node) -> bool {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    info.is_some_and(|info| info.operating_system == "linux")
}

fn name(node: &Node) -> String {
    node.metadata.name.clone().unwrap_or_default()
}

/// What Pod Security enforces in a namespace.
fn level(namespace: &Namespace) -> Option<&str> {
    namespace.metadata.labels.as_ref()?.get(names::POD_SECURITY).map(String::as_str)
}
