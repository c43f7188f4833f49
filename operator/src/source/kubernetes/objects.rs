//! Everything that was told of a cluster, and the model that it makes. Pure: news in, model out.
//!
//! News of one kind are ordered by their resource version, and what is not newer than what is known of the kind says nothing:
//! so duplicates and stragglers change nothing, and the order between kinds does not matter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fapi::TrustDomain;
use serde_json::Value as Json;

use super::facts::{CustomFact, Fact};
use super::join::{self, Namespace};
use super::watched::Watched;
use crate::model::{Key, Left, Model, Table};
use crate::names::{SYSTEM_NAMESPACE, TRUST_BUNDLE};
use crate::source::located::Node;
use crate::source::object::{self, Kind, ObjectId, Schemas};
use crate::source::problem::Problem;
use crate::source::settle::{self, Settled};
use crate::source::{Bundle, Desired, Fault, expand};

/// What a watch tells.
#[derive(Clone, Debug)]
pub(crate) struct News {
    pub(super) watched: Watched,
    pub(super) change: Change,
    /// The resource version of the kind after it.
    pub(super) version: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    /// These are all.
    Listed(Vec<(Key, Fact)>),
    /// It is new, or another than before.
    Put(Key, Fact),
    /// It is gone.
    Gone(Key),
    /// Nothing happened up to this version.
    Nothing,
}

/// The state of a cluster.
pub(crate) struct Objects {
    schemas: Schemas,
    /// Any will do to compile a policy with: what is wrong with one does not depend on it.
    any_domain: TrustDomain,
    /// The trust domain of the mesh, once it is settled.
    fixed: Option<TrustDomain>,
    /// Of each kind that was listed.
    versions: BTreeMap<Watched, u64>,
    settled: Settled,
    /// Every object of ours, good or not: its uid, and the generation that was read.
    read: BTreeMap<ObjectId, (String, i64)>,
    /// What they say became of them.
    statuses: BTreeMap<ObjectId, Arc<Json>>,
    /// The roots in each namespace that has some.
    bundles: BTreeMap<Arc<str>, Bundle>,
    namespaces: BTreeMap<Arc<str>, Namespace>,
    /// Namespaces that ask for sidecars.
    asking: BTreeSet<Arc<str>>,
    /// Namespaces that are being deleted: no pod starts there any more.
    ending: BTreeSet<Arc<str>>,
    /// Namespaces whose part of the model is not up to date.
    stale: BTreeSet<Arc<str>>,
    /// The pods of each namespace that are in the model.
    pods: BTreeMap<Arc<str>, Vec<String>>,
    model: Model,
}

impl Objects {
    /// Nothing was told yet.
    pub(crate) fn new(any_domain: TrustDomain) -> Self {
        Self {
            schemas: Schemas::new(),
            any_domain,
            fixed: None,
            versions: BTreeMap::new(),
            settled: Settled::default(),
            read: BTreeMap::new(),
            statuses: BTreeMap::new(),
            bundles: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            asking: BTreeSet::new(),
            ending: BTreeSet::new(),
            stale: BTreeSet::new(),
            pods: BTreeMap::new(),
            model: Model { complete: true, ..Model::default() },
        }
    }

    /// Whether every kind was listed once. Before that, what is not known may be there all the same.
    pub(crate) fn synced(&self) -> bool {
        Watched::ALL.iter().all(|watched| self.versions.contains_key(watched))
    }

    /// From here on a FapiMesh of another trust domain is refused.
    pub(crate) fn fix(&mut self, trust_domain: TrustDomain) {
        self.fixed = Some(trust_domain);
    }

    /// The trust domain that the FapiMesh names, if there is one; the error says why it cannot be read.
    pub(crate) fn named_domain(&self) -> Result<Option<TrustDomain>, String> {
        if let Some(fault) = self.settled.broken_mesh() {
            return Err(fault.to_owned());
        }
        let named = self.model.mesh.as_ref().and_then(|mesh| mesh.trust_domain.as_deref());
        Ok(named.and_then(|named| TrustDomain::parse(named).ok()))
    }

    /// Takes news. True if they may have changed the model.
    pub(crate) fn take(&mut self, news: News) -> bool {
        let News { watched, change, version } = news;
        let known = self.versions.get(&watched).copied();
        match change {
            Change::Listed(all) => {
                // A list is the truth, also after the cluster was restored from a backup and counts anew.
                self.versions.insert(watched, version);
                self.list(watched, all);
                // The order may be another in any case.
                true
            }
            _ if known.is_none_or(|known| version <= known) => false,
            Change::Put(key, fact) => {
                self.versions.insert(watched, version);
                self.put(watched, key, fact)
            }
            Change::Gone(key) => {
                self.versions.insert(watched, version);
                self.put(watched, key, Fact::Nothing)
            }
            Change::Nothing => {
                self.versions.insert(watched, version);
                false
            }
        }
    }

    /// What is to be so, after all that was told.
    pub(crate) fn desired(&mut self) -> Desired {
        for name in std::mem::take(&mut self.stale) {
            self.rejoin(&name);
        }
        Desired {
            model: self.model.clone(),
            left: Left::default(),
            revocations: expand::revocations(&self.settled),
            problems: self.settled.problems.clone(),
            faults: self.faults(),
            versions: self.versions(),
            opted_in: self.opted_in(),
            bundles: self.bundles.clone(),
            statuses: self.statuses.clone(),
        }
    }

    fn faults(&self) -> BTreeMap<ObjectId, Fault> {
        let faults = self.settled.broken.iter().filter_map(|(id, broken)| {
            let (uid, _) = self.read.get(id)?;
            Some((id.clone(), Fault { uid: uid.clone(), text: broken.fault.as_str().into() }))
        });
        faults.collect()
    }

    /// Namespaces that are to have what a sidecar needs before its first contact.
    fn opted_in(&self) -> BTreeSet<Arc<str>> {
        let with_pods = self.namespaces.iter().filter(|(_, held)| held.pods.values().any(|pod| pod.opted_in(false)));
        let all = with_pods.map(|(name, _)| name).chain(&self.asking);
        all.filter(|name| !self.ending.contains(*name)).cloned().collect()
    }

    /// Of every kind that snapshots are made of, in the sequence of `Watched`: whoever knows less has less in one of them, in this
    /// process or another.
    fn versions(&self) -> Vec<u64> {
        let counted = self.versions.iter().filter(|(watched, _)| watched.is_in_snapshots());
        counted.map(|(_, version)| *version).collect()
    }

    fn list(&mut self, watched: Watched, all: Vec<(Key, Fact)>) {
        let listed: BTreeSet<&Key> = all.iter().map(|(key, _)| key).collect();
        let gone: Vec<Key> = self.keys(watched).into_iter().filter(|key| !listed.contains(key)).collect();
        for key in gone {
            self.put(watched, key, Fact::Nothing);
        }
        for (key, fact) in all {
            self.put(watched, key, fact);
        }
    }

    fn keys(&self, watched: Watched) -> Vec<Key> {
        if let Some(kind) = watched.custom() {
            return self.read.keys().filter(|id| id.kind == kind).map(ObjectId::key).collect();
        }
        let mut keys = Vec::new();
        for (namespace, held) in &self.namespaces {
            let names: Vec<&String> = match watched {
                Watched::Pod => held.pods.keys().collect(),
                Watched::Service => held.services.keys().collect(),
                Watched::EndpointSlice => held.slices.keys().collect(),
                _ => Vec::new(),
            };
            keys.extend(names.into_iter().map(|name| Key::new(namespace, name)));
        }
        match watched {
            Watched::Namespace => keys.extend(self.asking.union(&self.ending).map(|name| Key::new("", name))),
            Watched::TrustBundle => keys.extend(self.bundles.keys().map(|namespace| Key::new(namespace, TRUST_BUNDLE))),
            _ => {}
        }
        keys
    }

    /// Puts an object in the place of what is known of it. True if that is something else.
    fn put(&mut self, watched: Watched, key: Key, fact: Fact) -> bool {
        let fact = match fact {
            Fact::Unreadable(why, counts_as) => {
                let (kind, object) = (watched.name(), key.to_string());
                tracing::warn!(
                    event = "unreadable",
                    kind,
                    object,
                    why,
                    "an object cannot be read; calls to the addresses of such a pod or Service are refused"
                );
                *counts_as
            }
            fact => fact,
        };
        if let Some(kind) = watched.custom() {
            return self.put_custom(kind, &key, fact);
        }
        if watched == Watched::Namespace {
            let (asks, ends) = if let Fact::Namespace { asks, ends } = fact { (asks, ends) } else { (false, false) };
            let other_end = mark(&mut self.ending, &key.name, ends);
            let other_wish = mark(&mut self.asking, &key.name, asks);
            if other_wish {
                // It is said of each of its pods.
                self.stale.insert(key.name);
            }
            return other_wish || other_end;
        }
        if watched == Watched::TrustBundle {
            return match fact {
                Fact::Bundle(bundle) => self.bundles.insert(key.namespace, bundle.clone()).as_ref() != Some(&bundle),
                _ => self.bundles.remove(&key.namespace).is_some(),
            };
        }
        let held = self.namespaces.entry(key.namespace.clone()).or_default();
        let changed = match watched {
            Watched::Pod => place(&mut held.pods, &key.name, if let Fact::Pod(pod) = fact { Some(pod) } else { None }),
            Watched::Service => place(
                &mut held.services,
                &key.name,
                if let Fact::Service(service) = fact { Some(service) } else { None },
            ),
            _ => place(&mut held.slices, &key.name, if let Fact::Slice(slice) = fact { Some(slice) } else { None }),
        };
        if changed {
            self.stale.insert(key.namespace);
        }
        changed
    }

    fn put_custom(&mut self, kind: Kind, key: &Key, fact: Fact) -> bool {
        let namespace = kind.is_namespaced().then_some(&*key.namespace);
        let Some(id) = ObjectId::new(kind, namespace, &key.name) else { return false };
        let status = self.statuses.remove(&id);
        let was = self.read.remove(&id);
        if let (Fact::Custom(fact), Some((uid, generation))) = (&fact, &was)
            && (&fact.uid, &fact.generation) == (uid, generation)
        {
            // Only what became of it has changed.
            self.read.extend(was.map(|was| (id.clone(), was)));
            let changed = status.as_deref().unwrap_or(&Json::Null) != &fact.status;
            self.statuses.extend((!fact.status.is_null()).then(|| (id, Arc::new(fact.status.clone()))));
            return changed;
        }
        let before = self.settled.good.remove(&id);
        let broken = self.settled.broken.remove(&id);
        let place = id.to_string();
        if broken.is_some() {
            self.settled.problems.retain(|problem| problem.file != place);
        }
        if let Fact::Custom(CustomFact { uid, generation, created, document, status }) = fact {
            // One that was made anew has no past.
            let before = before.filter(|_| was.is_some_and(|(was, _)| was == uid));
            let parsed = object::parse_node(&self.schemas, &self.any_domain, Node::from_json(&document, 0));
            if let object::Parsed::Bad(bad) = &parsed {
                let problems = bad.findings.iter().map(|finding| finding.clone().in_file(&place));
                self.settled.problems.extend(problems);
            }
            settle::place(&mut self.settled, &id, &[(&place, &parsed)], before.as_ref(), self.fixed.as_ref());
            if let Some(good) = self.settled.good.get_mut(&id) {
                (good.generation, good.created) = (generation, created);
            }
            if let Some(broken) = self.settled.broken.get_mut(&id) {
                (broken.generation, broken.created) = (Some(generation), created);
                self.settled.problems.sort();
                self.tell(&place);
            }
            self.read.insert(id.clone(), (uid, generation));
            self.statuses.extend((!status.is_null()).then(|| (id.clone(), Arc::new(status))));
        }
        expand::replace(&mut self.model, &id, &self.settled);
        true
    }

    fn tell(&self, object: &str) {
        for problem in self.settled.problems.iter().filter(|problem| problem.file == object) {
            let Problem { field, message, remedy, .. } = problem;
            tracing::warn!(event = "problem", object, field, remedy, "{message}");
        }
    }

    fn rejoin(&mut self, name: &Arc<str>) {
        for uid in self.pods.remove(name).unwrap_or_default() {
            self.model.pods.remove(&uid);
        }
        let empty = Namespace::default();
        let held = self.namespaces.get(name).unwrap_or(&empty);
        // Nothing is ever injected there, so its pods would be out of reach for good.
        let asks = self.asking.contains(name) && **name != *SYSTEM_NAMESPACE;
        let joined = join::join(name, asks, held);
        drop_namespace(&mut self.model.services, name);
        drop_namespace(&mut self.model.endpoints, name);
        self.model.services.extend(joined.services.into_iter().map(|service| (service.key.clone(), service)));
        self.model.endpoints.extend(joined.endpoints);
        if *held == empty {
            self.namespaces.remove(name);
            return;
        }
        self.pods.insert(name.clone(), joined.pods.iter().map(|pod| pod.uid.clone()).collect());
        self.model.pods.extend(joined.pods.into_iter().map(|pod| (pod.uid.clone(), pod)));
    }
}

/// Removes what stands under keys of one namespace.
fn drop_namespace<T: Clone>(all: &mut Table<Key, T>, namespace: &str) {
    let first = Key::new(namespace, "");
    let of_it = all.range(first..).take_while(|(key, _)| *key.namespace == *namespace).map(|(key, _)| key.clone());
    for key in of_it.collect::<Vec<_>>() {
        all.remove(&key);
    }
}

/// Whether `name` is one of them. True if that is a change.
fn mark(all: &mut BTreeSet<Arc<str>>, name: &Arc<str>, is_one: bool) -> bool {
    if is_one { all.insert(name.clone()) } else { all.remove(name) }
}

/// Puts `new` under `name`, or removes what is there. True if that is a change.
fn place<T: PartialEq>(all: &mut BTreeMap<String, T>, name: &str, new: Option<T>) -> bool {
    match new {
        Some(new) if all.get(name) == Some(&new) => false,
        Some(new) => {
            all.insert(name.to_owned(), new);
            true
        }
        None => all.remove(name).is_some(),
    }
}
