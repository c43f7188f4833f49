//! Keys of issuers outside the mesh: fetched by the sidecar itself, since it is the one who sees an unknown key id.
//!
//! One keeper per issuer runs on the control thread: it fetches at once, again in the background, and when a request
//! brings a key id that nobody knows, though never in close succession. What it fetches is published through [`Shared`];
//! a data worker waits for one attempt at most, and not for long. While a server cannot be reached its last good keys
//! stay, up to a limit; after that its tokens are refused with `issuer_unavailable`. An issuer of tokens that only it can
//! read is asked about each ([`introspect`]).

mod endpoint;
mod fetch;
mod introspect;
mod keeper;
#[cfg(test)]
mod tests;

pub(crate) use endpoint::Endpoint;
pub(crate) use fetch::{Metadata, Server, ServerError};

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use control::ExternalIssuer;
use fapi::{Introspection, Issuer, SpiffeId, Unread};
use introspect::Introspections;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::{clock::monotonic, state::Shared};

/// How often, how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Keys that are good are fetched again after this.
    pub(crate) refresh: Duration,
    /// No request brings about a fetch within this time of the last one. It is also how long a key id that was not found
    /// is taken for granted not to be there.
    pub(crate) cooldown: Duration,
    /// The last good keys are used for this long without a good answer.
    pub(crate) stale: Duration,
    /// For metadata and keys together.
    pub(crate) answer: Duration,
    /// A request waits this long for an attempt.
    pub(crate) wait: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            refresh: Duration::from_secs(300),
            cooldown: Duration::from_secs(10),
            stale: Duration::from_secs(3600),
            answer: Duration::from_secs(5),
            wait: Duration::from_secs(2),
        }
    }
}

/// The issuers whose keys are fetched, as workers see them.
#[derive(Default)]
pub(crate) struct Issuers(ArcSwap<HashMap<Issuer, Arc<Remote>>>);

/// One of them: who wants its keys, and what became of it.
struct Remote {
    pace: Pace,
    wanted: Notify,
    last: watch::Sender<Attempt>,
    /// `None` if we are no client of it.
    introspections: Option<Arc<Introspections>>,
}

/// The last attempt at fetching.
#[derive(Clone, Copy, Debug, Default)]
struct Attempt {
    number: u64,
    /// `None` before the first.
    ended: Option<Instant>,
}

impl Issuers {
    /// Has the keys of an issuer fetched for a request, unless that was done just now, and waits for it within bounds.
    /// Afterwards whatever is published is as fresh as it gets. Everyone who waits, waits for the same attempt.
    pub(crate) async fn fresh(&self, issuer: &Issuer) {
        let remote = self.0.load().get(issuer).map(Arc::clone);
        // The keys of the mesh come from the operator, before tokens signed with them exist.
        let Some(remote) = remote else { return };
        let mut last = remote.last.subscribe();
        let before = *last.borrow_and_update();
        if !remote.is_due(before) {
            return;
        }
        remote.wanted.notify_one();
        let _ = timeout(remote.pace.wait, last.wait_for(|attempt| attempt.number != before.number)).await;
    }
}

impl Issuers {
    /// What the issuer of a token that only it can read says of it to `caller`, asked now or a short while ago; `None` if it did
    /// not say in time, or is not to be asked for this caller now.
    pub(crate) async fn introspect(
        &self,
        caller: &SpiffeId,
        unread: &Unread,
        shared: &Shared,
    ) -> Option<Arc<Introspection>> {
        let remote = self.0.load().get(&unread.issuer).map(Arc::clone)?;
        remote.introspections.as_ref()?.ask(caller, unread, shared).await
    }
}

impl Remote {
    fn is_due(&self, last: Attempt) -> bool {
        last.ended.is_none_or(|ended| monotonic() >= ended + self.pace.cooldown)
    }
}

/// The keepers, one per issuer. Lives on the control thread.
pub(crate) struct Keepers {
    shared: Arc<Shared>,
    /// The roots of the system, for issuers that bring none.
    roots: PathBuf,
    pace: Pace,
    running: Mutex<HashMap<Issuer, Keeper>>,
}

struct Keeper {
    server: ExternalIssuer,
    remote: Arc<Remote>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Keepers {
    pub(crate) fn new(shared: Arc<Shared>, roots: PathBuf, pace: Pace) -> Self {
        Self { shared, roots, pace, running: Mutex::default() }
    }

    /// Keeps the keys of exactly these issuers from now on; those of any other are forgotten. An issuer that is what it
    /// was keeps its keys and its keeper.
    pub(crate) fn set(&self, servers: &[ExternalIssuer]) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut kept, mut started) = (HashMap::new(), false);
        for server in servers {
            // What a snapshot names was checked when it was applied.
            let Ok(issuer) = Issuer::parse(&server.issuer) else { continue };
            let keeper = match running.remove(&issuer) {
                Some(keeper) if keeper.server == *server => keeper,
                _ => {
                    started = true;
                    self.start(&issuer, server)
                }
            };
            kept.insert(issuer, keeper);
        }
        if !started && running.is_empty() {
            *running = kept;
            return;
        }
        let gone = std::mem::replace(&mut *running, kept);
        let remotes = running.iter().map(|(issuer, keeper)| (issuer.clone(), Arc::clone(&keeper.remote)));
        self.shared.issuers.0.store(Arc::new(remotes.collect()));
        for issuer in gone.into_keys() {
            self.shared.forget_keys(&issuer);
        }
    }

    fn start(&self, issuer: &Issuer, server: &ExternalIssuer) -> Keeper {
        let last = watch::Sender::new(Attempt::default());
        let (introspections, asking) = Introspections::new(&self.shared, server, self.roots.clone()).unzip();
        let remote = Arc::new(Remote { pace: self.pace, wanted: Notify::new(), last, introspections });
        let source = Server::new(issuer.clone(), server.clone(), self.roots.clone());
        // A server whose roots or address changed is another one: what the one before said no longer counts.
        self.shared.forget_keys(issuer);
        let mut tasks = vec![tokio::spawn(keeper::keep(Arc::clone(&self.shared), source, Arc::clone(&remote)))];
        tasks.extend(asking.map(tokio::spawn));
        Keeper { server: server.clone(), remote, tasks }
    }
}
