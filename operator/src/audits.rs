//! What sidecars tell of policies in `Audit`, here and at other replicas: calls that these let pass and would refuse.
//!
//! Nothing here is durable: a sidecar tells its totals again on every stream, and they count for as long as it has one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use control::{OTHER_CALLERS, pb};
use fapi::{SpiffeId, TrustDomain, UnixTime};
use tokio::sync::watch;
use tokio::sync::watch::error::RecvError;
use tokio::time::sleep;

use crate::clock::Clock;

/// The book of all counts: written by the control server, read by the status writer. Shared as `Arc<Audits>`.
#[derive(Debug, Default)]
pub(crate) struct Audits {
    books: Mutex<Books>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Books {
    /// By pod uid, what each teller says. Two tell of one pod while its sidecar reconnects.
    pods: HashMap<String, BTreeMap<u64, Policies>>,
    /// How many tellers there ever were.
    tellers: u64,
}

/// What is counted of one pod, by the name of the policy.
pub(crate) type Policies = BTreeMap<String, Arc<Counted>>;

/// What is counted, by pod uid.
pub(crate) type Counts = HashMap<String, Policies>;

/// What was told of one policy, within bounds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Counted(pb::WouldRefuse);

/// Counts that no sidecar of ours would tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotCounts;

/// A control stream, or another replica: what it tells counts for as long as this lives.
#[derive(Debug)]
pub(crate) struct Telling {
    audits: Arc<Audits>,
    number: u64,
    pods: HashSet<String>,
}

/// When counts are looked at: where calls come all the time they change all the time, and nobody waits for them.
#[derive(Debug)]
pub(crate) struct Pace {
    changed: watch::Receiver<()>,
    /// Seconds between two looks.
    every: u64,
    next: UnixTime,
}

/// Pods of one replica: as many as it takes connections.
const MAX_PODS: usize = 20_000;
/// Policies of one pod: as many as it may have ports.
const MAX_POLICIES: usize = 256;
/// Twice what a sidecar tells apart, and every reason once.
const MAX_CALLERS: usize = 256;
/// A namespace, a slash and the name of an object.
const MAX_POLICY: usize = 63 + 1 + 253;
const MAX_REASON: usize = 64;

impl Counted {
    /// Reads what was told. A reason of a newer sidecar is taken as it is.
    pub(crate) fn read(told: pb::WouldRefuse, domain: &TrustDomain, now: UnixTime) -> Result<Self, NotCounts> {
        let is_reason = |text: &str| {
            (1..=MAX_REASON).contains(&text.len())
                && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        };
        let is_caller = |text: &str| {
            let account = text.split_once('/');
            text == OTHER_CALLERS || account.is_some_and(|(of, name)| SpiffeId::new(domain, of, name).is_ok())
        };
        let good = (1..=MAX_POLICY).contains(&told.policy.len())
            && told.callers.len() <= MAX_CALLERS
            && told.callers.iter().all(|line| is_reason(&line.reason) && is_caller(&line.caller));
        // A clock that is ahead makes no time that has not come.
        let since = told.since.min(now.as_secs());
        if good { Ok(Self(pb::WouldRefuse { since, ..told })) } else { Err(NotCounts) }
    }

    /// The name of the policy, `namespace/name`.
    pub(crate) fn policy(&self) -> &str {
        &self.0.policy
    }

    /// Whether there is nothing any more.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.callers.is_empty()
    }

    /// When the sidecar began to count.
    pub(crate) fn since(&self) -> UnixTime {
        UnixTime::from_secs(self.0.since)
    }

    /// The counts, by reason and caller.
    pub(crate) fn callers(&self) -> &[pb::RefusedCaller] {
        &self.0.callers
    }

    /// As replicas tell it to each other.
    pub(crate) fn message(&self) -> pb::WouldRefuse {
        self.0.clone()
    }

    /// Of two tellers the one is right that knows of the later beginning, and then of more calls.
    fn newness(&self) -> (u64, u64) {
        (self.0.since, self.0.callers.iter().fold(0, |sum, line| sum.saturating_add(line.count)))
    }
}

impl Audits {
    /// Begins to listen to somebody.
    pub(crate) fn open(self: &Arc<Self>) -> Telling {
        let mut books = self.books();
        books.tellers += 1;
        Telling { audits: self.clone(), number: books.tellers, pods: HashSet::new() }
    }

    /// Everything that is counted now.
    pub(crate) fn all(&self) -> Counts {
        let books = self.books();
        let newest = |told: &BTreeMap<u64, Policies>| {
            let mut policies = Policies::new();
            for (policy, counted) in told.values().flatten() {
                let known = policies.entry(policy.clone()).or_insert_with(|| counted.clone());
                if known.newness() < counted.newness() {
                    *known = counted.clone();
                }
            }
            policies
        };
        books.pods.iter().map(|(uid, told)| (uid.clone(), newest(told))).collect()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Every statement leaves good maps, so a panic of another holder does.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Telling {
    /// Takes what is told of a pod, in place of what was told of it and this policy before. False if there is no room.
    pub(crate) fn put(&mut self, pod_uid: &str, counted: Counted) -> bool {
        if !self.pods.contains(pod_uid) && (counted.is_empty() || self.pods.len() >= MAX_PODS) {
            return counted.is_empty();
        }
        let mut books = self.audits.books();
        let policies = books.pods.entry(pod_uid.to_owned()).or_default().entry(self.number).or_default();
        if counted.is_empty() {
            policies.remove(counted.policy());
        } else if policies.len() >= MAX_POLICIES && !policies.contains_key(counted.policy()) {
            return false;
        } else {
            policies.insert(counted.policy().to_owned(), Arc::new(counted));
        }
        let is_gone = policies.is_empty();
        if is_gone {
            books.forget(pod_uid, self.number);
            self.pods.remove(pod_uid);
        } else {
            self.pods.insert(pod_uid.to_owned());
        }
        drop(books);
        self.audits.changed.send_replace(());
        true
    }
}

impl Books {
    fn forget(&mut self, pod_uid: &str, teller: u64) {
        let Some(told) = self.pods.get_mut(pod_uid) else { return };
        told.remove(&teller);
        if told.is_empty() {
            self.pods.remove(pod_uid);
        }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        if self.pods.is_empty() {
            return;
        }
        let mut books = self.audits.books();
        for pod_uid in &self.pods {
            books.forget(pod_uid, self.number);
        }
        drop(books);
        self.audits.changed.send_replace(());
    }
}

impl Pace {
    /// Looks at once if there is anything, and then at most once in so many seconds.
    pub(crate) fn new(audits: &Audits, every: u64) -> Self {
        let mut changed = audits.changed.subscribe();
        if !audits.books().pods.is_empty() {
            changed.mark_changed();
        }
        Self { changed, every, next: UnixTime::default() }
    }

    /// Whether to look now: something has changed, and the last look is long enough ago.
    pub(crate) fn is_due(&mut self, now: UnixTime) -> bool {
        let is_due = now >= self.next && self.changed.has_changed().is_ok_and(|changed| changed);
        if is_due {
            self.changed.mark_unchanged();
            self.next = now.plus(self.every);
        }
        is_due
    }

    /// Waits until it is time to look.
    pub(crate) async fn due(&mut self, clock: &Clock) -> Result<(), RecvError> {
        sleep(clock.until(self.next)).await;
        self.changed.changed().await?;
        // It was not looked at yet.
        self.changed.mark_changed();
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
