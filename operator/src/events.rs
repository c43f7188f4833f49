//! What the operator tells in the cluster: Events, on the object that they concern, where `kubectl describe` shows them.
//!
//! Whoever tells never waits: what was told stands in a [`Ledger`] of bounded size, which knows what is told already, and the
//! [`Scribe`] writes what is due, one after the other. Events are for people; what must not be lost is in the log.

mod documents;
mod ledger;
mod quota;
mod reason;
mod scribe;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1 as core;
use kube::Client;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use serde_json::Value as Json;
use tokio::sync::Notify;

pub(crate) use self::documents::watch_documents;
use self::ledger::{Ledger, Told};
pub(crate) use self::reason::Reason;
pub(crate) use self::scribe::Scribe;
use crate::clock::Clock;
use crate::model::Pod;

/// An object of the cluster that something is told of.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct About {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    /// Empty for what belongs to no namespace.
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// Where things are told. Clones tell in the same place.
#[derive(Clone)]
pub(crate) struct Events(Option<Arc<Board>>);

/// What those who tell and the one who writes share.
struct Board {
    clock: Clock,
    ledger: Mutex<Ledger>,
    due: Notify,
    written: AtomicU64,
    failed: AtomicU64,
}

/// What became of what was told, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fates {
    /// Requests that the API server took.
    pub(crate) written: u64,
    /// Requests that it did not take.
    pub(crate) failed: u64,
    /// What found no room.
    pub(crate) dropped: u64,
}

impl Events {
    /// Where nobody listens: without a cluster.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// A place to tell things in, and who writes them to the cluster of this client.
    pub(crate) fn open(client: Client, clock: Clock) -> (Self, Scribe) {
        let (due, ledger) = (Notify::new(), Mutex::default());
        let board = Arc::new(Board { clock, ledger, due, written: AtomicU64::new(0), failed: AtomicU64::new(0) });
        (Self(Some(board.clone())), Scribe::new(client, board))
    }

    /// Tells something of an object. It waits for nothing, and what was told already is only counted.
    pub(crate) fn tell(&self, about: About, reason: Reason, note: impl Into<String>) {
        let Some(board) = &self.0 else { return };
        let told = Told::new(about, reason, note.into());
        if board.ledger().tell(told, board.clock.now()) {
            board.due.notify_one();
        }
    }

    /// What became of it.
    pub(crate) fn fates(&self) -> Fates {
        let Some(board) = &self.0 else { return Fates::default() };
        Fates {
            written: board.written.load(Ordering::Relaxed),
            failed: board.failed.load(Ordering::Relaxed),
            dropped: board.ledger().dropped(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

impl Fates {
    /// Adds them to what is shown.
    pub(crate) fn register(self, registry: &mut Registry) {
        let family = Family::<Outcome, Counter>::default();
        for (outcome, count) in [("written", self.written), ("failed", self.failed), ("dropped", self.dropped)] {
            family.get_or_create(&Outcome { outcome }).inc_by(count);
        }
        registry.register("fapi_operator_events", "Events of objects, by what became of them", family);
    }
}

impl Board {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl About {
    /// A pod of the mesh.
    pub(crate) fn pod(pod: &Pod) -> Self {
        let (namespace, name, uid) = (pod.namespace.clone(), pod.name.clone(), pod.uid.clone());
        Self { api_version: "v1".to_owned(), kind: "Pod".to_owned(), namespace, name, uid }
    }

    /// What makes a pod that has no name of its own yet: a ReplicaSet, a Job. `None` if a person does.
    pub(crate) fn owner(pod: &core::Pod, namespace: &str) -> Option<Self> {
        let owners = pod.metadata.owner_references.iter().flatten();
        let owner = owners.into_iter().find(|owner| owner.controller == Some(true))?;
        Some(Self {
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            namespace: namespace.to_owned(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
        })
    }

    /// An object as the API server has it; `None` if it has none of this name yet.
    pub(crate) fn object(object: &Json) -> Option<Self> {
        let text = |value: &Json| value.as_str().map(str::to_owned);
        let metadata = &object["metadata"];
        Some(Self {
            api_version: text(&object["apiVersion"])?,
            kind: text(&object["kind"])?,
            namespace: text(&metadata["namespace"]).unwrap_or_default(),
            name: text(&metadata["name"])?,
            uid: text(&metadata["uid"])?,
        })
    }
}
