//! Issuers outside the mesh: how their tokens are read, and which workloads their clients are.

use std::{collections::HashMap, sync::Arc};

use super::{
    Accepted, ClientIdClaim, Resource, TokenTyp, WireExternal,
    compile::{Report, TOKEN_AGES, callers, resources},
    rules::Callers,
};
use crate::value::{Issuer, ScopeSet, SpiffeId, TrustDomain};

/// What a policy says about an issuer outside the mesh.
#[derive(Debug)]
pub(crate) struct External {
    /// The name that rules know it by.
    pub(crate) name: Box<str>,
    /// For its tokens, instead of the policy's own.
    pub(crate) resources: Vec<Resource>,
    pub(crate) typ: TokenTyp,
    /// Only the issuer can read its tokens.
    pub(crate) opaque: bool,
    pub(crate) client_id_claim: ClientIdClaim,
    /// Seconds since `iat`.
    pub(crate) max_age: u64,
    /// The scopes that count; `None`: all.
    scopes: Option<ScopeSet>,
    clients: HashMap<Box<str>, Callers>,
}

impl External {
    /// Whether this workload may call as this client. Nothing that the token says can make it so.
    pub(crate) fn maps(&self, client_id: &str, caller: &SpiffeId) -> bool {
        self.clients.get(client_id).is_some_and(|callers| callers.name(caller))
    }

    /// Whether this workload may call as any client at all.
    pub(crate) fn knows(&self, caller: &SpiffeId) -> bool {
        self.clients.values().any(|callers| callers.name(caller))
    }

    /// Those of a token's scopes that count.
    pub(crate) fn counting(&self, scopes: ScopeSet) -> ScopeSet {
        match &self.scopes {
            Some(allowed) => scopes.difference(&scopes.difference(allowed)),
            None => scopes,
        }
    }
}

/// Whether a text looks like an identity of the mesh, in any case: no client of another issuer may bear such a name.
pub(crate) fn is_identity(client_id: &str) -> bool {
    client_id.get(..SCHEME.len()).is_some_and(|head| head.eq_ignore_ascii_case(SCHEME))
}

/// Compiles an issuer and adds it to those that are taken. An identifier stands for one issuer only.
pub(super) fn add(
    report: &mut Report,
    field: &str,
    domain: &TrustDomain,
    wire: &WireExternal,
    issuers: &mut Vec<Accepted>,
) {
    if wire.name.is_empty() {
        report.add(&format!("{field}.name"), "must not be empty");
    }
    report.need(&format!("{field}.resources"), &wire.resources);
    let resources = resources(report, &format!("{field}.resources"), &wire.resources);
    if !TOKEN_AGES.contains(&wire.max_token_age) {
        report.add(&format!("{field}.maxTokenAge"), "want 5 to 3600 seconds");
    }
    let scopes = wire.scopes.as_ref().map(ScopeSet::from_list).transpose().unwrap_or_else(|error| {
        report.add(&format!("{field}.scopes"), &error.to_string());
        None
    });
    let clients = clients(report, &format!("{field}.clients"), domain, wire);
    let issuer = match Issuer::parse(&wire.issuer) {
        Ok(issuer) => issuer,
        Err(error) => return report.add(&format!("{field}.issuer"), &error.to_string()),
    };
    if issuers.iter().any(|known| known.issuer == issuer) {
        return report.add(&format!("{field}.issuer"), "stands in the policy already; one identifier is one issuer");
    }
    let is_opaque = |known: &Accepted| known.external.as_ref().is_some_and(|external| external.opaque);
    if wire.opaque && issuers.iter().any(is_opaque) {
        report
            .add(&format!("{field}.opaque"), "another issuer's tokens are opaque too; nothing in them tells two apart");
    }
    let name = wire.name.as_str().into();
    let WireExternal { typ, opaque, client_id_claim, max_token_age: max_age, .. } = *wire;
    let external = External { name, resources, typ, opaque, client_id_claim, max_age, scopes, clients };
    issuers.push(Accepted { issuer, external: Some(Arc::new(external)) });
}

fn clients(report: &mut Report, list: &str, domain: &TrustDomain, wire: &WireExternal) -> HashMap<Box<str>, Callers> {
    let mut out = HashMap::new();
    for (index, mapping) in wire.clients.iter().enumerate() {
        let field = format!("{list}[{index}]");
        check_client_id(report, &format!("{field}.clientId"), &mapping.client_id);
        report.need(&format!("{field}.callers"), &mapping.callers);
        let callers = callers(report, &format!("{field}.callers"), domain, &mapping.callers);
        if out.insert(mapping.client_id.as_str().into(), callers).is_some() {
            report.add(&format!("{field}.clientId"), "stands above already; list each client once");
        }
    }
    out
}

pub(super) fn check_client_id(report: &mut Report, field: &str, client_id: &str) {
    if client_id.is_empty() {
        report.add(field, "must not be empty");
    } else if is_identity(client_id) {
        report.add(field, "a client of another issuer has no SPIFFE ID; name workloads as callers");
    }
}

const SCHEME: &str = "spiffe:";
