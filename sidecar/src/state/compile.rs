//! From a snapshot to ports that can judge; every problem is reported.

use std::{collections::HashSet, sync::Arc};

use control::{Port, PortPolicyDoc, Snapshot, tls::Roots};
use fapi::{Issuer, Policy, PolicyProblem, PortPolicy, SenderConstraint, SpiffeId, TcpPolicy, TrustDomain};

use super::AppliedPort;
use crate::audit::Books;

/// More ports than any pod has; each costs a listener.
pub(crate) const MAX_PORTS: usize = 256;
/// Each costs a task and a key set.
const MAX_ISSUERS: usize = 64;

/// Compiles all ports of a snapshot that is meant for the identity `own` (unknown before enrolment); `audits` are its books.
pub(super) fn ports(
    trust_domain: &TrustDomain,
    own: Option<&SpiffeId>,
    snapshot: &Snapshot,
    audits: &Books,
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
                number: port.port,
                app: port.app,
                takes_dpop: takes_dpop(&policy),
                audit: audits.book(&port.policy),
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
    problems.extend(external_problems(snapshot));
    if snapshot.ports.len() > MAX_PORTS {
        problems.push(format!("ports: {} are more than {MAX_PORTS}", snapshot.ports.len()));
    }
    problems
}

/// What is wrong with the issuers outside the mesh. None may be the mesh's own: its keys would take the place of those that
/// the operator sent.
fn external_problems(snapshot: &Snapshot) -> Vec<String> {
    let mut problems = Vec::new();
    let mut known = HashSet::from([snapshot.mesh_issuer.issuer.as_str()]);
    for (at, external) in snapshot.external_issuers.iter().enumerate() {
        if let Err(problem) = Issuer::parse(&external.issuer) {
            problems.push(format!("externalIssuers[{at}].issuer: {problem}"));
        }
        if !known.insert(&external.issuer) {
            problems.push(format!("externalIssuers[{at}].issuer: {} stands for another issuer", external.issuer));
        }
        if let Some(Err(error)) = external.ca_bundle.as_deref().map(Roots::from_pem) {
            problems.push(format!("externalIssuers[{at}].caBundle: {error}"));
        }
    }
    if snapshot.external_issuers.len() > MAX_ISSUERS {
        problems.push(format!("externalIssuers: more than {MAX_ISSUERS}"));
    }
    let named = snapshot.ports.iter().filter_map(|port| match &port.policy {
        PortPolicyDoc::Policy(policy) => Some(&policy.external),
        PortPolicyDoc::Tcp(_) | PortPolicyDoc::Invalid { .. } => None,
    });
    let own = snapshot.mesh_issuer.issuer.as_str();
    if named.flatten().any(|external| external.issuer == own) {
        problems.push(format!("policies: {own} is the mesh's own issuer, and not one outside it"));
    }
    problems
}

fn policy(trust_domain: &TrustDomain, port: &Port) -> Result<PortPolicy, Vec<String>> {
    let compiled = match &port.policy {
        PortPolicyDoc::Invalid { name } => Ok(PortPolicy::Invalid { name: name.as_str().into() }),
        PortPolicyDoc::Policy(wire) => Policy::compile(trust_domain, wire).map(Arc::new).map(PortPolicy::Policy),
        PortPolicyDoc::Tcp(wire) => TcpPolicy::compile(trust_domain, wire).map(Arc::new).map(PortPolicy::Tcp),
    };
    let text = |problem: PolicyProblem| format!("{}: {}", problem.field, problem.message);
    compiled.map_err(|found| found.into_iter().map(text).collect())
}

fn takes_dpop(policy: &PortPolicy) -> bool {
    matches!(policy, PortPolicy::Policy(policy) if policy.accepts(SenderConstraint::Dpop))
}
