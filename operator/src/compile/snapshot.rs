//! The snapshot of one pod.

use std::collections::BTreeSet;

use control::{MeshIssuer, Port, PortPolicyDoc, Snapshot, WorkloadName};

use crate::crypto;
use crate::index::Index;

/// Enough of a hash that two documents of one pod never share it by chance.
const VERSION_DIGITS: usize = 12;

/// A snapshot as it is sent.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// A short hash of the document.
    pub(crate) version: String,
    /// The document, JSON.
    pub(crate) document: Vec<u8>,
}

/// What the pod's sidecar has to run; `None` for a pod that is unknown or runs none.
pub(crate) fn snapshot(index: &Index, pod_uid: &str, issuer: &MeshIssuer) -> Option<Snapshot> {
    let pod = index.model().pods.get(pod_uid).filter(|pod| pod.meshed)?;
    let ports = index.plans_of(pod).map(|(port, plan)| Port {
        name: port.name.clone(),
        port: port.number,
        listen: port.listen,
        app: port.app,
        policy: plan.document(&issuer.issuer),
    });
    let ports: Vec<Port> = ports.collect();
    let named: BTreeSet<&str> = ports.iter().flat_map(external).collect();
    Some(Snapshot {
        trust_domain: index.trust_domain().to_string(),
        spiffe_id: index.identity(pod)?.to_string(),
        pod_uid: pod.uid.clone(),
        workload: WorkloadName { namespace: pod.namespace.clone(), name: pod.name.clone() },
        mesh_issuer: issuer.clone(),
        external_issuers: index.issuers().servers(named.into_iter(), pod),
        token_exchange: index.exchanges(&pod.namespace, &pod.service_account),
        ports,
    })
}

/// The names of the FapiIssuers whose tokens a port takes.
fn external(port: &Port) -> impl Iterator<Item = &str> {
    let policy = match &port.policy {
        PortPolicyDoc::Policy(policy) => Some(policy),
        PortPolicyDoc::Tcp(_) | PortPolicyDoc::Invalid { .. } => None,
    };
    policy.into_iter().flat_map(|policy| &policy.external).map(|external| external.name.as_str())
}

impl Compiled {
    /// Writes a snapshot down. `None` cannot happen for a document of strings, numbers and lists.
    pub(crate) fn new(snapshot: &Snapshot) -> Option<Self> {
        let document = serde_json::to_vec(snapshot).ok()?;
        let mut version = crypto::sha256_hex(&document);
        version.truncate(VERSION_DIGITS);
        Some(Self { version, document })
    }
}
