//! What is shown of a mesh: a function of what was gathered.

use std::collections::BTreeMap;

use crds::conditions::{ACCEPTED, PROGRAMMED, reason};
use crds::policy::{AncestorStatus, Mode, PodCounts};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use operator::inject;
use operator::rotation::Progress;
use serde::Serialize;

use crate::cluster::{Custom, Seen, Workloads, is_true, key, replicas, seen, would_refuse};

/// A mesh, or what one namespace has of it.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) operator: Option<Operator>,
    /// The rotation of the root that runs, or the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rotation: Option<Progress>,
    pub(super) namespaces: Vec<Joined>,
    pub(super) policies: Vec<Governed>,
    pub(super) clients: Vec<Object>,
    pub(super) issuers: Vec<Object>,
    pub(super) meshes: Vec<Object>,
    pub(super) holes: Vec<Hole>,
    /// What could not be looked at, and why.
    pub(super) unseen: Vec<String>,
}

/// The control plane.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Operator {
    pub(super) version: Option<String>,
    pub(super) ready: i32,
    pub(super) replicas: i32,
}

/// A namespace with pods of the mesh, or one that asks for them.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Joined {
    pub(super) name: String,
    /// Whether it asks for sidecars itself, by its label.
    pub(super) opted_in: bool,
    pub(super) with_sidecar: usize,
    /// Of those that should have one.
    pub(super) without_sidecar: usize,
}

/// A policy at one of its targets.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Governed {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) target: String,
    pub(super) mode: Mode,
    pub(super) ready: bool,
    /// Of the first condition that is not true.
    pub(super) reason: String,
    pub(super) pods: PodCounts,
    pub(super) message: String,
}

/// An object of another kind.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Object {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) ready: bool,
    pub(super) reason: String,
    /// Of a client: how many targets it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) targets: Option<usize>,
    /// Of a client: how many of them give what it asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) granted: Option<usize>,
    pub(super) message: String,
}

/// Where calls pass that nothing looks at, or nothing refuses.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hole {
    pub(super) place: String,
    pub(super) why: String,
}

impl Report {
    /// What was gathered, put in order.
    pub(super) fn of(workloads: &Workloads) -> Self {
        let objects = |all: &Seen<Vec<Custom>>| in_order(all).into_iter().map(object).collect();
        Self {
            operator: workloads.operator.as_ref().ok().map(|deployment| {
                let (ready, replicas) = replicas(deployment);
                Operator { version: workloads.operator_version().map(str::to_owned), ready, replicas }
            }),
            rotation: workloads.rotation.clone().ok().flatten(),
            namespaces: namespaces(workloads),
            policies: in_order(&workloads.policies).into_iter().flat_map(governed).collect(),
            clients: in_order(&workloads.clients).into_iter().map(client).collect(),
            issuers: objects(&workloads.issuers),
            meshes: objects(&workloads.meshes),
            holes: holes(workloads),
            unseen: unseen(workloads),
        }
    }
}

fn in_order(all: &Seen<Vec<Custom>>) -> Vec<&Custom> {
    let mut all: Vec<&Custom> = seen(all).collect();
    all.sort_by_key(|object| object.key());
    all
}

fn namespaces(workloads: &Workloads) -> Vec<Joined> {
    let mut joined: BTreeMap<String, Joined> = BTreeMap::new();
    let mut of = |name: &str, change: fn(&mut Joined)| {
        let entry = joined.entry(name.to_owned()).or_default();
        entry.name = name.to_owned();
        change(entry);
    };
    for name in workloads.opted_in() {
        of(name, |joined| joined.opted_in = true);
    }
    for pod in workloads.meshed() {
        of(pod.metadata.namespace.as_deref().unwrap_or_default(), |joined| joined.with_sidecar += 1);
    }
    for unmeshed in workloads.unmeshed() {
        let (namespace, _) = unmeshed.pod.split_once('/').unwrap_or_default();
        of(namespace, |joined| joined.without_sidecar += 1);
    }
    joined.into_values().collect()
}

/// A policy that nobody has looked at yet is shown without a target.
fn governed(policy: &Custom) -> Vec<Governed> {
    let line = |target: String, pods: PodCounts, conditions: &[Condition]| {
        let cause = conditions.iter().find(|condition| !is_true(condition));
        let shown = cause.or_else(|| conditions.iter().find(|condition| condition.type_ == PROGRAMMED));
        Governed {
            namespace: policy.namespace.clone(),
            name: policy.name.clone(),
            target,
            mode: policy.mode(),
            ready: cause.is_none() && conditions.iter().any(|condition| condition.type_ == ACCEPTED),
            reason: shown.map_or_else(|| reason::PENDING.to_owned(), |condition| condition.reason.clone()),
            pods,
            message: shown.map(|condition| condition.message.clone()).unwrap_or_default(),
        }
    };
    let ancestors = policy.ancestors();
    if ancestors.is_empty() {
        return vec![line(String::new(), PodCounts::default(), &policy.conditions())];
    }
    ancestors.iter().map(|ancestor| line(target(ancestor), ancestor.pods, &ancestor.conditions)).collect()
}

fn target(ancestor: &AncestorStatus) -> String {
    let at = &ancestor.ancestor_ref;
    let section = at.section_name.as_ref().map(|section| format!("/{section}")).unwrap_or_default();
    format!("{:?} {}{section}", at.kind, at.name)
}

fn client(custom: &Custom) -> Object {
    let (targets, granted) = custom.targets_granted();
    Object { targets: Some(targets), granted: Some(granted), ..object(custom) }
}

fn object(custom: &Custom) -> Object {
    let ready = custom.ready();
    Object {
        namespace: custom.namespace.clone(),
        name: custom.name.clone(),
        ready: ready.as_ref().is_some_and(is_true),
        reason: ready.as_ref().map_or_else(|| reason::PENDING.to_owned(), |ready| ready.reason.clone()),
        targets: None,
        granted: None,
        message: ready.map(|ready| ready.message).unwrap_or_default(),
    }
}

fn holes(workloads: &Workloads) -> Vec<Hole> {
    let hole = |place: String, why: String| Hole { place, why };
    let mut holes = Vec::new();
    for unmeshed in workloads.unmeshed() {
        let why = match unmeshed.policy {
            Some(policy) => format!("no sidecar, though FapiPolicy {policy} governs it"),
            None => "no sidecar, though it or its namespace asks for one".to_owned(),
        };
        holes.push(hole(format!("Pod {}", unmeshed.pod), why));
    }
    let opted_out = workloads.opted_out().into_iter();
    holes.extend(opted_out.map(|pod| hole(format!("Pod {pod}"), "no sidecar: it says that it wants none".to_owned())));
    for pod in workloads.meshed() {
        for skipped in [inject::SKIP_INBOUND, inject::SKIP_OUTBOUND] {
            let ports = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(skipped));
            let place = || format!("Pod {}", key(&pod.metadata));
            holes.extend(ports.map(|ports| hole(place(), format!("{skipped}: {ports} passes the sidecar by"))));
        }
        if is_proxied(pod) {
            holes.push(hole(format!("Pod {}", key(&pod.metadata)), PROXIED.to_owned()));
        }
    }
    for policy in in_order(&workloads.policies) {
        let audits = (policy.mode() == Mode::Audit).then(|| lets_pass(policy));
        let exempt =
            policy.exempt().into_iter().map(|what| format!("exempt: {what} passes without certificate and token"));
        holes.extend(audits.into_iter().chain(exempt).map(|why| hole(format!("FapiPolicy {}", policy.key()), why)));
    }
    holes
}

const PROXIED: &str = "interception proxy: what its app calls without the proxy leaves without mutual TLS and token";

/// Whether nothing but its environment leads the calls of a pod to its sidecar.
fn is_proxied(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| inject::interception(spec) == inject::Interception::Proxy)
}

fn lets_pass(policy: &Custom) -> String {
    let ancestors = policy.ancestors();
    let counted = ancestors.iter().filter_map(|at| Some(format!("; {}: {}", target(at), would_refuse(at)?)));
    std::iter::once("mode Audit: what it would refuse passes".to_owned()).chain(counted).collect()
}

fn unseen(workloads: &Workloads) -> Vec<String> {
    let said = |what: &str, why: Option<&crate::cluster::Unseen>| why.map(|unseen| unseen.said(what));
    [
        said("the operator's Deployment", workloads.operator.as_ref().err()),
        said("the rotation of the root", workloads.rotation.as_ref().err()),
        said("Namespaces", workloads.namespaces.as_ref().err()),
        said("Pods", workloads.pods.as_ref().err()),
        said("Services", workloads.services.as_ref().err()),
        said("FapiMesh", workloads.meshes.as_ref().err()),
        said("FapiIssuer", workloads.issuers.as_ref().err()),
        said("FapiPolicy", workloads.policies.as_ref().err()),
        said("FapiClient", workloads.clients.as_ref().err()),
    ]
    .into_iter()
    .flatten()
    .collect()
}
