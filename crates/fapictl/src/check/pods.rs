//! The pods of the mesh: with a sidecar, of a version that goes with the operator, and with roots to trust.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::core::v1::Pod;
use operator::{inject, names};

use super::finding::{Check, Finding, about, several};
use super::versions::{Skew, skew};
use super::webhooks::are_certificates;
use crate::cluster::{Seen, Workloads, key};

/// Pods that should have a sidecar and have none.
pub(super) fn sidecars(workloads: &Workloads) -> Vec<Finding> {
    about(Check::Sidecars, "the pods", &workloads.pods, |_| {
        let (governed, asked): (Vec<_>, Vec<_>) =
            workloads.unmeshed().into_iter().partition(|unmeshed| unmeshed.policy.is_some());
        let mut findings = Vec::new();
        if !asked.is_empty() {
            let pods: Vec<String> = asked.into_iter().map(|unmeshed| unmeshed.pod).collect();
            let found = format!("they or their namespace ask for a sidecar, and they run without: {}", several(&pods));
            let remedy = "they are older than the wish or than the webhook: restart them (kubectl rollout restart)";
            findings.push(Finding::failed(Check::Sidecars, found, remedy));
        }
        if !governed.is_empty() {
            let with = |policy: Option<String>| policy.map(|policy| format!(" ({policy})")).unwrap_or_default();
            let pods: Vec<String> =
                governed.into_iter().map(|one| format!("{}{}", one.pod, with(one.policy))).collect();
            let found = format!("a FapiPolicy governs them, and they run without a sidecar: {}", several(&pods));
            let remedy = "nothing guards them: annotate them or label their namespace with \
                          fapi-mesh.dev/inject: enabled, and restart them";
            findings.push(Finding::failed(Check::Sidecars, found, remedy));
        }
        if findings.is_empty() {
            let found = format!("{} pods have one, none lacks one", workloads.meshed().count());
            findings.push(Finding::ok(Check::Sidecars, found));
        }
        findings
    })
}

/// Sidecars that are too old or too new for the operator, if there is one.
pub(super) fn versions(workloads: &Workloads) -> Vec<Finding> {
    if workloads.operator.is_err() {
        return Vec::new();
    }
    let Some(operator) = workloads.operator_version() else {
        let found =
            format!("the operator's version is not known: its Deployment lacks the label {}", names::VERSION_LABEL);
        return vec![Finding::warning(Check::SidecarVersions, found, "install it by the chart fapi-mesh")];
    };
    let mut by_version: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for pod in workloads.meshed() {
        by_version.entry(version(pod)).or_default().push(key(&pod.metadata));
    }
    let judge = |(version, pods): (&str, Vec<String>)| {
        let pods = several(&pods);
        match skew(operator, version) {
            Skew::Same => None,
            Skew::Supported => Some(Finding::warning(
                Check::SidecarVersions,
                format!("version {version} beside operator {operator}: {pods}"),
                "they work together; restart the pods when it suits you",
            )),
            Skew::Unsupported => Some(Finding::failed(
                Check::SidecarVersions,
                format!("version {version:?} does not go with operator {operator}: {pods}"),
                "restart the pods, or upgrade the operator: sidecars may be two minor versions older, or one newer",
            )),
        }
    };
    let findings: Vec<Finding> = by_version.into_iter().filter_map(judge).collect();
    if findings.is_empty() {
        return vec![Finding::ok(Check::SidecarVersions, format!("all are of version {operator}, the operator's"))];
    }
    findings
}

/// The roots in the namespaces of pods with a sidecar: without them a sidecar gets no certificate.
pub(super) fn trust(workloads: &Workloads, bundles: &Seen<Vec<ConfigMap>>) -> Vec<Finding> {
    let what = format!("the ConfigMaps {}", names::TRUST_BUNDLE);
    about(Check::TrustBundle, &what, bundles, |bundles| {
        let roots: BTreeMap<&str, &str> = bundles.iter().filter_map(roots).collect();
        let homes: BTreeSet<&str> = workloads.meshed().filter_map(|pod| pod.metadata.namespace.as_deref()).collect();
        let lacking: Vec<&str> = homes.iter().copied().filter(|home| !roots.contains_key(home)).collect();
        let kinds: BTreeSet<&str> = homes.iter().filter_map(|home| roots.get(home).copied()).collect();
        let keeps = "see that the operator runs: it keeps them, and its log says where it cannot";
        if !lacking.is_empty() {
            let found = format!(
                "there is no ConfigMap {} with certificates under {} in {}",
                names::TRUST_BUNDLE,
                names::TRUST_BUNDLE_KEY,
                several(&lacking)
            );
            return vec![Finding::failed(Check::TrustBundle, found, keeps)];
        }
        if kinds.len() > 1 {
            return vec![Finding::warning(Check::TrustBundle, "the roots are not the same in all namespaces", keeps)];
        }
        vec![Finding::ok(Check::TrustBundle, format!("{} namespaces with sidecars have the roots", homes.len()))]
    })
}

/// The namespace of a bundle, and the roots in it, if they are any.
fn roots(bundle: &ConfigMap) -> Option<(&str, &str)> {
    let roots = bundle.data.as_ref()?.get(names::TRUST_BUNDLE_KEY)?;
    are_certificates(roots.as_bytes()).then_some((bundle.metadata.namespace.as_deref()?, roots))
}

/// The version that injected a pod.
fn version(pod: &Pod) -> &str {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|annotations| annotations.get(inject::STATUS)).map(String::as_str).unwrap_or_default()
}
