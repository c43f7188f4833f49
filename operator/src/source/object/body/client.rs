use control::{ClientAuthentication, GrantType};
use crds::FapiClientSpec;
use crds::client::{Authentication, AuthenticationMethod, JsonWebKeySet};
use crds::policy::{AuthorizationDetail, MESH_ISSUER};
use fapi::{AuthorizationDetails, InvalidValue, KeySet, WireDetail};
use serde_json::json;

use super::{BodyProblem, ObjectId, all_or};
use crate::model::{ClientSpec, ClientTarget, ExternalClient, Key};
use crate::source::object::body::policy::{constraint, detail};

/// The authorization details that are asked for; `None`: whatever is given.
fn details(asked: Vec<AuthorizationDetail>) -> Result<Option<AuthorizationDetails>, InvalidValue> {
    let asked: Vec<WireDetail> = asked.into_iter().map(detail).collect();
    let text = serde_json::to_string(&asked).unwrap_or_default();
    if asked.is_empty() { Ok(None) } else { AuthorizationDetails::parse(&text).map(Some) }
}

/// Reads a FapiClient: fills in namespaces, and refuses a Service named twice, however it is spelled, and keys that could
/// never verify anything.
pub(super) fn read(id: &ObjectId, spec: FapiClientSpec) -> Result<ClientSpec, Vec<BodyProblem>> {
    let own = id.key().namespace;
    let mut problems = Vec::new();
    let mut targets: Vec<ClientTarget> = Vec::new();
    for (position, target) in spec.targets.into_iter().enumerate() {
        let namespace = target.namespace.as_deref().unwrap_or(&own);
        let service = Key::new(namespace, &target.service_name);
        if targets.iter().any(|known| known.service == service) {
            let field = format!("spec.targets[{position}]");
            problems.push(BodyProblem::new(field, format!("{service} stands above"), "name each Service once"));
        }
        let sender_constraint = target.sender_constraint.map(constraint);
        let details = details(target.authorization_details).map_err(|error| {
            let field = format!("spec.targets[{position}].authorizationDetails");
            let remedy = "write only the common fields of RFC 9396, texts of 1 to 256 characters";
            problems.push(BodyProblem::new(field, error.to_string(), remedy));
        });
        targets.push(ClientTarget {
            service,
            scopes: target.scopes,
            details: details.unwrap_or(None),
            sender_constraint,
            grant_type: target.grant_type.map_or_else(GrantType::default, grant_type),
        });
    }
    let external = external(spec.issuer_name, spec.client_id, &mut problems);
    let method = spec.authentication.as_ref().map(|authentication| authentication.method);
    let jwks = spec.authentication.and_then(|authentication| keys(authentication, &mut problems));
    if external.is_some() && jwks.is_some() {
        let message = "at a FapiIssuer only sidecars authenticate, with keys of their own";
        problems.push(BodyProblem::new("spec.authentication.jwks", message, "remove jwks"));
    }
    let exchanged = |target: &ClientTarget| target.grant_type == GrantType::TokenExchange;
    if let Some(position) = targets.iter().position(exchanged).filter(|_| external.is_some()) {
        let message = "only the mesh's own issuer exchanges the tokens of calls";
        let field = format!("spec.targets[{position}].grantType");
        problems.push(BodyProblem::new(field, message, "leave grantType out, or issuerName and clientId"));
    }
    let authentication = match method {
        // Whoever brings keys has no sidecar, so those there are go on with their certificates.
        Some(AuthenticationMethod::PrivateKeyJwt) if jwks.is_none() => ClientAuthentication::PrivateKeyJwt,
        _ => ClientAuthentication::TlsClientAuth,
    };
    let service_account = spec.service_account_name;
    all_or(ClientSpec { service_account, targets, external, authentication, jwks }, problems)
}

/// The client of a FapiIssuer; `None` for the mesh's own.
fn external(issuer: String, client_id: Option<String>, problems: &mut Vec<BodyProblem>) -> Option<ExternalClient> {
    match (issuer == MESH_ISSUER, client_id) {
        (true, None) => None,
        (false, Some(client_id)) => Some(ExternalClient { issuer, client_id }),
        (is_mesh, _) => {
            let message = "clientId is for FapiIssuers, which need it; at the mesh's own issuer it is the SPIFFE ID";
            let remedy = if is_mesh { "remove it" } else { "write the client id that the FapiIssuer knows" };
            problems.push(BodyProblem::new("spec.clientId", message, remedy));
            None
        }
    }
}

fn grant_type(asked: crds::client::GrantType) -> GrantType {
    match asked {
        crds::client::GrantType::ClientCredentials => GrantType::ClientCredentials,
        crds::client::GrantType::TokenExchange => GrantType::TokenExchange,
    }
}

/// The keys of a client that signs assertions, as a JWK Set.
fn keys(authentication: Authentication, problems: &mut Vec<BodyProblem>) -> Option<String> {
    match (authentication.method, authentication.jwks) {
        (_, None) => None,
        (AuthenticationMethod::PrivateKeyJwt, Some(jwks)) => {
            check(&jwks, problems);
            Some(json!(jwks).to_string())
        }
        (AuthenticationMethod::TlsClientAuth, Some(_)) => {
            let message = "TLSClientAuth takes no keys";
            problems.push(BodyProblem::new("spec.authentication.jwks", message, "remove them, or write PrivateKeyJWT"));
            None
        }
    }
}

fn check(jwks: &JsonWebKeySet, problems: &mut Vec<BodyProblem>) {
    for (position, key) in jwks.keys.iter().enumerate() {
        let field = format!("spec.authentication.jwks.keys[{position}]");
        let usable = KeySet::from_jwks_json(json!({ "keys": [key] }).to_string().as_bytes());
        if usable.map_or(true, |keys| keys.is_empty()) {
            let remedy = "give a key for ES256 (EC, P-256), EdDSA (OKP, Ed25519) or PS256 (RSA, 2048 bits or more)";
            problems.push(BodyProblem::new(&field, "the key cannot be used", remedy));
        }
        if jwks.keys.iter().take(position).any(|known| known.kid == key.kid) {
            problems.push(BodyProblem::new(field, "its kid stands above", "give each key its own"));
        }
    }
}
