//! Taking out what an earlier injection put into a pod.

use control::pod::probes::{PROBES_ENV, Probes};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};

use super::containers::{BUNDLE_VOLUME, TOKEN_VOLUME};
use super::{REDIRECT, SIDECAR, STATUS};

/// A pod without our containers.
pub(super) struct Stripped {
    pub(super) pod: Pod,
    /// Whether it had them.
    pub(super) injected: bool,
    /// What its sidecar was told about probes, which stand in the pod as they were rewritten.
    pub(super) probes: Probes,
    pub(super) resources: Given,
}

/// What our containers were given, which may be more than we asked for.
#[derive(Default)]
pub(super) struct Given {
    pub(super) sidecar: ResourceRequirements,
    pub(super) redirect: ResourceRequirements,
}

/// Takes our containers and volumes out of a pod. Without our annotation nothing in it is ours.
pub(super) fn strip(pod: &Pod) -> Stripped {
    let mut pod = pod.clone();
    let (mut probes, mut resources) = <(_, Given)>::default();
    let annotations = pod.metadata.annotations.as_mut();
    let injected = annotations.is_some_and(|annotations| annotations.remove(STATUS).is_some());
    if !injected {
        return Stripped { pod, injected, probes, resources };
    }
    pod.metadata.annotations = pod.metadata.annotations.filter(|annotations| !annotations.is_empty());
    if let Some(spec) = &mut pod.spec {
        let init = spec.init_containers.take().unwrap_or_default();
        let (ours, theirs): (Vec<_>, Vec<_>) =
            init.into_iter().partition(|container| [SIDECAR, REDIRECT].contains(&container.name.as_str()));
        spec.init_containers = Some(theirs).filter(|init| !init.is_empty());
        let mut volumes = spec.volumes.take().unwrap_or_default();
        volumes.retain(|volume| ![TOKEN_VOLUME, BUNDLE_VOLUME].contains(&volume.name.as_str()));
        spec.volumes = Some(volumes).filter(|volumes| !volumes.is_empty());
        for container in ours {
            if container.name == SIDECAR {
                probes = known_probes(&container);
                resources.sidecar = container.resources.unwrap_or_default();
            } else {
                resources.redirect = container.resources.unwrap_or_default();
            }
        }
    }
    Stripped { pod, injected, probes, resources }
}

fn known_probes(sidecar: &Container) -> Probes {
    let mut variables = sidecar.env.iter().flatten();
    let value = variables.find(|variable| variable.name == PROBES_ENV).and_then(|variable| variable.value.as_ref());
    value.and_then(|value| serde_json::from_str(value).ok()).unwrap_or_default()
}
