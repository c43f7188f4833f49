//! What policies in `Audit` let pass that they would refuse, counted by reason and caller, for their statuses.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arc_swap::ArcSwap;
use control::{OTHER_CALLERS, PortPolicyDoc, Snapshot, pb};
use fapi::{Mode, Rejection, SpiffeId, UnixTime};

use crate::metrics::{ByReason, Counter};

/// Reasons and callers that a policy tells apart. Whoever comes later is counted by reason alone.
const TOLD_APART: usize = 64;

/// The counts of one policy in `Audit`, since it runs here as it is. Workers count, and none waits for another thread.
#[derive(Debug)]
pub(crate) struct Book {
    since: UnixTime,
    /// Replaced as a whole when somebody comes for the first time, so at most [`TOLD_APART`] times.
    callers: ArcSwap<HashMap<(Rejection, SpiffeId), Arc<Counter>>>,
    others: ByReason,
}

/// The books of a snapshot, by the name of the policy.
#[derive(Debug, Default)]
pub(crate) struct Books(BTreeMap<String, Arc<Book>>);

/// What an operator has heard on one stream, by the name of the policy.
#[derive(Debug, Default)]
pub(crate) struct Heard(BTreeMap<String, pb::WouldRefuse>);

impl Book {
    fn new(since: UnixTime) -> Self {
        Self { since, callers: ArcSwap::default(), others: ByReason::default() }
    }

    /// Counts a call, or a connection, of somebody whom a certificate names.
    pub(crate) fn count(&self, reason: Rejection, caller: &SpiffeId) {
        let key = (reason, caller.clone());
        let known = self.callers.load();
        if known.len() < TOLD_APART && !known.contains_key(&key) {
            self.callers.rcu(|known| {
                let mut more = HashMap::clone(known);
                if more.len() < TOLD_APART {
                    more.entry(key.clone()).or_default();
                }
                more
            });
        }
        match self.callers.load().get(&key) {
            Some(counter) => counter.add(1),
            None => self.others.count(reason),
        }
    }

    fn told(&self, policy: &str) -> pb::WouldRefuse {
        let callers = self.callers.load();
        let known = callers.iter().map(|((reason, caller), counter)| {
            let caller = format!("{}/{}", caller.namespace(), caller.service_account());
            (reason.id(), caller, counter.get())
        });
        let others = self.others.seen().map(|(reason, count)| (reason, OTHER_CALLERS.to_owned(), count));
        let mut told: Vec<_> = known.chain(others).collect();
        told.sort_unstable();
        let line = |(reason, caller, count): (&str, _, _)| {
            let reason = reason.to_owned();
            pb::RefusedCaller { reason, caller, count }
        };
        // One that has just come is not counted yet.
        let callers = told.into_iter().filter(|(_, _, count)| *count > 0).map(line).collect();
        pb::WouldRefuse { policy: policy.to_owned(), since: self.since.as_secs(), callers }
    }
}

impl Books {
    /// The books of `snapshot`, begun now; but that of a policy of which the snapshot before said the same goes on.
    pub(crate) fn of(snapshot: &Snapshot, before: Option<(&Snapshot, &Self)>, now: UnixTime) -> Self {
        let mut books = BTreeMap::new();
        for name in snapshot.ports.iter().filter_map(|port| audited(&port.policy)) {
            let is_same = |before: &Snapshot| documents(before, name).eq(documents(snapshot, name));
            let known = before.filter(|(before, _)| is_same(before)).and_then(|(_, books)| books.0.get(name));
            let book = || known.map_or_else(|| Arc::new(Book::new(now)), Arc::clone);
            books.entry(name.to_owned()).or_insert_with(book);
        }
        Self(books)
    }

    /// The book of this policy; none if it refuses.
    pub(crate) fn book(&self, policy: &PortPolicyDoc) -> Option<Arc<Book>> {
        audited(policy).and_then(|name| self.0.get(name)).map(Arc::clone)
    }

    /// All counts, for the operator.
    pub(crate) fn told(&self) -> impl Iterator<Item = pb::WouldRefuse> {
        self.0.iter().map(|(policy, book)| book.told(policy))
    }
}

impl Heard {
    /// What it has not heard of these counts; from now on it has.
    pub(crate) fn news(&mut self, now: impl Iterator<Item = pb::WouldRefuse>) -> Vec<pb::WouldRefuse> {
        let now: BTreeMap<_, _> =
            now.filter(|told| !told.callers.is_empty()).map(|told| (told.policy.clone(), told)).collect();
        let gone = self.0.keys().filter(|policy| !now.contains_key(*policy));
        let nothing = gone.map(|policy| pb::WouldRefuse { policy: policy.clone(), ..pb::WouldRefuse::default() });
        let other =
            now.iter().filter(|(policy, told)| self.0.get(*policy) != Some(*told)).map(|(_, told)| told.clone());
        let news = nothing.chain(other).collect();
        self.0 = now;
        news
    }
}

/// The name of a policy that is in `Audit`.
fn audited(policy: &PortPolicyDoc) -> Option<&str> {
    named(policy).filter(|(_, mode)| *mode == Mode::Audit).map(|(name, _)| name)
}

fn named(policy: &PortPolicyDoc) -> Option<(&str, Mode)> {
    match policy {
        PortPolicyDoc::Policy(policy) => Some((&policy.name, policy.mode)),
        PortPolicyDoc::Tcp(policy) => Some((&policy.name, policy.mode)),
        PortPolicyDoc::Invalid { .. } => None,
    }
}

/// All that a snapshot says of a policy.
fn documents<'a>(snapshot: &'a Snapshot, name: &'a str) -> impl Iterator<Item = &'a PortPolicyDoc> {
    let policies = snapshot.ports.iter().map(|port| &port.policy);
    policies.filter(move |policy| named(policy).is_some_and(|(found, _)| found == name))
}

#[cfg(test)]
mod tests;
