//! What the index knows of one namespace. It is made of what stands there, and of the FapiIssuers, so a change elsewhere
//! leaves it as it is.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fapi::{KeySet, TrustDomain};

use super::attach::Attachments;
use super::plan::{Planner, PortPlan};
use crate::model::{Client, Endpoint, Key, Model, Pod, Seniority, Table};

/// One namespace, with its cross-references.
#[derive(Debug)]
pub(super) struct Namespace {
    pub(super) attachments: Attachments,
    /// By pod uid, then by the number of the port.
    pub(super) plans: BTreeMap<String, BTreeMap<u16, Arc<PortPlan>>>,
    /// The uids of pods by service account, in their order.
    pub(super) accounts: HashMap<String, Vec<String>>,
    /// The Services that a pod answers for, by its uid.
    pub(super) fronts: HashMap<String, Vec<Key>>,
    /// FapiClients by service account, oldest first.
    pub(super) clients: HashMap<String, Vec<Seniority>>,
    /// The keys of their FapiClients, by the same.
    pub(super) client_keys: HashMap<String, Vec<Arc<KeySet>>>,
}

impl Namespace {
    /// The namespace of this name, in which these pods are; `None` if nothing is there. A Service of another namespace cannot
    /// open a port, nor give it a name, so none is looked at.
    pub(super) fn new(trust_domain: &TrustDomain, model: &Model, name: &str, pods: &[&Pod]) -> Option<Self> {
        let attachments = Attachments::new(within(&model.policies, name).map(|(_, policy)| policy));
        let endpoints = || within(&model.endpoints, name);
        let clients = || within(&model.clients, name).map(|(_, client)| client);
        let is_empty = pods.is_empty() && within(&model.policies, name).next().is_none();
        if is_empty && endpoints().next().is_none() && clients().next().is_none() {
            return None;
        }
        let planner = Planner::new(trust_domain, model, &attachments);
        let plans = plans(planner, name, pods, endpoints().flat_map(|(_, endpoints)| endpoints));
        let (accounts, fronts) = (accounts(pods), fronts(endpoints()));
        let (clients, client_keys) = (self::clients(clients()), client_keys(clients()));
        Some(Self { attachments, plans, accounts, fronts, clients, client_keys })
    }
}

/// The entries of one namespace.
fn within<'a, V: Clone>(table: &'a Table<Key, V>, namespace: &'a str) -> impl Iterator<Item = (&'a Key, &'a V)> {
    table.range(Key::new(namespace, "")..).take_while(move |(key, _)| *key.namespace == *namespace)
}

fn plans<'a>(
    mut planner: Planner<'_>,
    namespace: &str,
    pods: &[&Pod],
    endpoints: impl Iterator<Item = &'a Endpoint>,
) -> BTreeMap<String, BTreeMap<u16, Arc<PortPlan>>> {
    let mut fronts: HashMap<(&str, u16), Vec<(&Key, &str)>> = HashMap::new();
    for endpoint in endpoints {
        let port = (endpoint.pod_uid.as_str(), endpoint.pod_port);
        fronts.entry(port).or_default().push((&endpoint.service, &endpoint.service_port));
    }
    let plan_pod = |pod: &&Pod| {
        let ports = pod.ports.iter().map(|port| {
            let fronts = fronts.get(&(pod.uid.as_str(), port.number)).map(Vec::as_slice).unwrap_or_default();
            (port.number, planner.plan(namespace, fronts))
        });
        (pod.uid.clone(), ports.collect())
    };
    pods.iter().map(plan_pod).collect()
}

fn accounts(pods: &[&Pod]) -> HashMap<String, Vec<String>> {
    let mut accounts: HashMap<String, Vec<String>> = HashMap::new();
    for pod in pods {
        accounts.entry(pod.service_account.clone()).or_default().push(pod.uid.clone());
    }
    accounts
}

fn fronts<'a>(all: impl Iterator<Item = (&'a Key, &'a Vec<Endpoint>)>) -> HashMap<String, Vec<Key>> {
    let mut fronts: HashMap<String, Vec<Key>> = HashMap::new();
    for (service, endpoints) in all {
        for endpoint in endpoints {
            let of_pod = fronts.entry(endpoint.pod_uid.clone()).or_default();
            // A Service comes once for each of its ports.
            if of_pod.last() != Some(service) {
                of_pod.push(service.clone());
            }
        }
    }
    fronts
}

fn clients<'a>(all: impl Iterator<Item = &'a Client>) -> HashMap<String, Vec<Seniority>> {
    let mut clients: HashMap<_, Vec<Seniority>> = HashMap::new();
    for client in all {
        let Some(spec) = &client.spec else { continue };
        clients.entry(spec.service_account.clone()).or_default().push(client.seniority.clone());
    }
    clients.values_mut().for_each(|clients| clients.sort());
    clients
}

fn client_keys<'a>(all: impl Iterator<Item = &'a Client>) -> HashMap<String, Vec<Arc<KeySet>>> {
    let mut keys: HashMap<_, Vec<Arc<KeySet>>> = HashMap::new();
    for client in all {
        let Some(spec) = &client.spec else { continue };
        let Some(set) = spec.jwks.as_ref().and_then(|jwks| KeySet::from_jwks_json(jwks.as_bytes()).ok()) else {
            continue;
        };
        keys.entry(spec.service_account.clone()).or_default().push(Arc::new(set));
    }
    keys
}
