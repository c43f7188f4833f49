//! What a pod needs to call an authority: endpoints, identities, audience and token together.

use control::destination::Meshed;
use control::{Destination, DestinationKind, EndpointDoc, TokenDoc};
use fapi::{Audience, SenderConstraint};

use crate::index::Index;
use crate::model::{Key, Pod};

/// The domain under which a cluster's DNS answers for Services.
const CLUSTER_DOMAIN: [&str; 2] = ["cluster", "local"];
/// What plain `http://` dials.
const HTTP: u16 = 80;

/// What `authority` stands for, as seen by `caller`.
///
/// A name that no Service has is [`DestinationKind::Unknown`]: the directory source knows nobody outside the mesh, and what
/// is not known is never called in plaintext.
pub(crate) fn destination(index: &Index, caller: &Pod, authority: &str) -> Destination {
    let meshed = parse(authority, &caller.namespace).and_then(|(service, port)| meshed(index, caller, &service, port));
    let kind = meshed.map_or(DestinationKind::Unknown, DestinationKind::Meshed);
    Destination { authority: authority.to_owned(), kind }
}

fn meshed(index: &Index, caller: &Pod, key: &Key, number: u16) -> Option<Meshed> {
    let service = index.model().services.get(key)?;
    let names: Vec<&str> =
        service.ports.iter().filter(|port| port.number == number).map(|port| port.name.as_str()).collect();
    if names.is_empty() {
        return None;
    }
    let endpoints = index.endpoints_of(key).filter(|(endpoint, _)| names.contains(&endpoint.service_port.as_str()));
    let endpoints = endpoints.filter_map(|(endpoint, pod)| {
        let spiffe_id = index.identity(pod)?.to_string();
        Some(EndpointDoc { address: endpoint.address, spiffe_id, ready: endpoint.ready })
    });
    let opaque = is_opaque(index, key, &names);
    Some(Meshed {
        service: format!("{}.{}", key.name, key.namespace),
        audience: Audience::for_service(&key.name, &key.namespace).ok()?.to_string(),
        endpoints: endpoints.collect(),
        token: if opaque { None } else { token(index, caller, key, &names) },
        opaque,
    })
}

/// Whether a pod behind these ports takes no HTTP. One that does refuses what comes without.
fn is_opaque(index: &Index, service: &Key, ports: &[&str]) -> bool {
    let mut behind = index.endpoints_of(service).filter(|(at, _)| ports.contains(&at.service_port.as_str()));
    behind.any(|(endpoint, _)| index.plan_of(endpoint).is_some_and(|plan| plan.is_opaque()))
}

/// The token that the caller's FapiClient asks for. Without one the call carries none, and the server decides.
fn token(index: &Index, caller: &Pod, service: &Key, ports: &[&str]) -> Option<TokenDoc> {
    let (_, target) = index.client_target(&caller.namespace, &caller.service_account, service)?;
    let follow = || preferred_constraint(index, service, |port| ports.contains(&port));
    let details = target.details.as_ref().map(serde_json::to_string).transpose();
    Some(TokenDoc {
        scopes: target.scopes.clone(),
        // Texts and lists always become JSON.
        authorization_details: details.ok()?,
        sender_constraint: target.sender_constraint.unwrap_or_else(follow),
        grant_type: target.grant_type,
    })
}

/// How tokens for a Service are bound when the client leaves it to the server: by certificate if every port takes that.
pub(crate) fn preferred_constraint(index: &Index, service: &Key, port: impl Fn(&str) -> bool) -> SenderConstraint {
    let plans = index.endpoints_of(service).filter(|(endpoint, _)| port(&endpoint.service_port));
    let mut open = plans.filter_map(|(endpoint, _)| index.plan_of(endpoint)).filter(|plan| plan.policy.is_some());
    if open.all(|plan| plan.accepts(SenderConstraint::Mtls)) { SenderConstraint::Mtls } else { SenderConstraint::Dpop }
}

/// Reads `svc`, `svc.ns`, `svc.ns.svc` or `svc.ns.svc.cluster.local`, in any case, with or without a dot at the end and a
/// port.
fn parse(authority: &str, own_namespace: &str) -> Option<(Key, u16)> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, digits(port)?),
        None => (authority, HTTP),
    };
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')) {
        return None;
    }
    let labels: Vec<&str> = host.split('.').collect();
    let key = match labels.as_slice() {
        [service] => Key::new(own_namespace, service),
        [service, namespace] | [service, namespace, "svc"] => Key::new(namespace, service),
        [service, namespace, "svc", domain @ ..] if domain == CLUSTER_DOMAIN => Key::new(namespace, service),
        _ => return None,
    };
    Some((key, port))
}

fn digits(port: &str) -> Option<u16> {
    // `parse` alone would take `+80`.
    port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_service_is_one() {
        let payments = (Key::new("bank", "payments"), 80);
        for authority in [
            "payments",
            "payments.bank",
            "Payments.BANK",
            "payments.bank:80",
            "payments.bank.",
            "payments.bank.svc",
            "payments.bank.svc.cluster.local",
            "payments.bank.svc.cluster.local.:80",
        ] {
            assert_eq!(parse(authority, "bank"), Some(payments.clone()), "{authority}");
        }
        assert_eq!(parse("payments", "web"), Some((Key::new("web", "payments"), 80)));
        assert_eq!(parse("payments.bank:8080", "bank"), Some((Key::new("bank", "payments"), 8080)));
    }

    #[test]
    fn anything_else_is_unknown() {
        for authority in [
            "payments.bank.svc.example.com",
            "a.b.c",
            "payments.bank:",
            "payments.bank:+80",
            "payments.bank:99999",
            "[::1]:80",
        ] {
            assert_eq!(parse(authority, "bank"), None, "{authority}");
        }
    }
}
