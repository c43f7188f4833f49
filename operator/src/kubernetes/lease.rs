//! Which of several operators writes: the one that holds the Lease.
//!
//! Every replica serves certificates, tokens and streams; only the holder writes to the API. Nobody trusts a clock but his own:
//! another's Lease is over when it has not changed for its whole duration, as seen from here, and our own is over a little
//! before that, counted from when we asked.

mod election;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use self::election::{DURATION, Election, Record, Step};
use crate::{crypto, names::OPERATOR};

/// Three tries before it is over.
const RENEW: Duration = Duration::from_secs(4);
/// One question.
const ANSWER: Duration = Duration::from_secs(3);
/// The annotation of the Lease that says where its holder's control server is. Who answers there has to prove who it is.
const CONTROL: &str = "fapi-mesh.dev/control";

/// Whether this process may write, now.
#[derive(Clone, Debug)]
pub(crate) struct Leadership(Option<watch::Receiver<Option<Instant>>>);

impl Leadership {
    /// Of a process that has no rivals.
    pub(crate) fn alone() -> Self {
        Self(None)
    }

    /// Up to when this says.
    #[cfg(test)]
    pub(crate) fn until(until: watch::Receiver<Option<Instant>>) -> Self {
        Self(Some(until))
    }

    /// Whether it holds. Ask before every write.
    pub(crate) fn holds(&self) -> bool {
        let Some(until) = &self.0 else { return true };
        until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Returns when it has begun or ended, and not whenever it is renewed.
    pub(crate) async fn changed(&mut self) {
        let ended = match &mut self.0 {
            Some(until) => until.changed().await.is_err(),
            None => true,
        };
        if ended {
            std::future::pending::<()>().await;
        }
    }
}

/// Takes part in the election.
pub(crate) struct Candidate {
    leases: Api<Lease>,
    me: String,
    election: Election,
    began: Instant,
    until: watch::Sender<Option<Instant>>,
    /// What was told last: whether it holds.
    told: bool,
    /// Where this replica's control server is.
    control: Option<SocketAddr>,
    /// Where that of another one is, which holds the Lease.
    holder: watch::Sender<Option<SocketAddr>>,
}

impl Candidate {
    /// A candidate of a name that no other process has, not even the next one in this place. Others find its control server at
    /// `control` when it holds the Lease.
    pub(crate) fn new(client: Client, namespace: &str, control: Option<SocketAddr>) -> Self {
        let place = std::env::var("HOSTNAME").unwrap_or_else(|_| OPERATOR.to_owned());
        let random: [u8; 8] = crypto::random();
        let me = format!("{place}_{}", random.map(|byte| format!("{byte:02x}")).concat());
        let election = Election::new(&me);
        let leases = Api::namespaced(client, namespace);
        let (until, holder) = (watch::Sender::new(None), watch::Sender::new(None));
        Self { leases, me, election, began: Instant::now(), until, told: false, control, holder }
    }

    /// Where the control server of the holder is; `None` if that is this process, or nobody, or one that does not say.
    pub(crate) fn holder(&self) -> watch::Receiver<Option<SocketAddr>> {
        self.holder.subscribe()
    }

    /// What it has of the Lease.
    pub(crate) fn leadership(&self) -> Leadership {
        Leadership(Some(self.until.subscribe()))
    }

    /// Holds the Lease or waits for it until `shutdown` says true, and then lets it go.
    pub(crate) async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        loop {
            if let Err(error) = self.turn().await {
                tracing::warn!(event = "lease", %error, "cannot hold or take the Lease; nothing is written without it");
            }
            self.publish();
            // So that replicas do not ask together.
            tokio::select! {
                () = sleep(crypto::between(RENEW / 4 * 3, RENEW)) => {}
                _ = shutdown.wait_for(|end| *end) => break,
            }
        }
        self.release().await;
    }

    async fn turn(&mut self) -> Result<(), LeaseError> {
        let asked = self.began.elapsed();
        let found = within(self.leases.get_opt(OPERATOR)).await?;
        let record = found.as_ref().map(Record::of);
        self.tell_holder(record.as_ref());
        let written = match self.election.step(self.began.elapsed(), record.as_ref()) {
            Step::Wait => return Ok(()),
            Step::Create => within(self.leases.create(&PostParams::default(), &self.lease(None, 0))).await,
            Step::Renew(record) => {
                let lease = self.lease(Some(&record), record.transitions);
                within(self.leases.replace(OPERATOR, &PostParams::default(), &lease)).await
            }
            Step::Take(record) => {
                let lease = self.lease(Some(&record), record.transitions.saturating_add(1));
                within(self.leases.replace(OPERATOR, &PostParams::default(), &lease)).await
            }
        };
        match written {
            Ok(_) => self.election.won(asked),
            // Another one was faster; the next look tells who.
            Err(LeaseError::Client(kube::Error::Api(status))) if status.code == 409 => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn tell_holder(&self, found: Option<&Record>) {
        let other = found.filter(|record| record.holder != self.me && !record.holder.is_empty());
        let at = other.and_then(|record| record.control);
        self.holder.send_if_modified(|known| std::mem::replace(known, at) != at);
    }

    /// What holds from now on, and whoever waits for a change of it is woken by that alone. One that has run out and came back
    /// is a change too: what was to be written in between was not.
    fn publish(&mut self) {
        let (until, now, told) = (self.election.until().map(|until| self.began + until), Instant::now(), self.told);
        let held = |until: Option<Instant>| until.is_some_and(|until| now < until);
        let holds = held(until);
        let is_change = self.until.send_if_modified(|known| {
            let before = std::mem::replace(known, until);
            holds != told || holds != held(before)
        });
        self.told = holds;
        if is_change {
            tracing::info!(event = "lease", me = self.me, holds);
        }
    }

    async fn release(mut self) {
        let held = self.election.until().is_some_and(|until| self.began.elapsed() < until);
        self.election.ended();
        self.publish();
        if !held {
            return;
        }
        let Ok(Some(mut lease)) = within(self.leases.get_opt(OPERATOR)).await else { return };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(&self.me) {
            spec.holder_identity = None;
            // Whoever waits finds out by itself if this does not arrive.
            let _ = within(self.leases.replace(OPERATOR, &PostParams::default(), &lease)).await;
        }
    }

    /// The Lease as it is to be, if it still is what it was.
    fn lease(&self, before: Option<&Record>, transitions: i32) -> Lease {
        let now = MicroTime(Timestamp::now());
        Lease {
            metadata: ObjectMeta {
                name: Some(OPERATOR.to_owned()),
                resource_version: before.map(|record| record.version.clone()),
                annotations: self.control.map(|at| BTreeMap::from([(CONTROL.to_owned(), at.to_string())])),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.me.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                lease_transitions: Some(transitions),
                renew_time: Some(now.clone()),
                acquire_time: Some(match before {
                    Some(Record { holder, acquired: Some(acquired), .. }) if *holder == self.me => acquired.clone(),
                    _ => now,
                }),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// Why the API server did not answer as it should.
#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error("{0}")]
    Client(#[from] kube::Error),
    #[error("no answer in {} s", ANSWER.as_secs())]
    NoAnswer,
}

async fn within<T>(answer: impl Future<Output = kube::Result<T>>) -> Result<T, LeaseError> {
    Ok(timeout(ANSWER, answer).await.map_err(|_| LeaseError::NoAnswer)??)
}

impl Record {
    fn of(lease: &Lease) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        let control = lease.metadata.annotations.as_ref().and_then(|all| all.get(CONTROL)?.parse().ok());
        let lasts = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        Self {
            holder: spec.holder_identity.unwrap_or_default(),
            acquired: spec.acquire_time,
            renewed: spec.renew_time,
            lasts: lasts.map_or(DURATION, Duration::from_secs),
            transitions: spec.lease_transitions.unwrap_or_default(),
            version: lease.metadata.resource_version.clone().unwrap_or_default(),
            control,
        }
    }
}

#[cfg(test)]
mod tests;
