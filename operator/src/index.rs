//! The model, indexed: which policy governs which port, who stands behind which Service, who may ask for what.
//!
//! Attachment is decided here and only here. The most specific policy governs a port alone: a port of a Service, then the
//! Service, then the namespace, then the built-in one. At one level the older wins.

mod addresses;
mod attach;
mod issuers;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use control::{ClientAuthentication, GrantType};
use fapi::{KeySet, SpiffeId, TrustDomain};

use self::addresses::Addresses;
pub(crate) use self::addresses::Holder;
use self::attach::Attachments;
pub(crate) use self::issuers::Issuers;
use self::plan::Planner;
pub(crate) use self::plan::{Governor, PortPlan, check, check_issuer};
use crate::model::{Client, ClientSpec, ClientTarget, Endpoint, Key, Model, Pod, PodPort, PolicyTarget, Seniority};

/// A model with its cross-references. Immutable; equal models give equal indexes.
#[derive(Debug)]
pub(crate) struct Index {
    trust_domain: TrustDomain,
    model: Model,
    attachments: Attachments,
    /// By pod uid, then by the name of the port.
    plans: HashMap<String, BTreeMap<String, Arc<PortPlan>>>,
    /// The Services that a pod answers for, by its uid.
    fronts: HashMap<String, Vec<Key>>,
    addresses: Addresses,
    /// FapiClients by namespace and service account, oldest first.
    clients: HashMap<(String, String), Vec<Seniority>>,
    /// The keys of their FapiClients, by the same.
    client_keys: HashMap<(String, String), Vec<Arc<KeySet>>>,
}

impl Index {
    /// Indexes a model.
    pub(crate) fn new(trust_domain: TrustDomain, model: Model) -> Self {
        let attachments = Attachments::new(model.policies.values());
        let plans = plans(&trust_domain, &model, &attachments);
        let fronts = fronts(&model);
        let addresses = Addresses::new(&model);
        let clients = clients(model.clients.values());
        let client_keys = client_keys(model.clients.values());
        Self { trust_domain, model, attachments, plans, fronts, addresses, clients, client_keys }
    }

    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// The identity of a pod; `None` if its names cannot be in one, which the sources refuse.
    pub(crate) fn identity(&self, pod: &Pod) -> Option<SpiffeId> {
        SpiffeId::new(&self.trust_domain, &pod.namespace, &pod.service_account).ok()
    }

    /// What governs each port of a pod, by the port's name.
    pub(crate) fn plans_of<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = (&'a PodPort, &'a Arc<PortPlan>)> {
        let plans = self.plans.get(&pod.uid);
        pod.ports.iter().filter_map(move |port| Some((port, plans?.get(&port.name)?)))
    }

    /// The pods of the Service's own namespace behind it, with a sidecar or without.
    pub(crate) fn pods_behind<'a>(&'a self, service: &Key) -> impl Iterator<Item = (&'a Endpoint, &'a Pod)> {
        let endpoints = self.model.endpoints.get(service).map(Vec::as_slice).unwrap_or_default();
        endpoints.iter().filter_map(|endpoint| {
            let pod = self.model.pods.get(&endpoint.pod_uid)?;
            (pod.namespace == *endpoint.service.namespace).then_some((endpoint, pod))
        })
    }

    /// The Services that a pod answers for, in the order of their names; those of other namespaces do not count.
    pub(crate) fn fronts_of(&self, pod: &Pod) -> impl Iterator<Item = &Key> {
        let fronts = self.fronts.get(&pod.uid).map(Vec::as_slice).unwrap_or_default();
        fronts.iter().filter(|service| *service.namespace == *pod.namespace)
    }

    /// Who has this address.
    pub(crate) fn holder(&self, address: IpAddr) -> Option<Holder<'_>> {
        self.addresses.holder(&self.model, address)
    }

    /// The meshed pods of the Service's own namespace that answer for it; no other pod counts.
    pub(crate) fn endpoints_of<'a>(&'a self, service: &Key) -> impl Iterator<Item = (&'a Endpoint, &'a Pod)> {
        self.pods_behind(service).filter(|(_, pod)| pod.meshed)
    }

    /// Whether a meshed pod with this identity answers for a Service.
    pub(crate) fn is_behind(&self, service: &Key, identity: &SpiffeId) -> bool {
        self.endpoints_of(service).any(|(_, pod)| self.identity(pod).is_some_and(|id| id == *identity))
    }

    /// Whether it answers for any Service.
    pub(crate) fn is_called(&self, identity: &SpiffeId) -> bool {
        self.model.endpoints.keys().any(|service| self.is_behind(service, identity))
    }

    /// Whether a service account has a target that is called by token exchange.
    pub(crate) fn exchanges(&self, namespace: &str, account: &str) -> bool {
        let clients = self.clients.get(&(namespace.to_owned(), account.to_owned())).map(Vec::as_slice);
        let specs =
            clients.unwrap_or_default().iter().filter_map(|client| self.model.clients.get(&client.key)?.spec.as_ref());
        specs.flat_map(|spec| &spec.targets).any(|target| target.grant_type == GrantType::TokenExchange)
    }

    /// What governs the port behind an endpoint.
    pub(crate) fn plan_of(&self, endpoint: &Endpoint) -> Option<&Arc<PortPlan>> {
        self.plans.get(&endpoint.pod_uid)?.get(&endpoint.pod_port)
    }

    /// The FapiIssuers.
    pub(crate) fn issuers(&self) -> Issuers<'_> {
        Issuers(&self.model.issuers)
    }

    /// The policies of the ports of a Service by which the mesh's own issuer grants, each once. A port that is closed, or
    /// takes none of its tokens, contributes none.
    pub(crate) fn policies_of(&self, service: &Key) -> Vec<Arc<fapi::Policy>> {
        let mut policies: Vec<Arc<fapi::Policy>> = Vec::new();
        for (endpoint, _) in self.endpoints_of(service) {
            let policy = self.plan_of(endpoint).filter(|plan| plan.takes_mesh).and_then(|plan| plan.policy.as_ref());
            if let Some(policy) = policy.filter(|policy| !policies.iter().any(|known| Arc::ptr_eq(known, policy))) {
                policies.push(policy.clone());
            }
        }
        policies
    }

    /// The policies that target exactly this, the one that holds it first.
    pub(crate) fn attached(&self, namespace: &str, target: &PolicyTarget) -> &[Seniority] {
        self.attachments.at(namespace, target)
    }

    /// The keys with which a service account may authenticate without a certificate; those of its FapiClients add up.
    pub(crate) fn client_keys(&self, namespace: &str, account: &str) -> &[Arc<KeySet>] {
        let account = (namespace.to_owned(), account.to_owned());
        self.client_keys.get(&account).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether the sidecars of a service account sign assertions.
    pub(crate) fn signs(&self, namespace: &str, account: &str) -> bool {
        let clients = self.clients.get(&(namespace.to_owned(), account.to_owned()));
        let specs =
            clients.into_iter().flatten().filter_map(|client| self.model.clients.get(&client.key)?.spec.as_ref());
        specs.into_iter().any(|spec| spec.authentication == ClientAuthentication::PrivateKeyJwt)
    }

    /// Who asks for tokens for `service` on behalf of a service account: the oldest FapiClient that names it.
    pub(crate) fn client_target(
        &self,
        namespace: &str,
        account: &str,
        service: &Key,
    ) -> Option<(&Key, &ClientSpec, &ClientTarget)> {
        let clients = self.clients.get(&(namespace.to_owned(), account.to_owned()))?;
        clients.iter().find_map(|seniority| {
            let spec = self.model.clients.get(&seniority.key)?.spec.as_ref()?;
            let target = spec.targets.iter().find(|target| target.service == *service)?;
            Some((&seniority.key, spec, target))
        })
    }
}

fn client_keys<'a>(all: impl Iterator<Item = &'a Client>) -> HashMap<(String, String), Vec<Arc<KeySet>>> {
    let mut keys: HashMap<_, Vec<Arc<KeySet>>> = HashMap::new();
    for client in all {
        let Some(spec) = &client.spec else { continue };
        let Some(set) = spec.jwks.as_ref().and_then(|jwks| KeySet::from_jwks_json(jwks.as_bytes()).ok()) else {
            continue;
        };
        let account = (client.seniority.key.namespace.to_string(), spec.service_account.clone());
        keys.entry(account).or_default().push(Arc::new(set));
    }
    keys
}

fn plans(
    trust_domain: &TrustDomain,
    model: &Model,
    attachments: &Attachments,
) -> HashMap<String, BTreeMap<String, Arc<PortPlan>>> {
    let mut fronts: HashMap<(&str, &str), Vec<(&Key, &str)>> = HashMap::new();
    for endpoint in model.endpoints.values().flatten() {
        let port = (endpoint.pod_uid.as_str(), endpoint.pod_port.as_str());
        fronts.entry(port).or_default().push((&endpoint.service, &endpoint.service_port));
    }
    let mut planner = Planner::new(trust_domain, model, attachments);
    let plan_pod = |pod: &Pod| {
        let ports = pod.ports.iter().map(|port| {
            let fronts = fronts.get(&(pod.uid.as_str(), port.name.as_str())).map(Vec::as_slice).unwrap_or_default();
            (port.name.clone(), planner.plan(&pod.namespace, fronts))
        });
        (pod.uid.clone(), ports.collect())
    };
    model.pods.values().map(plan_pod).collect()
}

fn fronts(model: &Model) -> HashMap<String, Vec<Key>> {
    let mut fronts: HashMap<String, Vec<Key>> = HashMap::new();
    for (service, endpoints) in &model.endpoints {
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

fn clients<'a>(all: impl Iterator<Item = &'a Client>) -> HashMap<(String, String), Vec<Seniority>> {
    let mut clients: HashMap<_, Vec<Seniority>> = HashMap::new();
    for client in all {
        let Some(spec) = &client.spec else { continue };
        let account = (client.seniority.key.namespace.to_string(), spec.service_account.clone());
        clients.entry(account).or_default().push(client.seniority.clone());
    }
    clients.values_mut().for_each(|clients| clients.sort());
    clients
}
