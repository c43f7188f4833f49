use std::collections::BTreeMap;

use control::ExternalIssuer;
use control::tls::Roots;
use crds::FapiIssuerSpec;
use crds::issuer::{ClientIdClaim, IssuerCaller, TokenFormat, TokenTyp};
use crds::policy::MESH_ISSUER;
use fapi::{TrustDomain, WireCaller, WireMapping};

use super::{BodyProblem, ObjectId, all_or};
use crate::index;
use crate::model::{Allowed, IssuerSpec};

/// Reads a FapiIssuer: its name, its roots, its bounds, and compiles its clients as a sidecar would.
pub(super) fn read(
    id: &ObjectId,
    spec: FapiIssuerSpec,
    trust_domain: &TrustDomain,
) -> Result<IssuerSpec, Vec<BodyProblem>> {
    let mut problems = Vec::new();
    if id.name == MESH_ISSUER {
        let message = "mesh is the name of the mesh's own issuer";
        problems.push(BodyProblem::new("metadata.name", message, "choose another"));
    }
    if let Some(Err(error)) = spec.ca_bundle.as_deref().map(Roots::from_pem) {
        let remedy = "write the root certificates that the server's certificate chains to";
        problems.push(BodyProblem::new("spec.caBundle", error.to_string(), remedy));
    }
    let max_token_age = crds::duration::parse(&spec.max_token_age).unwrap_or_default();
    let mut allow = BTreeMap::new();
    for (position, allowed) in spec.allow.into_iter().enumerate() {
        let entry = Allowed { audiences: allowed.audiences, scopes: allowed.scopes };
        if allow.insert(allowed.namespace, entry).is_some() {
            let field = format!("spec.allow[{position}]");
            problems.push(BodyProblem::new(field, "the namespace stands above", "name each namespace once"));
        }
    }
    let clients = spec.clients.into_iter().map(|client| WireMapping {
        client_id: client.client_id,
        callers: client.callers.into_iter().map(caller).collect(),
    });
    let spec = IssuerSpec {
        server: ExternalIssuer {
            issuer: spec.issuer,
            jwks_uri: spec.jwks_uri,
            ca_bundle: spec.ca_bundle,
            introspect_as: None,
        },
        allow,
        opaque: spec.token_format == TokenFormat::Opaque,
        typ: match spec.typ {
            TokenTyp::AccessToken => fapi::TokenTyp::AccessToken,
            TokenTyp::Jwt => fapi::TokenTyp::Jwt,
        },
        client_id_claim: match spec.client_id_claim {
            ClientIdClaim::ClientId => fapi::ClientIdClaim::ClientId,
            ClientIdClaim::Azp => fapi::ClientIdClaim::Azp,
            ClientIdClaim::Sub => fapi::ClientIdClaim::Sub,
        },
        // Parts of a second count for nothing, so that half of one more than the bound is not let in.
        max_token_age: max_token_age.as_secs(),
        clients: clients.collect(),
    };
    let compiled = index::check_issuer(trust_domain, &id.name, &spec).err().unwrap_or_default();
    problems.extend(compiled.into_iter().map(|problem| {
        let remedy = "change it; sidecars read it in the same way";
        BodyProblem::new(format!("spec.{}", problem.field), problem.message, remedy)
    }));
    all_or(spec, problems)
}

fn caller(caller: IssuerCaller) -> WireCaller {
    WireCaller { namespace: caller.namespace, service_account: caller.service_account_name }
}
