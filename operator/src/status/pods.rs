//! How far each pod's sidecar got, and how far that brings a policy or a client.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use control::MeshIssuer;
use crds::conditions::{PROGRAMMED, reason};
use crds::policy::PodCounts;
use fapi::UnixTime;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::condition::{Conditions, timestamp};
use crate::acks::PodAcks;
use crate::model::Pod;
use crate::view::View;

/// All pods, by uid.
#[derive(Debug, Default)]
pub(super) struct Pods(BTreeMap<String, Progress>);

#[derive(Debug)]
struct Progress {
    /// As a person knows it.
    name: String,
    state: State,
    /// Since when its sidecar does not run what it should.
    waits_since: Option<UnixTime>,
    /// The epoch of the revocations that it has in force. None where it is revoked itself: it is told nothing any more.
    revocations: Option<u64>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// It runs what it should.
    Runs,
    /// It refused it, and said why.
    Refused(String),
    /// It has not said anything yet, or has no stream.
    Waits,
    /// There is no sidecar.
    NoSidecar,
}

/// Some pods, counted.
struct Count<'a> {
    counts: PodCounts,
    oldest: Option<UnixTime>,
    /// The first in the order of uids.
    refused: Option<(&'a str, &'a str)>,
}

impl Pods {
    /// Where every pod of the view is now; who waited before waits since then.
    pub(super) fn new(
        view: &View,
        issuer: &MeshIssuer,
        acks: impl Fn(&str) -> PodAcks,
        is_revoked: impl Fn(&Pod) -> bool,
        before: &Self,
        now: UnixTime,
    ) -> Self {
        let progress = |pod: &Pod| {
            let acks = acks(&pod.uid);
            let revocations = (!is_revoked(pod)).then_some(acks.revocations);
            let state = state(view, issuer, pod, acks);
            let since = before.0.get(&pod.uid).and_then(|before| before.waits_since).unwrap_or(now);
            let waits_since = matches!(state, State::Refused(_) | State::Waits).then_some(since);
            let name = format!("{}/{}", pod.namespace, pod.name);
            (pod.uid.clone(), Progress { name, state, waits_since, revocations })
        };
        Self(view.pods().map(progress).collect())
    }

    /// `Programmed` for these pods, which are to run `what`, and their numbers.
    pub(super) fn programmed<'a>(
        &self,
        conditions: Conditions,
        uids: impl IntoIterator<Item = &'a str>,
        what: &str,
    ) -> (Condition, PodCounts) {
        let count = self.count(uids);
        let PodCounts { matched, programmed, rejected, .. } = count.counts;
        let message = count.message(what);
        let condition = match reason_of(count.counts) {
            None => conditions.holds(PROGRAMMED, message),
            Some(reason) => conditions.fails(PROGRAMMED, reason, message),
        };
        debug_assert!(programmed + rejected <= matched);
        (condition, count.counts)
    }

    /// How many pods have the revocations of this epoch in force, of all that have a sidecar and are not revoked themselves.
    pub(super) fn with_revocations(&self, epoch: u64) -> (usize, usize) {
        let meshed = self.0.values().filter(|progress| progress.state != State::NoSidecar);
        let epochs: Vec<u64> = meshed.filter_map(|progress| progress.revocations).collect();
        (epochs.iter().filter(|known| **known >= epoch).count(), epochs.len())
    }

    fn count<'a>(&self, uids: impl IntoIterator<Item = &'a str>) -> Count<'_> {
        let mut count = Count { counts: PodCounts::default(), oldest: None, refused: None };
        for progress in uids.into_iter().filter_map(|uid| self.0.get(uid)) {
            let counts = &mut count.counts;
            counts.matched += 1;
            match &progress.state {
                State::Runs => counts.programmed += 1,
                State::Waits => {}
                State::NoSidecar => counts.without_sidecar += 1,
                State::Refused(why) => {
                    counts.rejected += 1;
                    count.refused.get_or_insert((&progress.name, why));
                }
            }
            let oldest = count.oldest.into_iter().chain(progress.waits_since).min();
            count.oldest = oldest;
        }
        count
    }
}

fn state(view: &View, issuer: &MeshIssuer, pod: &Pod, acks: PodAcks) -> State {
    let Some(snapshot) = view.snapshot(&pod.uid, issuer) else { return State::NoSidecar };
    match acks {
        PodAcks { nacked: Some((version, why)), .. } if version == snapshot.version => State::Refused(why),
        PodAcks { acked: Some(version), .. } if version == snapshot.version => State::Runs,
        _ => State::Waits,
    }
}

/// Why not everybody runs it.
fn reason_of(counts: PodCounts) -> Option<&'static str> {
    match counts {
        PodCounts { matched: 0, .. } => Some(reason::NO_PODS),
        PodCounts { rejected: 1.., .. } => Some(reason::REJECTED),
        PodCounts { matched, programmed, .. } if programmed == matched => None,
        PodCounts { programmed: 0, .. } => Some(reason::PENDING),
        _ => Some(reason::PARTIALLY_PROGRAMMED),
    }
}

impl Count<'_> {
    /// Such as `7 of 9 pods run 3f2a, oldest waits since 2026-11-05T10:41:07Z; bank/payments-1: its words`.
    fn message(&self, what: &str) -> String {
        let PodCounts { matched, programmed, without_sidecar, .. } = self.counts;
        if matched == 0 {
            return "there is no pod to run it".to_owned();
        }
        let mut text = format!("{programmed} of {matched} pods run {what}");
        // Writing to a string does not fail.
        if let Some(oldest) = self.oldest {
            let _ = write!(text, ", oldest waits since {}", timestamp(oldest));
        }
        if without_sidecar > 0 {
            let _ = write!(text, ", {without_sidecar} without a sidecar");
        }
        if let Some((pod, why)) = self.refused {
            let _ = write!(text, "; {pod}: {why}");
        }
        text
    }
}
