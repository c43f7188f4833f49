//! From a snapshot to ports that can judge; every problem is reported.

use std::{collections::HashSet, sync::Arc};

use control::{Port, PortPolicyDoc, Snapshot};
use fapi::{Issuer, Policy, PortPolicy, SenderConstraint, SpiffeId, TrustDomain};

use super::AppliedPort;

/// More ports than any pod has; each costs a listener.
const MAX_PORTS: usize = 256;

/// Compiles all ports of a snapshot that is meant for the identity `own` (unknown before enrolment).
pub(super) fn ports(
    trust_domain: &TrustDomain,
    own: Option<&SpiffeId>,
    snapshot: &Snapshot,
) -> Result<Vec<Arc<AppliedPort>>, Vec<String>> {
    let mut problems = header_problems(trust_domain, own, snapshot);
    let mut listens = HashSet::new();
    let mut ports = Vec::with_capacity(snapshot.ports.len());
    for (at, port) in snapshot.ports.iter().enumerate().take(MAX_PORTS) {
        if !listens.insert(port.listen) {
            problems.push(format!("ports[{at}].listen: {} is listed twice", port.listen));
        }
        match policy(trust_domain, port) {
            Ok(policy) => ports.push(Arc::new(AppliedPort {
                listen: port.listen,
                app: port.app,
                takes_dpop: takes_dpop(&policy),
                policy,
            })),
            Err(found) => problems.extend(found.into_iter().map(|problem| format!("ports[{at}].policy.{problem}"))),
        }
    }
    if problems.is_empty() { Ok(ports) } else { Err(problems) }
}

fn header_problems(trust_domain: &TrustDomain, own: Option<&SpiffeId>, snapshot: &Snapshot) -> Vec<String> {
    let mut problems = Vec::new();
    if snapshot.trust_domain != trust_domain.as_str() {
        problems.push(format!("trustDomain: {} is not ours, {trust_domain}", snapshot.trust_domain));
    }
    if let Some(own) = own
        && snapshot.spiffe_id != own.as_str()
    {
        problems.push(format!("spiffeId: {} is not ours, {own}", snapshot.spiffe_id));
    }
    if let Err(problem) = Issuer::parse(&snapshot.mesh_issuer.issuer) {
        problems.push(format!("meshIssuer.issuer: {problem}"));
    }
    if snapshot.ports.len() > MAX_PORTS {
        problems.push(format!("ports: {} are more than {MAX_PORTS}", snapshot.ports.len()));
    }
    problems
}

fn policy(trust_domain: &TrustDomain, port: &Port) -> Result<PortPolicy, Vec<String>> {
    match &port.policy {
        PortPolicyDoc::Invalid { name } => Ok(PortPolicy::Invalid { name: name.as_str().into() }),
        PortPolicyDoc::Policy(wire) => match Policy::compile(trust_domain, wire) {
            Ok(policy) => Ok(PortPolicy::Policy(Arc::new(policy))),
            Err(found) => {
                Err(found.into_iter().map(|problem| format!("{}: {}", problem.field, problem.message)).collect())
            }
        },
    }
}

fn takes_dpop(policy: &PortPolicy) -> bool {
    matches!(policy, PortPolicy::Policy(policy) if policy.accepts(SenderConstraint::Dpop))
}
