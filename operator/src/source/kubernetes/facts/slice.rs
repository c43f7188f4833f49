use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use super::pod::number;
use crate::model::EndpointState;

/// The label that names the Service of a slice.
const SERVICE: &str = "kubernetes.io/service-name";

/// A part of the endpoints of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SliceFact {
    /// The Service, in the slice's namespace; `None`: it serves none.
    pub(crate) service: Option<String>,
    /// TCP ports: name and number.
    pub(crate) ports: Vec<(String, u16)>,
    pub(crate) endpoints: Vec<Address>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) address: IpAddr,
    /// The uid of the pod that it is said to be; `None` if it is said to be none.
    pub(crate) pod: Option<String>,
    pub(crate) state: EndpointState,
}

impl SliceFact {
    pub(crate) fn read(slice: EndpointSlice) -> Self {
        let ports = slice.ports.unwrap_or_default().into_iter();
        let tcp = ports.filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"));
        Self {
            service: slice.metadata.labels.and_then(|mut labels| labels.remove(SERVICE)),
            ports: tcp.filter_map(|port| Some((port.name.unwrap_or_default(), number(port.port?)?))).collect(),
            endpoints: slice.endpoints.into_iter().flatten().flat_map(Address::read).collect(),
        }
    }
}

impl Address {
    fn read(endpoint: Endpoint) -> Option<Self> {
        // All addresses of one endpoint mean the same; consumers use the first. A slice of names has none.
        let address = endpoint.addresses.first()?.parse().ok()?;
        let conditions = endpoint.conditions.unwrap_or_default();
        let state = match (conditions.ready, conditions.serving, conditions.terminating) {
            (None | Some(true), _, _) => EndpointState::Ready,
            (Some(false), Some(true), Some(true)) => EndpointState::Draining,
            _ => EndpointState::Unready,
        };
        let pod = endpoint.target_ref.filter(|target| target.kind.as_deref() == Some("Pod"));
        Some(Self { address, pod: pod.map(|pod| pod.uid.unwrap_or_default()), state })
    }
}
