use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServiceSpec, ServiceStatus};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::pod::number;

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceFact {
    pub(crate) ports: Vec<ServicePortFact>,
    /// `None`: its pods are named by nobody but its slices.
    pub(crate) selector: Option<BTreeMap<String, String>>,
    /// What stands for it as a whole.
    pub(crate) addresses: Vec<IpAddr>,
    /// What stands for its ports, and for those of others: nodes (k3s), or what a provider lets several Services share.
    pub(crate) balancers: Vec<IpAddr>,
    /// Another name for something outside.
    pub(crate) alias: bool,
}

/// A TCP port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServicePortFact {
    /// Empty where it is the only one.
    pub(crate) name: String,
    pub(crate) number: u16,
    pub(crate) target: TargetPort,
}

/// Which port of a pod it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TargetPort {
    Number(u16),
    Name(String),
}

impl ServiceFact {
    pub(crate) fn read(service: Service) -> Self {
        let (spec, status) = (service.spec.unwrap_or_default(), service.status.unwrap_or_default());
        let alias = spec.type_.as_deref() == Some("ExternalName");
        let (addresses, balancers) = (addresses(&spec), balancers(&status));
        let ports = spec.ports.unwrap_or_default();
        let tcp = ports.into_iter().filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"));
        let ports = tcp.filter_map(|port| {
            let number_of_service = u16::try_from(port.port).ok().filter(|port| *port != 0)?;
            let target = match port.target_port {
                None => TargetPort::Number(number(port.port)?),
                Some(IntOrString::Int(target)) => TargetPort::Number(number(target)?),
                Some(IntOrString::String(name)) => TargetPort::Name(name),
            };
            Some(ServicePortFact { name: port.name.unwrap_or_default(), number: number_of_service, target })
        });
        Self {
            ports: ports.collect(),
            selector: spec.selector.filter(|selector| !selector.is_empty()),
            addresses,
            balancers,
            alias,
        }
    }
}

/// Those that the cluster gave it. `externalIPs` is not among them: there a namespace names whatever address it likes.
fn addresses(spec: &ServiceSpec) -> Vec<IpAddr> {
    // A headless Service has the text None.
    parsed(spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip))
}

fn balancers(status: &ServiceStatus) -> Vec<IpAddr> {
    let ingress = status.load_balancer.iter().flat_map(|balancer| balancer.ingress.iter().flatten());
    parsed(ingress.filter_map(|ingress| ingress.ip.as_ref()))
}

fn parsed<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = texts.filter_map(|text| text.parse().ok()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
