//! Tokens of issuers outside the mesh: which of them a FapiClient may ask for at a target.

use std::sync::Arc;

use fapi::{AuthorizationDetails, Grant, ScopeSet, SpiffeId};

use super::preferred_constraint;
use crate::index::{Governor, Index};
use crate::issuer::{Asked, NotGranted, granted_by};
use crate::model::{ClientTarget, ExternalClient, IssuerRef, IssuerSpec, Key};

/// What is asked of an issuer outside the mesh.
#[derive(Debug)]
pub(crate) struct External<'a> {
    /// The issuer.
    pub(crate) issuer: &'a IssuerSpec,
    /// The first audience under which the target takes its tokens.
    pub(crate) audience: &'a str,
    /// The scopes and details of the token.
    pub(crate) grant: Grant,
}

/// Why a client may not ask.
#[derive(Debug)]
pub(crate) enum NotAsked {
    /// One of both sides may not use the issuer; the text says which, and what to do.
    Issuer(String),
    /// The rules of the target say no, or the issuer maps the client to other workloads.
    Rules(NotGranted),
}

/// What a FapiClient of the workload `identity` asks its issuer for, if the ports of the target that `port` picks take that.
///
/// The issuer outside knows no rules of the mesh, so everything is asked for by name. It may give more or less; the
/// sidecar of the target judges.
pub(crate) fn external<'a>(
    index: &'a Index,
    identity: &SpiffeId,
    client: &ExternalClient,
    target: &ClientTarget,
    port: impl Fn(&str) -> bool,
) -> Result<External<'a>, NotAsked> {
    let (service, name) = (&target.service, client.issuer.as_str());
    let plans = index.endpoints_of(service).filter(|(endpoint, _)| port(&endpoint.service_port));
    let plans: Vec<_> = plans.filter_map(|(endpoint, _)| index.plan_of(endpoint)).collect();
    let taken = plans.iter().find_map(|plan| match &plan.governor {
        Governor::Policy(key) => taken(index, key, name),
        Governor::BuiltIn { .. } => None,
    });
    let audience = taken.ok_or_else(|| {
        let remedy = "have its FapiPolicy list it under issuers, and look at the status of that";
        NotAsked::Issuer(format!("{service} takes no tokens of the FapiIssuer {name}; {remedy}"))
    })?;
    let wanted = IssuerRef { name: name.to_owned(), audiences: vec![audience.to_owned()] };
    let resolved = index.issuers().resolve(identity.namespace(), &wanted);
    let (issuer, _) = resolved.map_err(|(_, message)| NotAsked::Issuer(message))?;
    let mut policies: Vec<Arc<fapi::Policy>> = Vec::new();
    for policy in plans.iter().filter_map(|plan| plan.policy.as_ref()) {
        if !policies.iter().any(|known| Arc::ptr_eq(known, policy)) {
            policies.push(policy.clone());
        }
    }
    let bound = target.sender_constraint.unwrap_or_else(|| preferred_constraint(index, service, &port));
    let named = |policy: &fapi::Policy| policy.grant_client(identity, name, &client.client_id);
    let grant = granted_by(&policies, named, bound, &asked(target)).map_err(NotAsked::Rules)?;
    Ok(External { issuer, audience, grant })
}

/// The first audience under which a policy takes tokens of this issuer.
fn taken<'a>(index: &'a Index, policy: &Key, name: &str) -> Option<&'a str> {
    let spec = index.model().policies.get(policy)?.spec.as_ref()?;
    let accepted = spec.external.iter().find(|accepted| accepted.name == name)?;
    index.issuers().resolve(&policy.namespace, accepted).ok()?;
    accepted.audiences.first().map(String::as_str)
}

/// What a target asks for by name. Scopes that cannot be read are refused before they come here.
fn asked(target: &ClientTarget) -> Asked {
    let scopes = (!target.scopes.is_empty()).then(|| ScopeSet::from_list(&target.scopes).ok()).flatten();
    Asked { scopes, details: target.details.clone() }
}

/// Details as the parameter `authorization_details`; `None`: nothing is asked for.
pub(super) fn parameter(details: &AuthorizationDetails) -> Option<String> {
    // Texts and lists always become JSON.
    (!details.is_empty()).then(|| serde_json::to_string(details).ok()).flatten()
}

#[cfg(test)]
mod tests;
