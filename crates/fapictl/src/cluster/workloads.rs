//! The workloads of a mesh, as the API server knows them, and which of them run without the sidecar that they should have.

use std::collections::{BTreeMap, BTreeSet};

use crds::policy::TargetKind;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams};
use operator::inject;
use operator::names;
use operator::rotation::Progress;

use super::{Cluster, Custom, Kind, Seen, ask, list};
use crate::rotate;

/// Whose workloads are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    All,
    Namespace(String),
}

impl Scope {
    /// What flags say; without them, `otherwise`.
    pub(crate) fn of(namespace: Option<&str>, all: bool, otherwise: Self) -> Self {
        match namespace {
            _ if all => Self::All,
            Some(namespace) => Self::Namespace(namespace.to_owned()),
            None => otherwise,
        }
    }
}

/// What a mesh consists of in a cluster, or in one namespace of it.
pub(crate) struct Workloads {
    pub(crate) operator_namespace: String,
    pub(crate) operator: Seen<Deployment>,
    /// How far the last rotation of the root is.
    pub(crate) rotation: Seen<Option<Progress>>,
    pub(crate) namespaces: Seen<Vec<Namespace>>,
    pub(crate) pods: Seen<Vec<Pod>>,
    pub(crate) services: Seen<Vec<Service>>,
    pub(crate) meshes: Seen<Vec<Custom>>,
    pub(crate) issuers: Seen<Vec<Custom>>,
    pub(crate) policies: Seen<Vec<Custom>>,
    pub(crate) clients: Seen<Vec<Custom>>,
}

/// A pod without the sidecar that it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unmeshed {
    /// `namespace/name`.
    pub(crate) pod: String,
    /// The policy that governs it; without one, it or its namespace asked for a sidecar.
    pub(crate) policy: Option<String>,
}

impl Workloads {
    /// Asks for all of it.
    pub(crate) async fn gather(cluster: &Cluster, scope: &Scope, operator_namespace: &str) -> Self {
        let client = || cluster.client();
        let all = ListParams::default();
        let (pods, services) = match scope {
            Scope::All => (Api::all(client()), Api::all(client())),
            Scope::Namespace(name) => (Api::namespaced(client(), name), Api::namespaced(client(), name)),
        };
        let namespaces: Api<Namespace> = Api::all(client());
        let operator: Api<Deployment> = Api::namespaced(client(), operator_namespace);
        Self {
            operator_namespace: operator_namespace.to_owned(),
            operator: ask(operator.get(names::OPERATOR)).await,
            rotation: rotate::in_cluster(cluster, operator_namespace).await,
            namespaces: match scope {
                Scope::All => list(&namespaces, &all).await,
                Scope::Namespace(name) => ask(namespaces.get(name)).await.map(|namespace| vec![namespace]),
            },
            pods: list(&pods, &all).await,
            services: list(&services, &all).await,
            meshes: Custom::list(cluster, Kind::Mesh, scope).await,
            issuers: Custom::list(cluster, Kind::Issuer, scope).await,
            policies: Custom::list(cluster, Kind::Policy, scope).await,
            clients: Custom::list(cluster, Kind::Client, scope).await,
        }
    }

    /// Pods that have not ended and are not about to.
    pub(crate) fn living(&self) -> impl Iterator<Item = &Pod> {
        seen(&self.pods).filter(|pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
        })
    }

    /// The pods that have a sidecar.
    pub(crate) fn meshed(&self) -> impl Iterator<Item = &Pod> {
        self.living().filter(|pod| has_sidecar(pod))
    }

    /// The pods that should have a sidecar and have none, by name.
    pub(crate) fn unmeshed(&self) -> Vec<Unmeshed> {
        let (namespaces, governors) = (self.injected(), self.governors());
        let of_pod = |pod: &Pod| {
            let here = governors.get(namespace(pod)).into_iter().flatten();
            let policy =
                here.into_iter().find(|governor| governor.governs(pod)).map(|governor| governor.policy.clone());
            (policy.is_some() || asks(pod, &namespaces)).then(|| Unmeshed { pod: key(&pod.metadata), policy })
        };
        let mut found: Vec<_> = self.living().filter(|pod| !has_sidecar(pod)).filter_map(of_pod).collect();
        found.sort_by(|a, b| a.pod.cmp(&b.pod));
        found
    }

    /// The pods that say no to the sidecar that their namespace asks for, by name.
    pub(crate) fn opted_out(&self) -> Vec<String> {
        let (opted_in, namespaces) = (self.opted_in(), self.injected());
        let says_no = |pod: &&Pod| opted_in.contains(namespace(pod)) && !has_sidecar(pod) && !asks(pod, &namespaces);
        self.living().filter(says_no).map(|pod| key(&pod.metadata)).collect()
    }

    /// The namespaces whose pods all get a sidecar.
    pub(crate) fn opted_in(&self) -> BTreeSet<&str> {
        let asks = |namespace: &&Namespace| {
            let labels = namespace.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get(inject::INJECT)).is_some_and(|value| value == "enabled")
        };
        let names = seen(&self.namespaces).filter(asks).filter_map(|namespace| namespace.metadata.name.as_deref());
        names.filter(|name| self.is_injected(name)).collect()
    }

    /// The version of the operator, as its Deployment is labelled.
    pub(crate) fn operator_version(&self) -> Option<&str> {
        let deployment = self.operator.as_ref().ok()?;
        deployment.metadata.labels.as_ref()?.get(names::VERSION_LABEL).map(String::as_str)
    }

    /// The namespaces in which pods get sidecars if they are asked for, by name. Those whose labels could not be seen ask for
    /// none themselves.
    fn injected(&self) -> BTreeMap<&str, inject::Namespace> {
        let mut injected = BTreeMap::new();
        let of_pods = self.living().map(|pod| (namespace(pod), None));
        let seen = seen(&self.namespaces);
        let named = seen.map(|one| (one.metadata.name.as_deref().unwrap_or_default(), one.metadata.labels.as_ref()));
        for (name, labels) in of_pods.chain(named).filter(|(name, _)| self.is_injected(name)) {
            let labels = labels.cloned().unwrap_or_default();
            injected.insert(name, inject::Namespace { name: name.to_owned(), labels });
        }
        injected
    }

    fn is_injected(&self, namespace: &str) -> bool {
        ![names::SYSTEM_NAMESPACE, &self.operator_namespace].contains(&namespace)
    }

    /// The policies of each namespace, with what they target in it.
    fn governors(&self) -> BTreeMap<&str, Vec<Governor<'_>>> {
        // No selector selects nothing, and neither does an empty one.
        let selecting = seen(&self.services)
            .filter_map(|service| Some((key(&service.metadata), service.spec.as_ref()?.selector.as_ref()?)));
        let selectors: BTreeMap<_, _> = selecting.filter(|(_, selector)| !selector.is_empty()).collect();
        let mut governors: BTreeMap<&str, Vec<Governor<'_>>> = BTreeMap::new();
        for policy in seen(&self.policies) {
            let target = |(kind, name): (TargetKind, String)| match kind {
                TargetKind::Namespace => Some(Target::Namespace),
                TargetKind::Service => {
                    let selector = selectors.get(&format!("{}/{name}", policy.namespace)).copied();
                    selector.map(Target::Selector)
                }
            };
            let targets = policy.target_refs().into_iter().filter_map(target).collect();
            governors.entry(&policy.namespace).or_default().push(Governor { policy: policy.key(), targets });
        }
        governors
    }
}

/// A policy, and what it targets in its namespace.
struct Governor<'a> {
    policy: String,
    targets: Vec<Target<'a>>,
}

enum Target<'a> {
    Namespace,
    /// The pods behind a Service.
    Selector(&'a BTreeMap<String, String>),
}

impl Governor<'_> {
    fn governs(&self, pod: &Pod) -> bool {
        let labels = pod.metadata.labels.as_ref();
        let has = |key: &str, value: &String| labels.and_then(|labels| labels.get(key)) == Some(value);
        self.targets.iter().any(|target| match target {
            Target::Namespace => true,
            Target::Selector(selector) => selector.iter().all(|(key, value)| has(key, value)),
        })
    }
}

fn asks(pod: &Pod, injected: &BTreeMap<&str, inject::Namespace>) -> bool {
    injected.get(namespace(pod)).is_some_and(|namespace| inject::asks(pod, namespace))
}

fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

/// What could be seen.
pub(crate) fn seen<T>(all: &Seen<Vec<T>>) -> impl Iterator<Item = &T> {
    all.iter().flatten()
}

/// `namespace/name`.
pub(crate) fn key(metadata: &ObjectMeta) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}", part(&metadata.namespace), part(&metadata.name))
}

/// How many replicas are ready, and how many are wanted.
pub(crate) fn replicas(deployment: &Deployment) -> (i32, i32) {
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let ready = deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default();
    (ready, wanted)
}

fn has_sidecar(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(inject::has_sidecar)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bank, object, pod};
    use super::*;

    fn unmeshed(workloads: &Workloads) -> Vec<(String, Option<String>)> {
        workloads.unmeshed().into_iter().map(|one| (one.pod, one.policy)).collect()
    }

    #[test]
    fn a_pod_that_asked_or_is_governed_and_has_no_sidecar_is_found() {
        let mut workloads = bank();
        assert_eq!(unmeshed(&workloads), []);
        let asked = object(serde_json::json!({
            "metadata": {"name": "tool", "namespace": "web", "annotations": {"fapi-mesh.dev/inject": "enabled"}},
            "spec": {"containers": []},
        }));
        let opted_out = object(serde_json::json!({
            "metadata": {"name": "out", "namespace": "bank", "labels": {"fapi-mesh.dev/inject": "disabled"}},
            "spec": {"containers": []},
        }));
        let ended = object(serde_json::json!({
            "metadata": {"name": "job", "namespace": "bank"}, "spec": {"containers": []}, "status": {"phase": "Succeeded"},
        }));
        let system = object(serde_json::json!({
            "metadata": {"name": "dns", "namespace": "kube-system", "labels": {"fapi-mesh.dev/inject": "enabled"}},
            "spec": {"containers": []},
        }));
        let pods = [pod("bank", "shop-2", "shop", false), pod("bank", "ledger-2", "ledger", false)];
        workloads.pods = Ok(pods.into_iter().chain([asked, opted_out, ended, system]).collect());
        assert_eq!(workloads.opted_out(), ["bank/out"]);
        let policy = Some("bank/ledger".to_owned());
        let expected = [("bank/ledger-2", policy), ("bank/shop-2", None), ("web/tool", None)];
        assert_eq!(unmeshed(&workloads), expected.map(|(pod, policy)| (pod.to_owned(), policy)));
    }

    #[test]
    fn the_operators_own_namespace_and_the_systems_are_never_in_the_mesh() {
        let mut workloads = bank();
        let labelled = |name: &str| {
            object(serde_json::json!({"metadata": {"name": name, "labels": {"fapi-mesh.dev/inject": "enabled"}}}))
        };
        workloads.namespaces = Ok(["bank", "fapi-mesh", "kube-system"].map(labelled).into());
        assert_eq!(workloads.opted_in(), BTreeSet::from(["bank"]));
    }
}
