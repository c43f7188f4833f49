//! FapiIssuers, resolved: which of them a policy may use, and what a sidecar is told of them.

#[cfg(test)]
mod tests;

use control::ExternalIssuer;
use crds::conditions::reason;
use fapi::{WireCaller, WireExternal, WireResource};

use crate::model::{Allowed, Issuer, IssuerRef, IssuerSpec, Pod, Table};

/// Why a policy gets nothing of an issuer: a reason, and what to do.
pub(crate) type Unresolved = (&'static str, String);

/// The FapiIssuers of a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Issuers<'a>(pub(crate) &'a Table<String, Issuer>);

impl<'a> Issuers<'a> {
    /// What the policies of a namespace may take of the issuer that they name so.
    pub(crate) fn resolve(
        self,
        namespace: &str,
        wanted: &IssuerRef,
    ) -> Result<(&'a IssuerSpec, &'a Allowed), Unresolved> {
        let name = &wanted.name;
        let issuer = self.0.get(name).ok_or_else(|| {
            (reason::ISSUER_NOT_FOUND, format!("there is no FapiIssuer {name}; make it, or mend the name"))
        })?;
        let never_good = || (reason::ISSUER_NOT_FOUND, format!("no version of the FapiIssuer {name} was ever good"));
        let spec = issuer.spec.as_ref().ok_or_else(never_good)?;
        if let Some(holder) = self.holder(name, &spec.server.issuer) {
            let message = format!("the FapiIssuer {name} is in conflict with {holder}, which has the same issuer");
            return Err((reason::ISSUER_NOT_FOUND, message));
        }
        let refused = |what: String| {
            (reason::REF_NOT_PERMITTED, format!("the FapiIssuer {name} does not allow {what}; have its owner add it"))
        };
        let allowed = spec.allow.get(namespace).ok_or_else(|| refused(format!("the namespace {namespace}")))?;
        match wanted.audiences.iter().find(|audience| !allowed.audiences.contains(audience)) {
            Some(audience) => Err(refused(format!("the audience {audience} in {namespace}"))),
            None => Ok((spec, allowed)),
        }
    }

    /// The older FapiIssuer of the same identifier: one identifier is one server, with one set of keys.
    pub(crate) fn holder(self, name: &str, issuer: &str) -> Option<&'a str> {
        let same = |other: &&Issuer| other.spec.as_ref().is_some_and(|spec| spec.server.issuer == issuer);
        let oldest = self.0.values().filter(same).min_by_key(|other| &other.seniority)?;
        (*oldest.seniority.key.name != *name).then_some(&oldest.seniority.key.name)
    }

    /// What the policies of a namespace may take of the issuers that they name so, in their order. Nothing in an opaque token
    /// tells whose it is, so only the first issuer of such tokens counts.
    pub(crate) fn resolve_all(
        self,
        namespace: &str,
        wanted: &'a [IssuerRef],
    ) -> impl Iterator<Item = Result<(&'a IssuerRef, &'a IssuerSpec, &'a Allowed), Unresolved>> {
        let mut opaque: Option<&str> = None;
        wanted.iter().map(move |wanted| {
            let (spec, allowed) = self.resolve(namespace, wanted)?;
            if let (Some(first), true) = (opaque, spec.opaque) {
                let message = format!("the tokens of {first} are opaque too; take {} in another policy", wanted.name);
                return Err((reason::REF_NOT_PERMITTED, message));
            }
            opaque = opaque.or(spec.opaque.then_some(&wanted.name));
            Ok((wanted, spec, allowed))
        })
    }

    /// Where the keys of these are, and as whom a workload asks those of them whose tokens it cannot read.
    pub(crate) fn servers(self, names: impl Iterator<Item = &'a str>, pod: &Pod) -> Vec<ExternalIssuer> {
        let server = |name| {
            let spec = self.0.get(name)?.spec.as_ref()?;
            let introspect_as = if spec.opaque { client_of(spec, pod) } else { None };
            Some(ExternalIssuer { introspect_as, ..spec.server.clone() })
        };
        let mut servers: Vec<_> = names.filter_map(server).collect();
        servers.sort_by(|a, b| a.issuer.cmp(&b.issuer));
        servers.dedup();
        servers
    }
}

/// The client that a workload is at an issuer: the one that names its service account, or else its namespace.
fn client_of(spec: &IssuerSpec, pod: &Pod) -> Option<String> {
    let named = |account: Option<&str>| {
        let is_it =
            |caller: &WireCaller| caller.namespace == pod.namespace && caller.service_account.as_deref() == account;
        let client = spec.clients.iter().find(|client| client.callers.iter().any(is_it))?;
        Some(client.client_id.clone())
    };
    named(Some(&pod.service_account)).or_else(|| named(None))
}

/// What a sidecar is told of an issuer. `origins` are those of the port: its tokens are for the same service, under other
/// names.
pub(super) fn wire(wanted: &IssuerRef, spec: &IssuerSpec, allowed: &Allowed, origins: &[String]) -> WireExternal {
    let resource = |audience: &String| WireResource { audience: audience.clone(), origins: origins.to_vec() };
    WireExternal {
        name: wanted.name.clone(),
        issuer: spec.server.issuer.clone(),
        resources: wanted.audiences.iter().map(resource).collect(),
        typ: spec.typ,
        opaque: spec.opaque,
        client_id_claim: spec.client_id_claim,
        max_token_age: spec.max_token_age,
        scopes: (!allowed.scopes.is_empty()).then(|| allowed.scopes.clone()),
        clients: spec.clients.clone(),
    }
}
