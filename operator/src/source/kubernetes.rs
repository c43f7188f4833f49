//! The desired state of a Kubernetes cluster: its objects, watched.
//!
//! `watch` tells the news of one kind each, as `facts`; `objects` makes a model of them, in whatever order they come; `join`
//! brings together what stands in one namespace. Nothing is given to anyone before every kind was listed once.

mod facts;
mod join;
mod left;
mod objects;
#[cfg(test)]
mod tests;
mod watch;
mod watched;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fapi::TrustDomain;
use kube::Client;
use kube::core::{ApiResource, DynamicObject};
use tokio::sync::{mpsc, watch as channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use self::facts::Fact;
use self::objects::{News, Objects};
pub(crate) use self::watched::Watched;
use super::{Desired, SourceError};
use crate::behind::Behind;
use crate::model::Pod;

/// Where an API server has pods.
pub(crate) fn pods() -> ApiResource {
    Watched::Pod.resource()
}

/// A pod that lives, as the model would have it without any Service before it.
pub(crate) fn pod_of(object: DynamicObject) -> Option<Pod> {
    let key = facts::key(&object);
    match facts::read(Watched::Pod, object) {
        Fact::Pod(fact) => Some(join::pod(&key.namespace, &key.name, &fact, &BTreeSet::new())),
        _ => None,
    }
}

/// News that wait to be taken; whoever has more waits.
const NEWS: usize = 1024;
/// What belongs together comes together: a Deployment and its pods.
const QUIET: Duration = Duration::from_millis(20);
/// A cluster that never rests is read all the same.
const PATIENCE: Duration = Duration::from_millis(200);

/// A cluster.
pub(crate) struct Cluster {
    objects: Objects,
    news: mpsc::Receiver<News>,
    desired: Desired,
    left: left::Memory,
    trust_domain: TrustDomain,
    client: Client,
    behind: Behind,
    /// Dropped with it.
    _watches: JoinSet<()>,
}

impl Cluster {
    /// Watches a cluster, and returns when everything in it is known. `fixed` is the trust domain of the mesh, `None` at its
    /// first start; `otherwise` that of a mesh whose FapiMesh names none. It waits for as long as the API server does not
    /// answer.
    ///
    /// # Errors
    /// At the first start the FapiMesh cannot be read.
    pub(crate) async fn open(
        client: Client,
        fixed: Option<TrustDomain>,
        otherwise: &TrustDomain,
    ) -> Result<Self, SourceError> {
        let (tell, mut news) = mpsc::channel(NEWS);
        let mut watches = JoinSet::new();
        let behind = Behind::default();
        for watched in Watched::ALL {
            watches.spawn(watch::watch(client.clone(), watched, tell.clone(), behind.clone()));
        }
        let mut objects = Objects::new(otherwise.clone());
        if let Some(fixed) = fixed.clone() {
            objects.fix(fixed);
        }
        while !objects.synced() {
            let Some(next) = news.recv().await else { return Err(SourceError::Watches) };
            objects.take(next);
        }
        let trust_domain = match fixed {
            Some(fixed) => fixed,
            None => objects.named_domain().map_err(SourceError::Mesh)?.unwrap_or_else(|| otherwise.clone()),
        };
        objects.fix(trust_domain.clone());
        let desired = objects.desired();
        let left = left::Memory::default();
        Ok(Self { objects, news, desired, left, trust_domain, client, behind, _watches: watches })
    }

    /// The way to its API server.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Where it is told that sidecars know more; then it looks again.
    pub(crate) fn behind(&self) -> Behind {
        self.behind.clone()
    }

    /// The trust domain of the mesh.
    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// What the cluster said when it was last asked.
    pub(crate) fn desired(&self) -> &Desired {
        &self.desired
    }

    /// Publishes what the cluster says until `shutdown` says true.
    pub(crate) async fn run(mut self, desired: channel::Sender<Arc<Desired>>, mut shutdown: channel::Receiver<bool>) {
        loop {
            tokio::select! {
                changed = self.change() => match changed {
                    Some(true) => {}
                    Some(false) => continue,
                    None => return,
                },
                _ = shutdown.wait_for(|end| *end) => return,
            }
            // Joining a large namespace would hold up what shares this thread.
            let step = tokio::task::spawn_blocking(move || {
                self.update(Instant::now());
                self
            });
            let Ok(back) = step.await else {
                tracing::error!(
                    "reading the cluster ended unexpectedly; changes are no longer seen: restart the operator"
                );
                return;
            };
            self = back;
            desired.send_replace(Arc::new(self.desired.clone()));
        }
    }

    /// What is to be so, after all that was told.
    fn update(&mut self, now: Instant) {
        let before = std::mem::replace(&mut self.desired, self.objects.desired());
        self.left.note(&before.model, &self.desired.model, now);
        self.desired.left = self.left.look(now);
    }

    /// Takes what comes together; whether it may have changed what is to be so, as time does too, or `None` when nothing will come any
    /// more.
    async fn change(&mut self) -> Option<bool> {
        let next = tokio::select! {
            next = self.news.recv() => next?,
            () = until(self.left.next()) => return Some(true),
        };
        let mut changed = self.objects.take(next);
        let latest = Instant::now() + PATIENCE;
        while Instant::now() < latest {
            match timeout_at(latest.min(Instant::now() + QUIET), self.news.recv()).await {
                Ok(Some(next)) => changed |= self.objects.take(next),
                _ => break,
            }
        }
        Some(changed)
    }
}

/// Returns then; never, if there is no such time.
async fn until(then: Option<Instant>) {
    match then {
        Some(then) => sleep_until(then).await,
        None => std::future::pending().await,
    }
}
