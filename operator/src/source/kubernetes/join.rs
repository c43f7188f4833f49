//! Pods, Services and their slices of one namespace, joined. Pure.
//!
//! Which pods answer for a Service, and at which port, is said by the Service and the pods themselves, so that a policy holds
//! for a port before any slice says that it is ready. Slices say who is ready, and who else answers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::facts::{PodFact, ServiceFact, ServicePortFact, SliceFact, TargetPort};
use crate::inject::Interception;
use crate::model::{Endpoint, EndpointState, Key, Pod, PodPort, Service, ServicePort};

/// What is known of one namespace, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Namespace {
    pub(super) pods: BTreeMap<String, PodFact>,
    pub(super) services: BTreeMap<String, ServiceFact>,
    pub(super) slices: BTreeMap<String, SliceFact>,
}

/// The same in the terms of the model.
#[derive(Debug, Default)]
pub(super) struct Joined {
    pub(super) pods: Vec<Pod>,
    pub(super) services: Vec<Service>,
    /// By Service; ordered as in the model.
    pub(super) endpoints: Vec<(Key, Vec<Endpoint>)>,
}

/// Joins what stands in the namespace of this name, which asks for sidecars or does not.
pub(super) fn join(name: &str, asks: bool, namespace: &Namespace) -> Joined {
    let join = Join::new(namespace);
    // The ports of pods that any Service leads to, by uid.
    let mut targets: HashMap<&str, BTreeSet<u16>> = HashMap::new();
    let mut joined = Joined::default();
    for (service, fact) in &namespace.services {
        let key = Key::new(name, service);
        let endpoints = join.endpoints(&key, service, fact);
        for endpoint in &endpoints {
            if let Some((uid, _)) = join.by_uid.get_key_value(endpoint.pod_uid.as_str()) {
                targets.entry(uid).or_default().insert(endpoint.address.port());
            }
        }
        joined.services.push(join.service(&key, service, fact));
        if !endpoints.is_empty() {
            joined.endpoints.push((key, endpoints));
        }
    }
    let none = BTreeSet::new();
    let pod = |(pod, fact): (&String, &PodFact)| {
        let targets = targets.get(fact.uid.as_str()).unwrap_or(&none);
        Pod { opted_in: fact.opted_in(asks), ..self::pod(name, pod, fact, targets) }
    };
    joined.pods = namespace.pods.iter().map(pod).collect();
    joined
}

struct Join<'a> {
    /// Pods by one label.
    by_label: HashMap<(&'a str, &'a str), Vec<&'a PodFact>>,
    by_uid: HashMap<&'a str, &'a PodFact>,
    /// By Service.
    slices: HashMap<&'a str, Vec<&'a SliceFact>>,
}

impl<'a> Join<'a> {
    fn new(namespace: &'a Namespace) -> Self {
        let mut by_label: HashMap<_, Vec<_>> = HashMap::new();
        for pod in namespace.pods.values() {
            for (label, value) in &pod.labels {
                by_label.entry((label.as_str(), value.as_str())).or_default().push(pod);
            }
        }
        let by_uid = namespace.pods.values().map(|pod| (pod.uid.as_str(), pod)).collect();
        let mut slices: HashMap<_, Vec<_>> = HashMap::new();
        for slice in namespace.slices.values() {
            if let Some(service) = &slice.service {
                slices.entry(service.as_str()).or_default().push(slice);
            }
        }
        Self { by_label, by_uid, slices }
    }

    fn service(&self, key: &Key, name: &str, fact: &ServiceFact) -> Service {
        let mut ports: Vec<ServicePort> =
            fact.ports.iter().map(|port| ServicePort { name: port.name.clone(), number: port.number }).collect();
        ports.sort();
        let mut others: Vec<(String, SocketAddr)> = self
            .slices_of(name)
            .flat_map(|slice| {
                let strangers = slice.endpoints.iter().filter(|endpoint| endpoint.pod.is_none());
                let strangers = strangers.filter(|endpoint| endpoint.state == EndpointState::Ready);
                strangers.flat_map(|endpoint| {
                    slice.ports.iter().map(|(port, number)| (port.clone(), SocketAddr::new(endpoint.address, *number)))
                })
            })
            .collect();
        others.sort();
        others.dedup();
        let at = |address: &IpAddr| {
            let address = *address;
            fact.ports.iter().map(move |port| SocketAddr::new(address, port.number))
        };
        let mut balancers: Vec<SocketAddr> = fact.balancers.iter().flat_map(at).collect();
        balancers.sort();
        balancers.dedup();
        let addresses = fact.addresses.clone();
        Service { key: key.clone(), ports, addresses, balancers, others, alias: fact.alias }
    }

    fn endpoints(&self, key: &Key, name: &str, fact: &ServiceFact) -> Vec<Endpoint> {
        if fact.alias {
            return Vec::new();
        }
        let states = self.states(name);
        let mut endpoints = Vec::new();
        for port in &fact.ports {
            let behind: Vec<(&PodFact, u16)> = match &fact.selector {
                Some(selector) => self.selected(selector).filter_map(|pod| Some((pod, target(pod, port)?))).collect(),
                None => self.named_by_slices(name, port),
            };
            endpoints.extend(behind.into_iter().filter_map(|(pod, number)| {
                let state = states.get(&(port.name.as_str(), pod.uid.as_str()));
                Some(Endpoint {
                    service: key.clone(),
                    service_port: port.name.clone(),
                    pod_uid: pod.uid.clone(),
                    pod_port: number,
                    address: SocketAddr::new(*pod.addresses.first()?, number),
                    state: state.copied().unwrap_or(EndpointState::Unready),
                })
            }));
        }
        endpoints.sort_by(|a, b| a.rank().cmp(&b.rank()));
        endpoints.dedup();
        endpoints
    }

    /// The pods that carry all these labels.
    fn selected(&self, selector: &'a BTreeMap<String, String>) -> impl Iterator<Item = &'a PodFact> {
        let of_label = |(label, value): (&'a String, &'a String)| {
            self.by_label.get(&(label.as_str(), value.as_str())).map(Vec::as_slice).unwrap_or_default()
        };
        let fewest = selector.iter().map(of_label).min_by_key(|pods| pods.len()).unwrap_or_default();
        let all = |pod: &&PodFact| selector.iter().all(|(label, value)| pod.labels.get(label) == Some(value));
        fewest.iter().copied().filter(move |pod| all(pod))
    }

    /// The pods, and their ports, that slices alone name for a port of a Service. An address that is not the pod's own is
    /// somebody else.
    fn named_by_slices(&self, service: &str, port: &ServicePortFact) -> Vec<(&'a PodFact, u16)> {
        let mut named = Vec::new();
        for slice in self.slices_of(service) {
            let numbers = slice.ports.iter().filter(|(name, _)| *name == port.name).map(|(_, number)| *number);
            for number in numbers {
                named.extend(slice.endpoints.iter().filter_map(|endpoint| {
                    let pod = *self.by_uid.get(endpoint.pod.as_deref()?)?;
                    pod.addresses.contains(&endpoint.address).then_some((pod, number))
                }));
            }
        }
        named
    }

    /// The best that any slice of a Service says of a pod, by port.
    fn states(&self, service: &str) -> HashMap<(&'a str, &'a str), EndpointState> {
        let mut states: HashMap<_, EndpointState> = HashMap::new();
        for slice in self.slices_of(service) {
            for (port, _) in &slice.ports {
                for endpoint in &slice.endpoints {
                    let Some(pod) = &endpoint.pod else { continue };
                    let state = states.entry((port.as_str(), pod.as_str())).or_insert(endpoint.state);
                    *state = (*state).max(endpoint.state);
                }
            }
        }
        states
    }

    fn slices_of(&self, service: &str) -> impl Iterator<Item = &'a SliceFact> {
        self.slices.get(service).into_iter().flatten().copied()
    }
}

fn target(pod: &PodFact, port: &ServicePortFact) -> Option<u16> {
    match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => pod.port_named(name),
    }
}

/// Declared names have a letter in them, so a number is nobody's name.
fn port_name(pod: &PodFact, number: u16) -> String {
    pod.name_of(number).map_or_else(|| number.to_string(), str::to_owned)
}

/// A pod as the model has it, with these ports beside those that it declares, by its own word alone.
pub(super) fn pod(namespace: &str, name: &str, fact: &PodFact, targets: &BTreeSet<u16>) -> Pod {
    let numbers: BTreeSet<u16> = fact.ports.iter().map(|(number, _)| number).chain(targets).copied().collect();
    let port = |number: u16, address: IpAddr| {
        let listen = SocketAddr::new(address, number);
        let app = match fact.interception {
            Interception::Redirect => listen,
            Interception::Proxy => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), number),
        };
        PodPort { name: port_name(fact, number), number, listen, app }
    };
    let ports = numbers.iter().flat_map(|number| fact.addresses.iter().map(|address| port(*number, *address)));
    Pod {
        uid: fact.uid.clone(),
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        service_account: fact.service_account.clone(),
        ports: ports.collect(),
        addresses: if fact.on_host { Vec::new() } else { fact.addresses.clone() },
        hostname: fact.hostname.clone(),
        labels: BTreeMap::new(),
        meshed: fact.meshed,
        opted_in: fact.opted_in(false),
        opted_out: fact.opted_out,
        node: fact.node.clone(),
        terminating: fact.terminating,
    }
}
