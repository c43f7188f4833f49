use std::collections::BTreeMap;
use std::net::IpAddr;

use control::pod;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodStatus};

use super::{DISABLED, ENABLED, INJECT};
use crate::inject::{self, Interception, SIDECAR, has_sidecar};
use crate::model::Hostname;

/// A pod that lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodFact {
    pub(crate) uid: String,
    pub(crate) service_account: String,
    pub(crate) node: Option<String>,
    pub(crate) terminating: bool,
    pub(crate) labels: BTreeMap<String, String>,
    /// The first one is the one that is told to others.
    pub(crate) addresses: Vec<IpAddr>,
    /// As the Service of this name knows it, if that is before it.
    pub(crate) hostname: Option<Hostname>,
    /// Its addresses are its machine's.
    pub(crate) on_host: bool,
    /// Declared TCP ports: number and name, in the order in which Kubernetes looks for a name. Containers know nothing of each
    /// other, so a name may stand for several numbers and a number have several names.
    pub(crate) ports: Vec<(u16, Option<String>)>,
    pub(crate) meshed: bool,
    /// Whether its own labels or annotations ask for a sidecar.
    asks: bool,
    /// Whether one of them is against it.
    pub(crate) opted_out: bool,
    /// How calls come to its sidecar, by what that was told: annotations can be changed while it runs.
    pub(crate) interception: Interception,
}

impl PodFact {
    /// What is to be known of a pod; `None` if it has ended: its address may be another's by now.
    pub(crate) fn read(pod: Pod) -> Option<Self> {
        let (metadata, spec, status) = (pod.metadata, pod.spec.unwrap_or_default(), pod.status.unwrap_or_default());
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return None;
        }
        let (labels, annotations) = (metadata.labels.unwrap_or_default(), metadata.annotations.unwrap_or_default());
        Some(Self {
            uid: metadata.uid.unwrap_or_default(),
            node: spec.node_name.clone(),
            terminating: metadata.deletion_timestamp.is_some(),
            addresses: addresses(&status),
            hostname: hostname(&spec),
            on_host: spec.host_network.unwrap_or_default(),
            ports: ports(&spec),
            meshed: has_sidecar(&spec),
            asks: says(&labels, &annotations, ENABLED),
            opted_out: says(&labels, &annotations, DISABLED),
            interception: inject::interception(&spec),
            labels,
            service_account: spec
                .service_account_name
                .filter(|account| !account.is_empty())
                .unwrap_or_else(|| "default".to_owned()),
        })
    }

    /// Whether it has a sidecar or asked for one, in a namespace that asks for its pods or does not. Injection is about new
    /// pods, and this is about those that are there: one that came before its namespace asked is no less opted in.
    pub(crate) fn opted_in(&self, namespace_asks: bool) -> bool {
        self.meshed || self.asks || namespace_asks
    }

    /// The number of a port by its name: of several the first, as kube-proxy is told.
    pub(crate) fn port_named(&self, name: &str) -> Option<u16> {
        self.ports.iter().find(|(_, known)| known.as_deref() == Some(name)).map(|(number, _)| *number)
    }

    /// A name of a port, for display.
    pub(crate) fn name_of(&self, number: u16) -> Option<&str> {
        let mut names = self.ports.iter().filter(|(known, _)| *known == number).map(|(_, name)| name.as_deref());
        names.find_map(|name| name)
    }
}

fn says(labels: &BTreeMap<String, String>, annotations: &BTreeMap<String, String>, word: &str) -> bool {
    [labels, annotations].into_iter().any(|texts| texts.get(INJECT).is_some_and(|value| value == word))
}

/// Init containers that stay (KEP-753).
fn sidecars(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    let init = spec.init_containers.iter().flatten();
    init.filter(|container| container.restart_policy.as_deref() == Some("Always"))
}

fn ports(spec: &PodSpec) -> Vec<(u16, Option<String>)> {
    let containers = spec.containers.iter().chain(sidecars(spec)).filter(|container| container.name != SIDECAR);
    let declared = containers.flat_map(|container| container.ports.iter().flatten());
    let tcp = declared.filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"));
    tcp.filter_map(|port| Some((number(port.container_port)?, port.name.clone()))).collect()
}

/// The number of a port that a sidecar guards; `None` for what cannot be one, and for the sidecar's own.
pub(crate) fn number(port: i32) -> Option<u16> {
    const OWN: [u16; 5] = [pod::ADMIN_PORT, pod::OUTBOUND_PORT, pod::PROXY_PORT, pod::INBOUND_PORT, pod::HEALTH_PORT];
    u16::try_from(port).ok().filter(|port| *port != 0 && !OWN.contains(port))
}

fn hostname(spec: &PodSpec) -> Option<Hostname> {
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    Some(Hostname { service: filled(&spec.subdomain)?, name: filled(&spec.hostname)? })
}

fn addresses(status: &PodStatus) -> Vec<IpAddr> {
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let mut addresses: Vec<IpAddr> = all.filter_map(|text| text.parse().ok()).collect();
    if addresses.is_empty() {
        addresses.extend(status.pod_ip.as_ref().and_then(|text| text.parse::<IpAddr>().ok()));
    }
    addresses
}
