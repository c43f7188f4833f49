//! The model, indexed: which policy governs which port, who stands behind which Service, who may ask for what.
//!
//! Attachment is decided here and only here. The most specific policy governs a port alone: a port of a Service, then the
//! Service, then the namespace, then the built-in one. At one level the older wins.

mod addresses;
mod attach;
mod issuers;
mod namespace;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use control::{ClientAuthentication, GrantType};
use fapi::{KeySet, SpiffeId, TrustDomain};

use self::addresses::Addresses;
pub(crate) use self::addresses::Holder;
pub(crate) use self::issuers::Issuers;
use self::namespace::Namespace;
pub(crate) use self::plan::{Governor, PortPlan, check, check_issuer};
use crate::cluster_domain::ClusterDomain;
use crate::model::{ClientSpec, ClientTarget, Endpoint, Key, Left, Model, Pod, PodPort, PolicyTarget, Seniority};

/// A model with its cross-references. Immutable; equal models give equal indexes, whatever came before them.
#[derive(Debug)]
pub(crate) struct Index {
    trust_domain: TrustDomain,
    cluster_domain: ClusterDomain,
    model: Model,
    namespaces: HashMap<Arc<str>, Arc<Namespace>>,
    addresses: Arc<Addresses>,
    left: Left,
}

impl Index {
    /// Indexes a model from nothing.
    pub(crate) fn new(trust_domain: TrustDomain, model: Model) -> Self {
        let nothing = Self {
            trust_domain,
            cluster_domain: ClusterDomain::default(),
            model: Model::default(),
            namespaces: HashMap::new(),
            addresses: Arc::default(),
            left: Left::default(),
        };
        nothing.next(model)
    }

    /// The same in a cluster whose DNS answers under this domain.
    pub(crate) fn under(self, cluster_domain: ClusterDomain) -> Self {
        Self { cluster_domain, ..self }
    }

    /// The index of the model that takes the place of this one's. What stands in namespaces where nothing changed is shared.
    pub(crate) fn next(&self, model: Model) -> Self {
        let changed = self.changed(&model);
        let mut pods: HashMap<&str, Vec<&Pod>> = HashMap::new();
        for pod in model.pods.values().filter(|pod| changed.contains(pod.namespace.as_str())) {
            pods.entry(&pod.namespace).or_default().push(pod);
        }
        let mut namespaces = self.namespaces.clone();
        for name in changed {
            let pods = pods.get(name).map(Vec::as_slice).unwrap_or_default();
            match Namespace::new(&self.trust_domain, &model, name, pods) {
                Some(namespace) => drop(namespaces.insert(name.into(), Arc::new(namespace))),
                None => drop(namespaces.remove(name)),
            }
        }
        let moved = model.services != self.model.services || model.pods != self.model.pods;
        let addresses = if moved { Arc::new(Addresses::new(&model)) } else { self.addresses.clone() };
        let (trust_domain, cluster_domain) = (self.trust_domain.clone(), self.cluster_domain.clone());
        Self { trust_domain, cluster_domain, model, namespaces, addresses, left: self.left.clone() }
    }

    /// The same with these addresses that pods of the mesh have left.
    pub(crate) fn remembering(self, left: Left) -> Self {
        Self { left, ..self }
    }

    /// The addresses that pods of the mesh have left.
    pub(crate) fn left(&self) -> &Left {
        &self.left
    }

    /// The namespaces of which another model says something else, or in which a FapiIssuer may mean something else.
    fn changed<'a>(&'a self, model: &'a Model) -> BTreeSet<&'a str> {
        fn of<V>((key, _): (&Key, V)) -> &str {
            &key.namespace
        }
        let now = &self.model;
        let mut changed: BTreeSet<&str> = model.policies.changed(&now.policies).map(of).collect();
        changed.extend(model.clients.changed(&now.clients).map(of));
        changed.extend(model.endpoints.changed(&now.endpoints).map(of));
        changed.extend(model.pods.changed(&now.pods).map(|(_, pod)| pod.namespace.as_str()));
        if model.issuers != now.issuers {
            changed.extend(self.namespaces.keys().map(|name| &**name));
        }
        changed
    }

    /// Whether it shares what it knows of a namespace with another one.
    pub(crate) fn shares(&self, namespace: &str, other: &Self) -> bool {
        match (self.namespaces.get(namespace), other.namespaces.get(namespace)) {
            (Some(one), Some(another)) => Arc::ptr_eq(one, another),
            _ => false,
        }
    }

    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The domain under which the DNS of the cluster answers for Services.
    pub(crate) fn cluster_domain(&self) -> &ClusterDomain {
        &self.cluster_domain
    }

    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// Whether calls to what is known and not in the mesh are refused.
    pub(crate) fn refuses_unmeshed(&self) -> bool {
        self.model.mesh.as_ref().is_some_and(|mesh| mesh.unmeshed_refused)
    }

    /// Whether a pod of the mesh had this address until a moment ago: whoever looked it up may still mean that pod.
    pub(crate) fn was_left(&self, address: IpAddr) -> bool {
        self.left.contains(&address)
    }

    /// The identity of a pod; `None` if its names cannot be in one, which the sources refuse.
    pub(crate) fn identity(&self, pod: &Pod) -> Option<SpiffeId> {
        SpiffeId::new(&self.trust_domain, &pod.namespace, &pod.service_account).ok()
    }

    /// What governs each port of a pod.
    pub(crate) fn plans_of<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = (&'a PodPort, &'a Arc<PortPlan>)> {
        let plans = self.namespace(&pod.namespace).and_then(|namespace| namespace.plans.get(&pod.uid));
        pod.ports.iter().filter_map(move |port| Some((port, plans?.get(&port.number)?)))
    }

    /// The pods of a namespace, in the order of their uids.
    pub(crate) fn pods_in(&self, namespace: &str) -> impl Iterator<Item = &Pod> {
        let plans = self.namespace(namespace).map(|namespace| namespace.plans.keys());
        plans.into_iter().flatten().filter_map(|uid| self.model.pods.get(uid))
    }

    /// The pods that run as a service account, in the order of their uids.
    pub(crate) fn pods_as(&self, namespace: &str, account: &str) -> impl Iterator<Item = &Pod> {
        let uids = self.namespace(namespace).and_then(|namespace| namespace.accounts.get(account));
        uids.into_iter().flatten().filter_map(|uid| self.model.pods.get(uid))
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
        self.namespace(&pod.namespace).and_then(|namespace| namespace.fronts.get(&pod.uid)).into_iter().flatten()
    }

    /// Who is at this address.
    pub(crate) fn holder(&self, address: SocketAddr) -> Option<Holder<'_>> {
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
        self.clients(namespace, account)
            .flat_map(|(_, spec)| &spec.targets)
            .any(|target| target.grant_type == GrantType::TokenExchange)
    }

    /// What governs the port behind an endpoint.
    pub(crate) fn plan_of(&self, endpoint: &Endpoint) -> Option<&Arc<PortPlan>> {
        self.namespace(&endpoint.service.namespace)?.plans.get(&endpoint.pod_uid)?.get(&endpoint.pod_port)
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
        self.namespace(namespace).map(|namespace| namespace.attachments.at(target)).unwrap_or_default()
    }

    /// The keys with which a service account may authenticate without a certificate; those of its FapiClients add up.
    pub(crate) fn client_keys(&self, namespace: &str, account: &str) -> &[Arc<KeySet>] {
        let keys = self.namespace(namespace).and_then(|namespace| namespace.client_keys.get(account));
        keys.map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether the sidecars of a service account sign assertions.
    pub(crate) fn signs(&self, namespace: &str, account: &str) -> bool {
        self.clients(namespace, account).any(|(_, spec)| spec.authentication == ClientAuthentication::PrivateKeyJwt)
    }

    /// Who asks for tokens for `service` on behalf of a service account: the oldest FapiClient that names it.
    pub(crate) fn client_target(
        &self,
        namespace: &str,
        account: &str,
        service: &Key,
    ) -> Option<(&Key, &ClientSpec, &ClientTarget)> {
        self.clients(namespace, account).find_map(|(key, spec)| {
            let target = spec.targets.iter().find(|target| target.service == *service)?;
            Some((key, spec, target))
        })
    }

    /// The FapiClients of a service account that say something, oldest first.
    fn clients<'a>(&'a self, namespace: &str, account: &str) -> impl Iterator<Item = (&'a Key, &'a ClientSpec)> {
        let clients = self.namespace(namespace).and_then(|namespace| namespace.clients.get(account));
        let spec = |client: &'a Seniority| Some((&client.key, self.model.clients.get(&client.key)?.spec.as_ref()?));
        clients.into_iter().flatten().filter_map(spec)
    }

    fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name).map(|namespace| &**namespace)
    }
}
