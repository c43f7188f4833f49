//! Whether a pod can be guarded by a sidecar at all.

use std::net::IpAddr;

use control::pod::{ADMIN_PORT, HEALTH_PORT, INBOUND_PORT, OUTBOUND_PORT, PROXY_PORT};
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec, SecurityContext};

use super::annotations::Asked;
use super::containers::{AUDIENCE, BUNDLE_VOLUME, TOKEN_VOLUME};
use super::{Interception, Loosening, Namespace, REDIRECT, Refusal, SIDECAR, Settings};
use crate::names::POD_SECURITY;

/// With these a container undoes the interception, or looks into the sidecar: itself, by the kernel (modules, programs, memory),
/// or by files of the node.
const CAPABILITIES: [&str; 9] =
    ["ALL", "BPF", "DAC_READ_SEARCH", "NET_ADMIN", "PERFMON", "SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO"];
const OWN_PORTS: [u16; 5] = [ADMIN_PORT, OUTBOUND_PORT, PROXY_PORT, INBOUND_PORT, HEALTH_PORT];

/// Everything that keeps a pod without our containers from getting them.
pub(super) fn check(pod: &Pod, asked: &Asked, settings: &Settings, namespace: &Namespace, refusals: &mut Vec<Refusal>) {
    let level = namespace.labels.get(POD_SECURITY).map_or("privileged", String::as_str);
    // A level that nobody knows is taken for the strictest, as Kubernetes does.
    if asked.interception == Interception::Redirect && level != "privileged" {
        refusals.push(Refusal::PodSecurity { level: level.to_owned() });
    }
    let Some(spec) = &pod.spec else { return };
    if asked.interception == Interception::Redirect && !settings.allowed.allows(Loosening::SkipPorts, &namespace.name) {
        refusals.extend(
            own_name_server(spec)
                .map(|address| Refusal::NameServer { address: address.to_owned(), namespace: namespace.name.clone() }),
        );
    }
    check_spec(spec, asked.id, refusals);
    for container in containers(spec) {
        check_container(container, asked.id, refusals);
    }
}

/// A name server of the pod's own choice: its port 53 is not redirected, whatever listens there. One on the link is the node's
/// (NodeLocal DNSCache), and one on loopback the pod's.
fn own_name_server(spec: &PodSpec) -> Option<&str> {
    let here = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_loopback(),
    };
    let mut servers = spec.dns_config.iter().flat_map(|config| config.nameservers.iter().flatten());
    servers.find(|server| !server.parse().is_ok_and(here)).map(String::as_str)
}

/// All containers that a pod is made with.
fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

fn check_spec(spec: &PodSpec, own: u32, refusals: &mut Vec<Refusal>) {
    let set = |flag: Option<bool>| flag.unwrap_or_default();
    refusals.extend(set(spec.host_network).then_some(Refusal::HostNetwork));
    refusals.extend(set(spec.host_pid).then_some(Refusal::HostPid));
    refusals.extend(set(spec.share_process_namespace).then_some(Refusal::SharedProcesses));
    let os = spec.os.as_ref().map(|os| os.name.as_str()).filter(|name| *name != "linux");
    refusals.extend(os.map(|name| Refusal::OperatingSystem(name.to_owned())));
    if let Some(context) = &spec.security_context {
        let groups = context.supplemental_groups.iter().flatten().map(|id| ("supplementalGroups", Some(*id)));
        let ids =
            [("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group), ("fsGroup", context.fs_group)];
        refusals.extend(ids.into_iter().chain(groups).filter_map(|(field, id)| own_id(own, "the pod", field, id)));
    }
    for volume in spec.volumes.iter().flatten() {
        if [TOKEN_VOLUME, BUNDLE_VOLUME].contains(&volume.name.as_str()) {
            refusals.push(Refusal::NameTaken { what: "volume", name: volume.name.clone() });
        }
        let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        let mut tokens = sources.filter_map(|source| source.service_account_token.as_ref()?.audience.as_deref());
        if tokens.any(|audience| audience == AUDIENCE) {
            refusals.push(Refusal::SidecarToken { place: format!("volume {}", volume.name) });
        }
    }
}

fn check_container(container: &Container, own: u32, refusals: &mut Vec<Refusal>) {
    let name = &container.name;
    if [SIDECAR, REDIRECT].contains(&name.as_str()) {
        refusals.push(Refusal::NameTaken { what: "container", name: name.clone() });
    }
    if let Some(context) = &container.security_context {
        check_rights(name, context, own, refusals);
    }
    for port in container.ports.iter().flatten().map(|port| port.container_port) {
        if OWN_PORTS.iter().any(|own| i32::from(*own) == port) {
            refusals.push(Refusal::PortTaken { container: name.clone(), port });
        }
    }
    let mounts = container.volume_mounts.iter().flatten();
    if mounts.into_iter().any(|mount| [TOKEN_VOLUME, BUNDLE_VOLUME].contains(&mount.name.as_str())) {
        refusals.push(Refusal::SidecarToken { place: format!("container {name}") });
    }
}

/// Everything that keeps a container out of a pod with a sidecar that runs: what would keep it out of one that is made, and the
/// sidecar as its target, whose processes and files it would see.
pub(super) fn check_ephemeral(container: &EphemeralContainer, own: u32, refusals: &mut Vec<Refusal>) {
    let EphemeralContainer { name, ports, security_context, target_container_name, volume_mounts, .. } =
        container.clone();
    let target = target_container_name.filter(|target| [SIDECAR, REDIRECT].contains(&target.as_str()));
    refusals.extend(target.map(|target| Refusal::SidecarTarget { container: name.clone(), target }));
    check_container(&Container { name, ports, security_context, volume_mounts, ..Container::default() }, own, refusals);
}

fn check_rights(name: &str, context: &SecurityContext, own: u32, refusals: &mut Vec<Refusal>) {
    if context.privileged == Some(true) {
        refusals.push(Refusal::Privileged(name.to_owned()));
    }
    let added = context.capabilities.iter().flat_map(|capabilities| capabilities.add.iter().flatten());
    for capability in added {
        // Runtimes take them in any case, with and without the prefix.
        let upper = capability.to_ascii_uppercase();
        if CAPABILITIES.contains(&upper.strip_prefix("CAP_").unwrap_or(&upper)) {
            refusals.push(Refusal::Capability { container: name.to_owned(), capability: capability.clone() });
        }
    }
    let ids = [("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group)];
    refusals.extend(ids.into_iter().filter_map(|(field, id)| own_id(own, &format!("container {name}"), field, id)));
}

fn own_id(own: u32, place: &str, field: &str, id: Option<i64>) -> Option<Refusal> {
    (id == Some(i64::from(own)))
        .then(|| Refusal::SidecarId { place: format!("{place}: securityContext.{field}"), id: own })
}
