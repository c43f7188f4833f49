//! What a pod needs to call an authority: endpoints, identities, audience and token together.

mod authority;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use control::destination::Meshed;
use control::{Destination, DestinationKind, EndpointDoc, ExternalToken, TokenDoc, TokenSource};
use fapi::{Audience, SenderConstraint};

use self::authority::{Authority, Host};
use super::external::{self, External, external};
use crate::index::{Holder, Index};
use crate::model::{ClientTarget, Endpoint, EndpointState, ExternalClient, Key, Pod, Service};

/// The most Services that one answer says are before a pod.
const TOLD: usize = 16;

/// What `authority` stands for, as seen by `caller`.
///
/// A name that no Service has is [`DestinationKind::Unknown`], and what is not known is never called in plaintext. Nor is what
/// asked to be in the mesh, or what the caller's FapiClient names. What remains passes as it is, unless the FapiMesh refuses that.
pub(crate) fn destination(index: &Index, caller: &Pod, authority: &str) -> Destination {
    let lookup = Lookup { index, caller };
    let asked = Authority::parse(authority, &caller.namespace, index.cluster_domain());
    let kind =
        asked.and_then(|Authority { hosts, port }| match hosts.into_iter().find(|host| lookup.is_there(host))? {
            Host::Service(key) => lookup.service(index.model().services.get(&key)?, port),
            Host::Pod { name, service } => lookup.pod_named(&name, &service, port),
            Host::Address(address) => lookup.address(address, port),
        });
    let kind = match kind.unwrap_or(DestinationKind::Unknown) {
        DestinationKind::Unmeshed { .. } if index.refuses_unmeshed() => DestinationKind::Refused,
        kind => kind,
    };
    Destination { authority: authority.to_owned(), kind }
}

/// One question.
#[derive(Clone, Copy)]
struct Lookup<'a> {
    index: &'a Index,
    caller: &'a Pod,
}

impl<'a> Lookup<'a> {
    /// Whether DNS has the name. It does not have that of a pod that is gone, but below a Service that the caller's FapiClient names
    /// it means nobody else for that.
    fn is_there(self, host: &Host) -> bool {
        match host {
            Host::Service(key) => self.index.model().services.contains_key(key),
            Host::Pod { name, service } => self.pods_named(name, service).next().is_some() || self.is_named(service),
            Host::Address(_) => true,
        }
    }

    fn address(self, address: IpAddr, number: u16) -> Option<DestinationKind> {
        match self.index.holder(SocketAddr::new(address, number)) {
            Some(Holder::Service(service)) => self.service(service, number),
            Some(Holder::Pod(pod)) => self.pod(pod, SocketAddr::new(address, number)),
            Some(Holder::Several) => None,
            // A pod of the mesh may be meant that is gone.
            None if self.index.was_left(address) => None,
            // The pod itself, in a way that has nothing to do with the mesh.
            None if address.is_loopback() || address.is_unspecified() => None,
            None if self.index.model().complete => Some(unmeshed([SocketAddr::new(address, number)])),
            None => self.endpoint(SocketAddr::new(address, number)),
        }
    }

    /// Where addresses tell no pods apart, an address and a port tell endpoints apart.
    fn endpoint(self, address: SocketAddr) -> Option<DestinationKind> {
        let all = self.index.model().endpoints.keys().flat_map(|service| self.index.endpoints_of(service));
        let mut there = all.map(|(endpoint, _)| endpoint).filter(|endpoint| endpoint.address == address);
        let (found, None) = (there.next()?, there.next()) else { return None };
        self.meshed(&found.service, &[&found.service_port], |endpoint| endpoint.address == address)
    }

    fn service(self, service: &Service, number: u16) -> Option<DestinationKind> {
        if service.alias {
            // The address is known to whoever resolves the other name.
            return (!self.is_named(&service.key)).then(|| unmeshed([]));
        }
        let ports = self.ports(service, number);
        if ports.is_empty() {
            return None;
        }
        if self.is_outside(service) {
            return Some(unmeshed(self.plain(service, &ports, number)));
        }
        self.meshed(&service.key, &ports, |_| true)
    }

    /// The Service's ports of this number. Where its pods are dialled themselves, the number is that of the pods.
    fn ports(self, service: &'a Service, number: u16) -> Vec<&'a str> {
        let by_number = service.ports.iter().filter(|port| port.number == number).map(|port| port.name.as_str());
        let mut ports: Vec<&str> = by_number.collect();
        if ports.is_empty() && service.addresses.is_empty() && self.index.model().complete {
            let endpoints = self.index.pods_behind(&service.key).map(|(endpoint, _)| endpoint);
            let of_pods = endpoints.filter(|endpoint| endpoint.address.port() == number);
            ports.extend(of_pods.map(|endpoint| endpoint.service_port.as_str()));
            ports.sort_unstable();
            ports.dedup();
        }
        ports
    }

    /// Whether somebody answers for the Service, and nobody of them is or wants to be in the mesh.
    fn is_outside(self, service: &Service) -> bool {
        let mut pods = self.index.pods_behind(&service.key).map(|(_, pod)| pod).peekable();
        let answered = pods.peek().is_some() || !service.others.is_empty();
        answered
            && !pods.any(|pod| self.index.model().is_of_the_mesh(pod))
            && service.others.iter().all(|(_, address)| self.is_free(*address))
            && !self.is_named(&service.key)
    }

    /// Whether no pod of the mesh can be at an address.
    fn is_free(self, address: SocketAddr) -> bool {
        match self.index.holder(address) {
            Some(Holder::Pod(pod)) => !self.index.model().is_of_the_mesh(pod),
            Some(Holder::Several) => false,
            Some(Holder::Service(_)) | None => true,
        }
    }

    /// Where a Service outside the mesh is reached.
    fn plain(self, service: &Service, ports: &[&str], number: u16) -> Vec<SocketAddr> {
        if !service.addresses.is_empty() {
            return service.addresses.iter().map(|address| SocketAddr::new(*address, number)).collect();
        }
        let endpoints: Vec<&Endpoint> = self.index.pods_behind(&service.key).map(|(endpoint, _)| endpoint).collect();
        let wanted =
            least(endpoints.iter().filter(|endpoint| ports.contains(&endpoint.service_port.as_str())).copied());
        let ready = endpoints.iter().filter(|endpoint| endpoint.state >= wanted);
        let ready = ready.filter(|endpoint| ports.contains(&endpoint.service_port.as_str()));
        let others = service.others.iter().filter(|(port, _)| ports.contains(&port.as_str()));
        ready.map(|endpoint| endpoint.address).chain(others.map(|(_, address)| *address)).collect()
    }

    /// One pod, dialled by its own address: as the one Service that it can mean.
    fn pod(self, pod: &Pod, address: SocketAddr) -> Option<DestinationKind> {
        let fronts: Vec<&Key> =
            self.index.fronts_of(pod).filter(|service| self.answers_at(service, pod, address)).collect();
        let mut named = fronts.iter().copied().filter(|service| self.is_named(service));
        let service = match (fronts.as_slice(), named.next(), named.next()) {
            ([one], _, _) => Some(*one),
            (_, one, None) => one,
            _ => None,
        };
        if !self.index.model().is_of_the_mesh(pod) {
            let another = self.index.was_left(address.ip()) || fronts.iter().any(|service| self.is_named(service));
            return (!another).then(|| unmeshed([address]));
        }
        let Some(service) = service else {
            // Any of them could be meant, and each has an audience of its own.
            let services = fronts.iter().take(TOLD).map(|key| format!("{}.{}", key.name, key.namespace)).collect();
            return (!fronts.is_empty()).then_some(DestinationKind::Ambiguous { services });
        };
        let here = |endpoint: &Endpoint| endpoint.pod_uid == pod.uid && endpoint.address.port() == address.port();
        let mut ports: Vec<&str> = self
            .index
            .pods_behind(service)
            .filter(|(endpoint, _)| here(endpoint))
            .map(|(endpoint, _)| endpoint.service_port.as_str())
            .collect();
        ports.dedup();
        self.meshed(service, &ports, here)
    }

    /// Who has this name below a Service: one pod of a StatefulSet, or all of one that gives its pods one name.
    fn pods_named(self, name: &str, service: &Key) -> impl Iterator<Item = (&'a Endpoint, &'a Pod)> {
        self.index.pods_behind(service).filter(move |(endpoint, pod)| {
            let hostname = pod.hostname.as_ref();
            hostname.is_some_and(|hostname| hostname.name == name && hostname.service == *endpoint.service.name)
        })
    }

    /// Those pods and no others of the Service, which gives the audience. The number is one of the pods' own, as the name stands for
    /// their addresses.
    fn pod_named(self, name: &str, service: &Key, number: u16) -> Option<DestinationKind> {
        if !self.pods_named(name, service).any(|(_, pod)| self.index.model().is_of_the_mesh(pod)) {
            let addresses = self.pods_named(name, service).map(|(endpoint, _)| endpoint.address.ip());
            let addresses: BTreeSet<SocketAddr> = addresses.map(|address| SocketAddr::new(address, number)).collect();
            return (!self.is_named(service)).then(|| unmeshed(addresses));
        }
        let pods = self.pods_named(name, service).map(|(endpoint, _)| endpoint);
        let here: Vec<&Endpoint> = pods.filter(|endpoint| endpoint.address.port() == number).collect();
        let ports: Vec<&str> = here.iter().map(|endpoint| endpoint.service_port.as_str()).collect();
        if ports.is_empty() {
            return None;
        }
        self.meshed(service, &ports, |endpoint| here.contains(&endpoint))
    }

    fn answers_at(self, service: &Key, pod: &Pod, address: SocketAddr) -> bool {
        let mut endpoints = self.index.pods_behind(service).map(|(endpoint, _)| endpoint);
        endpoints.any(|endpoint| endpoint.pod_uid == pod.uid && endpoint.address.port() == address.port())
    }

    fn meshed(self, key: &Key, ports: &[&str], which: impl Fn(&Endpoint) -> bool) -> Option<DestinationKind> {
        let behind = self.index.endpoints_of(key);
        let behind = behind.filter(|(endpoint, _)| ports.contains(&endpoint.service_port.as_str()) && which(endpoint));
        let behind: Vec<(&Endpoint, &Pod)> = behind.collect();
        let wanted = least(behind.iter().map(|(endpoint, _)| *endpoint));
        let endpoints = behind.iter().filter_map(|(endpoint, pod)| {
            let spiffe_id = self.index.identity(pod)?.to_string();
            let others = pod.addresses.iter().map(|address| SocketAddr::new(*address, endpoint.address.port()));
            let others = others.filter(|address| *address != endpoint.address).collect();
            Some(EndpointDoc { address: endpoint.address, others, spiffe_id, ready: endpoint.state >= wanted })
        });
        let opaque = is_opaque(self.index, behind.iter().map(|(endpoint, _)| *endpoint));
        Some(DestinationKind::Meshed(Box::new(Meshed {
            service: format!("{}.{}", key.name, key.namespace),
            audience: Audience::for_service(&key.name, &key.namespace).ok()?.to_string(),
            endpoints: endpoints.collect(),
            token: if opaque { None } else { token(self.index, self.caller, key, ports) },
            opaque,
        })))
    }

    /// Whether a FapiClient of the caller names the Service.
    fn is_named(self, service: &Key) -> bool {
        self.index.client_target(&self.caller.namespace, &self.caller.service_account, service).is_some()
    }
}

fn unmeshed(addresses: impl IntoIterator<Item = SocketAddr>) -> DestinationKind {
    DestinationKind::Unmeshed { addresses: addresses.into_iter().collect() }
}

/// What an endpoint must be to be called: ready, or, where none is, at least still serving.
fn least<'a>(endpoints: impl Iterator<Item = &'a Endpoint>) -> EndpointState {
    let best = endpoints.map(|endpoint| endpoint.state).max();
    best.map_or(EndpointState::Ready, |best| best.max(EndpointState::Draining))
}

/// Whether a pod takes no HTTP at one of these endpoints. One that does refuses what comes without.
fn is_opaque<'a>(index: &Index, mut endpoints: impl Iterator<Item = &'a Endpoint>) -> bool {
    endpoints.any(|endpoint| index.plan_of(endpoint).is_some_and(|plan| plan.is_opaque()))
}

/// The token that the caller's FapiClient asks for. Without one the call carries none, and the server decides.
fn token(index: &Index, caller: &Pod, service: &Key, ports: &[&str]) -> Option<TokenDoc> {
    let (_, spec, target) = index.client_target(&caller.namespace, &caller.service_account, service)?;
    let follow = || preferred_constraint(index, service, |port| ports.contains(&port));
    let document = TokenDoc {
        scopes: target.scopes.clone(),
        authorization_details: target.details.as_ref().and_then(external::parameter),
        sender_constraint: target.sender_constraint.unwrap_or_else(follow),
        grant_type: target.grant_type,
        source: TokenSource::Mesh,
        authentication: spec.authentication,
    };
    match &spec.external {
        None => Some(document),
        Some(client) => Some(of_external(index, caller, client, target, ports, document)),
    }
}

/// The token of an issuer outside the mesh, or that there is none to be had.
fn of_external(
    index: &Index,
    caller: &Pod,
    client: &ExternalClient,
    target: &ClientTarget,
    ports: &[&str],
    document: TokenDoc,
) -> TokenDoc {
    let identity = index.identity(caller);
    let asked = identity.and_then(|id| external(index, &id, client, target, |port| ports.contains(&port)).ok());
    let Some(External { issuer, audience, grant }) = asked else {
        return TokenDoc { source: TokenSource::Denied, ..document };
    };
    TokenDoc {
        scopes: grant.scopes.iter().map(str::to_owned).collect(),
        authorization_details: external::parameter(&grant.details),
        source: TokenSource::External(ExternalToken {
            server: issuer.server.clone(),
            client_id: client.client_id.clone(),
            audience: audience.to_owned(),
            opaque: issuer.opaque,
        }),
        ..document
    }
}

/// How tokens for a Service are bound when the client leaves it to the server: by certificate if every port takes that.
pub(crate) fn preferred_constraint(index: &Index, service: &Key, port: impl Fn(&str) -> bool) -> SenderConstraint {
    let plans = index.endpoints_of(service).filter(|(endpoint, _)| port(&endpoint.service_port));
    let mut open = plans.filter_map(|(endpoint, _)| index.plan_of(endpoint)).filter(|plan| plan.policy.is_some());
    if open.all(|plan| plan.accepts(SenderConstraint::Mtls)) { SenderConstraint::Mtls } else { SenderConstraint::Dpop }
}
