//! Bringing the sidecar into a pod. Everything here is a function of its arguments: the webhook and `fapictl inject` call the
//! same ones.
//!
//! A pod that asked for a sidecar gets one or is refused; it never starts without. What stands in it from an earlier injection
//! is taken out first, so injecting twice is injecting once.

mod annotations;
mod containers;
mod documents;
mod fit;
mod patch;
mod probes;
mod proxy;
mod quantity;
mod refusal;
mod settings;
mod strip;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use control::pod::SIDECAR_ID;
use control::pod::probes::HookSecret;
pub use crds::mesh::Loosening;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

pub use self::annotations::{ANNOTATIONS, Annotation, INTERCEPTION, SKIP_INBOUND, SKIP_OUTBOUND, UID};
pub use self::documents::{Done, StreamError, inject_stream, uninject_stream};
pub use self::patch::{Operation, diff};
pub use self::refusal::{Refusal, Skip};
pub use self::settings::{Allowed, Image, Interception, Namespace, Settings};
use self::strip::Stripped;
use crate::crypto;

/// The label of a namespace or pod, and the annotation of a pod, that asks for a sidecar (`enabled`) or against one
/// (`disabled`).
pub const INJECT: &str = "fapi-mesh.dev/inject";
/// Its value that asks for one.
pub(crate) const ENABLED: &str = "enabled";
/// The annotation of an injected pod: the version that injected it.
pub const STATUS: &str = "fapi-mesh.dev/status";
/// The container of the sidecar.
pub const SIDECAR: &str = "fapi-sidecar";
/// The init container that sets the redirection.
pub const REDIRECT: &str = "fapi-redirect";

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It gets a sidecar.
    Injected(Box<Injected>),
    /// It stays as it is.
    Skipped(Skip),
    /// It must not start: every reason, never empty.
    Refused(Vec<Refusal>),
}

/// A pod with a sidecar.
#[derive(Clone, Debug, PartialEq)]
pub struct Injected {
    /// The pod.
    pub pod: Pod,
    /// What its author should know.
    pub warnings: Vec<String>,
}

/// 16 random bytes for [`inject`]. Without randomness the process ends.
pub fn random() -> [u8; 16] {
    crypto::random()
}

/// Brings the sidecar into a pod that asked for one. `random` is what the paths of its hooks are made of, unless it has such paths
/// already: other bytes for each pod.
pub fn inject(pod: &Pod, settings: &Settings, namespace: &Namespace, random: [u8; 16]) -> Outcome {
    match annotations::wish(pod, settings, namespace) {
        Ok(None) => {}
        Ok(Some(skip)) => return Outcome::Skipped(skip),
        Err(refusal) => return Outcome::Refused(vec![refusal]),
    }
    let Stripped { mut pod, injected, probes, resources } = strip::strip(pod);
    let mut refusals = Vec::new();
    let asked = annotations::read(&pod, settings, namespace, &mut refusals);
    fit::check(&pod, &asked, settings, namespace, &mut refusals);
    let probes = probes::rewrite(&mut pod, &probes, HookSecret::new(random), &mut refusals);
    match asked.interception {
        Interception::Proxy => proxy::set(&mut pod, &mut refusals),
        // Left by an earlier injection that was asked for the other mode.
        Interception::Redirect if injected => proxy::remove(&mut pod),
        Interception::Redirect => {}
    }
    if !refusals.is_empty() {
        return Outcome::Refused(refusals);
    }
    let warnings = annotations::warnings(&pod);
    containers::add(&mut pod, settings, &asked, &probes, resources);
    Outcome::Injected(Box::new(Injected { pod, warnings }))
}

/// Whether a pod is to have a sidecar, by its own word or its namespace's. One that says no to it is not.
pub fn asks(pod: &Pod, namespace: &Namespace) -> bool {
    annotations::asks(pod, namespace)
}

/// Whether a pod has its sidecar: an init container that stays (KEP-753).
pub fn has_sidecar(spec: &PodSpec) -> bool {
    sidecar(spec).is_some()
}

fn sidecar(spec: &PodSpec) -> Option<&Container> {
    let mut init = spec.init_containers.iter().flatten();
    init.find(|container| container.name == SIDECAR && container.restart_policy.as_deref() == Some("Always"))
}

/// The mode that the sidecar of a pod was given; redirection where there is none.
pub fn interception(spec: &PodSpec) -> Interception {
    let variables = sidecar(spec).into_iter().flat_map(|sidecar| sidecar.env.iter().flatten());
    let mut modes = variables.filter(|variable| variable.name == containers::INTERCEPTION_ENV);
    let is_proxy = modes.any(|mode| mode.value.as_deref() == Some(Interception::Proxy.name()));
    if is_proxy { Interception::Proxy } else { Interception::Redirect }
}

/// Everything that keeps the ephemeral containers that a pod is to get out of it: nothing, where there is no sidecar. What it has
/// already stays, as it can be neither changed nor removed.
pub(crate) fn refuse_ephemeral(before: &Pod, after: &Pod) -> Vec<Refusal> {
    let Some(spec) = &after.spec else { return Vec::new() };
    let Some(sidecar) = sidecar(spec) else { return Vec::new() };
    let user = sidecar.security_context.as_ref().and_then(|context| context.run_as_user);
    let own = user.and_then(|user| u32::try_from(user).ok()).unwrap_or(SIDECAR_ID);
    let before = before.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    let known: BTreeSet<&str> = before.map(|container| container.name.as_str()).collect();
    let mut refusals = Vec::new();
    for container in spec.ephemeral_containers.iter().flatten() {
        if !known.contains(container.name.as_str()) {
            fit::check_ephemeral(container, own, &mut refusals);
        }
    }
    refusals
}

/// Takes the sidecar out of a pod again; `None` if it has none. Named ports of probes come back as numbers.
pub fn uninject(pod: &Pod) -> Option<Pod> {
    let Stripped { mut pod, injected, probes, .. } = strip::strip(pod);
    injected.then(|| {
        probes::restore(&mut pod, &probes);
        proxy::remove(&mut pod);
        pod
    })
}
