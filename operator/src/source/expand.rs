//! From the objects in force to the neutral model: workloads become pods, Services and endpoints.

use std::collections::BTreeMap;

use fapi::Revocation;

use super::object::{Body, Kind, ObjectId, WorkloadBody};
use super::settle::{Good, Settled};
use crate::inject::Allowed;
use crate::model::{Client, Endpoint, Issuer, Key, Mesh, Model, Policy, Seniority, Service, ServicePort};

/// The model of what is in force.
pub(super) fn model(settled: &Settled) -> Model {
    let mut model = Model::default();
    for (id, good) in &settled.good {
        let fault = settled.broken.get(id).map(|broken| broken.fault.clone());
        add(&mut model, id, good, fault);
    }
    for (id, broken) in settled.broken.iter().filter(|(id, _)| !settled.good.contains_key(id)) {
        let (seniority, fault) = (seniority(id), Some(broken.fault.clone()));
        match id.kind {
            Kind::FapiPolicy => {
                let targets = broken.targets.clone();
                model.policies.insert(id.key(), Policy { seniority, generation: 0, targets, spec: None, fault });
            }
            Kind::FapiClient => {
                model.clients.insert(id.key(), Client { seniority, generation: 0, spec: None, fault });
            }
            Kind::FapiIssuer => {
                model.issuers.insert(id.name.clone(), Issuer { seniority, generation: 0, spec: None, fault });
            }
            Kind::FapiMesh => {
                let defaults = crate::view::Lifetimes::default();
                model.mesh = Some(Mesh {
                    generation: 0,
                    fault,
                    trust_domain: None,
                    certificate_lifetime: defaults.certificate,
                    token_lifetime: defaults.token,
                    allowed: Allowed::default(),
                });
            }
            // One that was never good is no revocation: the problem is reported.
            Kind::Workload | Kind::Revocation => {}
        }
    }
    // Objects come in the order of their names, so this is stable too.
    model.endpoints.sort_by(|a, b| order_of(a).cmp(&order_of(b)));
    model
}

/// The revocations in force.
pub(super) fn revocations(settled: &Settled) -> Vec<Revocation> {
    let revocation = |good: &Good| match &good.body {
        Body::Revocation(revocation) => Some(revocation.clone()),
        Body::Client(_) | Body::Issuer(_) | Body::Policy(_) | Body::Mesh(_) | Body::Workload(_) => None,
    };
    settled.good.values().filter_map(revocation).collect()
}

/// A folder knows no age, so the name alone decides.
fn seniority(id: &ObjectId) -> Seniority {
    Seniority { created: 0, key: id.key() }
}

fn order_of(endpoint: &Endpoint) -> (&Key, &str, &str) {
    (&endpoint.service, &endpoint.service_port, &endpoint.pod_uid)
}

fn add(model: &mut Model, id: &ObjectId, good: &Good, fault: Option<String>) {
    let (key, seniority, generation) = (id.key(), seniority(id), good.generation);
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
                trust_domain: body.trust_domain.clone(),
                certificate_lifetime: body.certificate_lifetime,
                token_lifetime: body.token_lifetime,
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
        model.endpoints.extend(pod.ports.iter().map(|port| Endpoint {
            service: key.clone(),
            service_port: port.name.clone(),
            pod_uid: pod.uid.clone(),
            pod_port: port.name.clone(),
            address: port.listen,
            ready: true,
        }));
    }
    model.pods.insert(pod.uid.clone(), pod.clone());
}

/// A Service has the ports of all its workloads.
fn add_service(services: &mut BTreeMap<Key, Service>, key: &Key, body: &WorkloadBody) {
    let service = services.entry(key.clone()).or_insert_with(|| Service { key: key.clone(), ports: Vec::new() });
    let ports = body.pod.ports.iter().map(|port| ServicePort { name: port.name.clone(), number: port.number });
    service.ports.extend(ports);
    service.ports.sort();
    service.ports.dedup();
}
