//! The containers and volumes of the mesh in a pod.
//!
//! Every field that the API server would fill in is written out, so that it changes nothing, and a second injection finds what
//! the first one made.

use std::collections::BTreeMap;

use control::pod::probes::{PROBES_ENV, Probes};
use control::pod::{HEALTH_PORT, SIDECAR_ID};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, EnvVar, HTTPGetAction, KeyToPath, Pod, Probe,
    ProjectedVolumeSource, ResourceRequirements, SeccompProfile, SecurityContext, ServiceAccountTokenProjection,
    Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::annotations::{Asked, INTERCEPTION};
use super::strip::Given;
use super::{Interception, REDIRECT, SIDECAR, STATUS, Settings, quantity};
use crate::names::{self, TRUST_BUNDLE_KEY};

/// Whom the enrolment token is for.
pub(super) const AUDIENCE: &str = "fapi-mesh.dev";
/// The volume with the enrolment token.
pub(super) const TOKEN_VOLUME: &str = "fapi-mesh-token";
/// The volume with the roots of the mesh, and the ConfigMap that the operator keeps in the namespace.
pub(super) const BUNDLE_VOLUME: &str = names::TRUST_BUNDLE;

/// The variable by which a sidecar is told its mode.
pub(super) const INTERCEPTION_ENV: &str = "FAPI_INTERCEPTION";

const TOKEN_FOLDER: &str = "/var/run/secrets/fapi-mesh.dev";
const BUNDLE_FOLDER: &str = "/var/run/fapi-mesh.dev";
/// The shortest that Kubernetes gives.
const TOKEN_SECONDS: i64 = 600;
/// Everyone in the container may read it, and the sidecar is alone there.
const MODE: i32 = 0o644;
/// Seconds until a sidecar that gets no certificate is started anew.
const START: i32 = 120;

/// What an idle sidecar takes, and what a busy one may.
const CPU_REQUEST: &str = "10m";
const MEMORY_REQUEST: &str = "32Mi";
const MEMORY_LIMIT: &str = "128Mi";

/// Puts containers and volumes before the pod's own. `kept` are resources that ours already had.
pub(super) fn add(pod: &mut Pod, settings: &Settings, asked: &Asked, probes: &Probes, kept: Given) {
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(STATUS.to_owned(), control::VERSION.to_owned());
    annotations.insert(INTERCEPTION.to_owned(), asked.interception.name().to_owned());
    let spec = pod.spec.get_or_insert_default();
    let redirect = (asked.interception == Interception::Redirect).then(|| redirect(settings, asked, kept.redirect));
    let ours = redirect.into_iter().chain([sidecar(settings, asked, probes, kept.sidecar)]);
    spec.init_containers.get_or_insert_default().splice(0..0, ours);
    spec.volumes.get_or_insert_default().splice(0..0, [token_volume(), bundle_volume()]);
}

/// Sets the redirection, and ends. It alone may touch the network of the pod. It gets what the sidecar gets: the pod costs no more
/// by it, and a quota or a Guaranteed pod asks the same of every container.
fn redirect(settings: &Settings, asked: &Asked, kept: ResourceRequirements) -> Container {
    let skipped = [("FAPI_PASS_INBOUND", &asked.skip_inbound), ("FAPI_PASS_OUTBOUND", &asked.skip_outbound)];
    let mut env: Vec<_> =
        skipped.into_iter().filter_map(|(name, ports)| Some(variable(name, ports.as_ref()?))).collect();
    env.extend((asked.id != SIDECAR_ID).then(|| variable("FAPI_SIDECAR_ID", &asked.id.to_string())));
    let capabilities = Capabilities { add: Some(vec!["NET_ADMIN".to_owned()]), drop: Some(vec!["ALL".to_owned()]) };
    let mut container = base(REDIRECT, settings, 0);
    container.args = Some(vec!["redirect".to_owned()]);
    container.env = Some(env).filter(|env| !env.is_empty());
    container.resources = Some(resources(asked, kept));
    if let Some(context) = &mut container.security_context {
        context.capabilities = Some(capabilities);
    }
    container
}

/// Starts before the app and ends after it (KEP-753).
fn sidecar(settings: &Settings, asked: &Asked, probes: &Probes, kept: ResourceRequirements) -> Container {
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    Container {
        restart_policy: Some("Always".to_owned()),
        env: Some(environment(settings, asked, probes)),
        resources: Some(resources(asked, kept)),
        startup_probe: Some(ready(1, START)),
        readiness_probe: Some(ready(5, 3)),
        volume_mounts: Some(vec![mount(TOKEN_VOLUME, TOKEN_FOLDER), mount(BUNDLE_VOLUME, BUNDLE_FOLDER)]),
        ..base(SIDECAR, settings, i64::from(asked.id))
    }
}

fn environment(settings: &Settings, asked: &Asked, probes: &Probes) -> Vec<EnvVar> {
    let mut env = vec![
        variable("FAPI_CONTROL", &settings.control),
        variable("FAPI_TRUST_DOMAIN", settings.trust_domain.as_str()),
        variable("FAPI_OPERATOR_NAMESPACE", &settings.operator_namespace),
        variable("FAPI_TRUST_BUNDLE", &format!("{BUNDLE_FOLDER}/{TRUST_BUNDLE_KEY}")),
        variable("FAPI_TOKEN_FILE", &format!("{TOKEN_FOLDER}/token")),
        variable(INTERCEPTION_ENV, asked.interception.name()),
    ];
    env.extend(asked.log_level.as_ref().map(|level| variable("FAPI_LOG", level)));
    // Texts and numbers under texts: it can always be written.
    let probes = (!probes.is_empty()).then(|| serde_json::to_string(probes).unwrap_or_default());
    // Kubernetes puts other variables in the place of $(NAME); to a reader of JSON this is the same.
    let probes = probes.map(|probes| probes.replace('$', "\\u0024"));
    env.extend(probes.map(|probes| variable(PROBES_ENV, &probes)));
    env
}

/// What both containers have in common: no rights, no writable file.
fn base(name: &str, settings: &Settings, id: i64) -> Container {
    Container {
        name: name.to_owned(),
        image: Some(settings.image.name.clone()),
        image_pull_policy: Some(settings.image.pull_policy.clone()),
        termination_message_path: Some("/dev/termination-log".to_owned()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
            privileged: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_group: Some(id),
            run_as_non_root: Some(id != 0),
            run_as_user: Some(id),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

/// Asked for, else as before, else the default. A limit is never below what is requested.
fn resources(asked: &Asked, kept: ResourceRequirements) -> ResourceRequirements {
    let mut requests = quantities([("cpu", CPU_REQUEST), ("memory", MEMORY_REQUEST)]);
    let mut limits = quantities([("memory", MEMORY_LIMIT)]);
    requests.extend(kept.requests.unwrap_or_default());
    limits.extend(kept.limits.unwrap_or_default());
    let requested = [("cpu", &asked.cpu_request), ("memory", &asked.memory_request)];
    let limited = [("cpu", &asked.cpu_limit), ("memory", &asked.memory_limit)];
    requests.extend(requested.into_iter().filter_map(given));
    limits.extend(limited.into_iter().filter_map(given));
    for ((name, requested), (_, limited)) in requested.into_iter().zip(limited) {
        let (Some(request), Some(limit)) = (requests.get(name).cloned(), limits.get(name).cloned()) else { continue };
        if quantity::thousandths(&request.0) > quantity::thousandths(&limit.0) {
            // What was not asked for gives way.
            let way =
                if requested.is_some() && limited.is_none() { (&mut limits, request) } else { (&mut requests, limit) };
            way.0.insert(name.to_owned(), way.1);
        }
    }
    ResourceRequirements { claims: None, requests: Some(requests), limits: Some(limits) }
}

fn given((name, amount): (&str, &Option<String>)) -> Option<(String, Quantity)> {
    Some((name.to_owned(), Quantity(amount.clone()?)))
}

fn quantities<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, Quantity> {
    pairs.into_iter().map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned()))).collect()
}

fn ready(period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some("/readyz".to_owned()),
            port: IntOrString::Int(i32::from(HEALTH_PORT)),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        success_threshold: Some(1),
        timeout_seconds: Some(1),
        ..Probe::default()
    }
}

fn token_volume() -> Volume {
    let token = ServiceAccountTokenProjection {
        audience: Some(AUDIENCE.to_owned()),
        expiration_seconds: Some(TOKEN_SECONDS),
        path: "token".to_owned(),
        ..ServiceAccountTokenProjection::default()
    };
    let source = VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() };
    Volume {
        name: TOKEN_VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(MODE),
            sources: Some(vec![source]),
            ..ProjectedVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn bundle_volume() -> Volume {
    let item =
        KeyToPath { key: TRUST_BUNDLE_KEY.to_owned(), path: TRUST_BUNDLE_KEY.to_owned(), ..KeyToPath::default() };
    Volume {
        name: BUNDLE_VOLUME.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: BUNDLE_VOLUME.to_owned(),
            default_mode: Some(MODE),
            items: Some(vec![item]),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None }
}
