use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value as Json;

use super::{BodyProblem, ObjectId, all_or};
use crate::crypto;
use crate::model::{Pod, PodPort};
use crate::source::workload::{WorkloadPort, WorkloadSpec};

/// What a Workload says: a pod, and the Service that it answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkloadBody {
    pub(crate) pod: Pod,
    pub(crate) service: Option<String>,
}

/// Reads a Workload.
pub(super) fn read(id: &ObjectId, spec: WorkloadSpec, labels: &Json) -> Result<WorkloadBody, Vec<BodyProblem>> {
    let mut problems = Vec::new();
    if spec.service_name.is_some() == spec.ports.is_empty() {
        let message = "a workload has ports exactly if it answers for a Service";
        problems.push(BodyProblem::new("spec", message, "give serviceName and ports, or neither"));
    }
    let key = id.key();
    let mut ports: Vec<PodPort> = Vec::new();
    for (position, port) in spec.ports.into_iter().enumerate() {
        let path = format!("spec.ports[{position}]");
        if ports.iter().any(|known| known.name == port.name || known.number == port.port) {
            problems.push(BodyProblem::new(&path, "its name or number stands above", "give each port its own"));
        }
        ports.extend(read_port(port, &path, &mut problems));
    }
    let pod = Pod {
        uid: uid(&key.to_string(), &spec.service_account_name),
        name: key.name.to_string(),
        namespace: key.namespace.to_string(),
        service_account: spec.service_account_name,
        ports,
        labels: serde_json::from_value::<Option<BTreeMap<_, _>>>(labels.clone()).ok().flatten().unwrap_or_default(),
        // All share the addresses of one machine.
        addresses: Vec::new(),
        meshed: true,
        hostname: None,
        opted_in: true,
        opted_out: false,
        node: None,
        terminating: false,
    };
    all_or(WorkloadBody { pod, service: spec.service_name }, problems)
}

fn read_port(port: WorkloadPort, path: &str, problems: &mut Vec<BodyProblem>) -> Option<PodPort> {
    let mut address = |name: &str, text: &str| {
        let read = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
        if read.is_none() {
            let message = format!("{text:?} is no address that can be connected to");
            let remedy =
                "write an IP address and a free port, such as 127.0.0.1:41001 (`fapictl demo` picks ports itself)";
            problems.push(BodyProblem::new(format!("{path}.{name}"), message, remedy));
        }
        read
    };
    let (listen, app) = (address("address", &port.address), address("appAddress", &port.app_address));
    Some(PodPort { name: port.name, number: port.port, listen: listen?, app: app? })
}

/// A uid that stays while the workload is the same: certificates carry it across restarts of the operator. A workload that
/// changes its service account is another pod.
fn uid(key: &str, service_account: &str) -> String {
    let hash = crypto::sha256_hex(format!("{key}\n{service_account}").as_bytes());
    let part = |from: usize, to: usize| hash.get(from..to).unwrap_or_default();
    // Version 8 (RFC 9562): a name-based UUID of our own making.
    format!("{}-{}-8{}-8{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}
