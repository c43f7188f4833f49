//! From the objects in force to the neutral model: workloads become pods, Services and endpoints.

use std::collections::BTreeMap;

use super::Revoking;
use super::object::{Body, Kind, ObjectId, WorkloadBody};
use super::settle::{Broken, Good, Settled};
use crate::inject::Allowed;
use crate::model::{
    Client, Endpoint, EndpointState, Issuer, Key, Mesh, Model, Policy, Seniority, Service, ServicePort, Table,
};

/// The model of what is in force.
pub(super) fn model(settled: &Settled) -> Model {
    let mut model = Model::default();
    for (id, good) in &settled.good {
        add(&mut model, id, good, settled.broken.get(id));
    }
    for (id, broken) in settled.broken.iter().filter(|(id, _)| !settled.good.contains_key(id)) {
        add_broken(&mut model, id, broken);
    }
    for endpoints in model.endpoints.values_mut() {
        endpoints.sort_by(|a, b| a.rank().cmp(&b.rank()));
    }
    model
}

/// Brings what the model says of one object in line. Not for Workloads, which are several things at once.
pub(super) fn replace(model: &mut Model, id: &ObjectId, settled: &Settled) {
    match id.kind {
        Kind::FapiPolicy => drop(model.policies.remove(&id.key())),
        Kind::FapiClient => drop(model.clients.remove(&id.key())),
        Kind::FapiIssuer => drop(model.issuers.remove(&id.name)),
        Kind::FapiMesh if id.name == Mesh::NAME => model.mesh = None,
        Kind::FapiMesh | Kind::Workload | Kind::Revocation => {}
    }
    match (settled.good.get(id), settled.broken.get(id)) {
        (Some(good), broken) => add(model, id, good, broken),
        (None, Some(broken)) => add_broken(model, id, broken),
        (None, None) => {}
    }
}

/// An object of which there never was a good version.
fn add_broken(model: &mut Model, id: &ObjectId, broken: &Broken) {
    let (seniority, fault) = (seniority(id, broken.created), Some(broken.fault.clone()));
    let generation = broken.generation.unwrap_or_default();
    match id.kind {
        Kind::FapiPolicy => {
            let targets = broken.closes.targets.clone();
            model.policies.insert(id.key(), Policy { seniority, generation, targets, spec: None, fault });
        }
        Kind::FapiClient => {
            model.clients.insert(id.key(), Client { seniority, generation, spec: None, fault });
        }
        Kind::FapiIssuer => {
            model.issuers.insert(id.name.clone(), Issuer { seniority, generation, spec: None, fault });
        }
        Kind::FapiMesh if id.name == Mesh::NAME => {
            let defaults = crate::view::Lifetimes::default();
            model.mesh = Some(Mesh {
                generation,
                fault,
                in_force: false,
                trust_domain: None,
                certificate_lifetime: defaults.certificate,
                token_lifetime: defaults.token,
                unmeshed_refused: broken.closes.unmeshed,
                allowed: Allowed::default(),
            });
        }
        // One that was never good is no revocation, and a FapiMesh of another name is not that of the mesh: the problem is reported.
        Kind::FapiMesh | Kind::Workload | Kind::Revocation => {}
    }
}

/// The Revocations, those too that revoke nothing.
pub(super) fn revocations(settled: &Settled) -> BTreeMap<ObjectId, Revoking> {
    let broken = settled.broken.iter().filter(|(id, _)| id.kind == Kind::Revocation).map(|(id, broken)| {
        let generation = broken.generation.unwrap_or_default();
        (id.clone(), Revoking { generation, spec: None, fault: Some(broken.fault.clone()) })
    });
    let mut all: BTreeMap<ObjectId, Revoking> = broken.collect();
    for (id, good) in &settled.good {
        let Body::Revocation(revocation) = &good.body else { continue };
        let broken = settled.broken.get(id);
        let generation = broken.and_then(|broken| broken.generation).unwrap_or(good.generation);
        let fault = broken.map(|broken| broken.fault.clone());
        all.insert(id.clone(), Revoking { generation, spec: Some(revocation.clone()), fault });
    }
    all
}

fn seniority(id: &ObjectId, created: u64) -> Seniority {
    Seniority { created, key: id.key() }
}

fn add(model: &mut Model, id: &ObjectId, good: &Good, broken: Option<&Broken>) {
    let (key, seniority) = (id.key(), seniority(id, good.created));
    let generation = broken.and_then(|broken| broken.generation).unwrap_or(good.generation);
    let fault = broken.map(|broken| broken.fault.clone());
    match &good.body {
        Body::Client(spec) => {
            model.clients.insert(key, Client { seniority, generation, spec: Some(spec.clone()), fault });
        }
        Body::Issuer(spec) => {
            let issuer = Issuer { seniority, generation, spec: Some(spec.clone()), fault };
            model.issuers.insert(id.name.clone(), issuer);
        }
        Body::Policy(body) => {
            let (targets, spec) = (Some(body.targets.clone()), Some(body.spec.clone()));
            model.policies.insert(key, Policy { seniority, generation, targets, spec, fault });
        }
        Body::Mesh(body) => {
            model.mesh = Some(Mesh {
                generation,
                fault,
                in_force: true,
                trust_domain: body.trust_domain.clone(),
                certificate_lifetime: body.certificate_lifetime,
                token_lifetime: body.token_lifetime,
                unmeshed_refused: body.unmeshed_refused,
                allowed: body.allowed.clone(),
            });
        }
        Body::Workload(body) => add_workload(model, body),
        // No part of what the mesh looks like.
        Body::Revocation(_) => {}
    }
}

fn add_workload(model: &mut Model, body: &WorkloadBody) {
    let pod = &body.pod;
    if let Some(service) = &body.service {
        let key = Key::new(&pod.namespace, service);
        add_service(&mut model.services, &key, body);
        let endpoints = pod.ports.iter().map(|port| Endpoint {
            service: key.clone(),
            service_port: port.name.clone(),
            pod_uid: pod.uid.clone(),
            pod_port: port.number,
            address: port.listen,
            state: EndpointState::Ready,
        });
        model.endpoints.entry(key.clone(), Vec::new).extend(endpoints);
    }
    model.pods.insert(pod.uid.clone(), pod.clone());
}

/// A Service has the ports of all its workloads.
fn add_service(services: &mut Table<Key, Service>, key: &Key, body: &WorkloadBody) {
    let service = services.entry(key.clone(), || Service {
        key: key.clone(),
        ports: Vec::new(),
        addresses: Vec::new(),
        balancers: Vec::new(),
        others: Vec::new(),
        alias: false,
    });
    let ports = body.pod.ports.iter().map(|port| ServicePort { name: port.name.clone(), number: port.number });
    service.ports.extend(ports);
    service.ports.sort();
    service.ports.dedup();
}
