//! Whether a step has done what it is for. A function of what is known and of the time.

use std::collections::BTreeMap;
use std::time::Duration;

use fapi::UnixTime;

use crate::acks::PodAcks;
use crate::pki::{Roots, Rotation, Step};
use crate::status::timestamp;

/// No certificate of a workload lives longer: the bound of `certificateLifetime`.
pub(super) const LONGEST_CERTIFICATE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How many namespaces are named.
const NAMED: usize = 5;

/// What is known.
pub(super) struct Facts {
    /// Every sidecar that lives, or may, by the uid of its pod.
    pub(super) sidecars: BTreeMap<String, Sidecar>,
    /// Namespaces where sidecars that start find other roots than those that count.
    pub(super) outdated: Vec<Outdated>,
    /// When this process began to listen, if it hears every sidecar that speaks. In a cluster others may, and not say so.
    pub(super) started: Option<UnixTime>,
    pub(super) now: UnixTime,
}

/// One of them.
pub(super) struct Sidecar {
    /// As a person knows its pod.
    pub(super) name: String,
    pub(super) heard: Heard,
    /// Since when it is waited for, if it is.
    pub(super) since: UnixTime,
}

/// A namespace with other roots, or none.
pub(super) struct Outdated {
    pub(super) namespace: String,
    /// A sidecar runs or starts there.
    pub(super) in_use: bool,
}

/// What is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// It has a stream.
    pub(super) connected: bool,
    /// It has acknowledged the roots that count, and no others.
    pub(super) trusts: bool,
    /// It shows a certificate of the authority that signs.
    pub(super) renewed: bool,
    /// Why it refused the roots that count.
    pub(super) refused: Option<String>,
}

impl Heard {
    /// What a sidecar has said, measured by these roots.
    pub(super) fn of(acks: PodAcks, roots: &Roots) -> Self {
        Self {
            connected: acks.streams > 0,
            trusts: acks.trusted.as_ref() == Some(&roots.digest),
            renewed: roots.signed(acks.authority.as_deref()),
            refused: acks.distrusted.filter(|(bundle, _)| *bundle == roots.digest).map(|(_, why)| why),
        }
    }
}

/// How long a step lasts at least, so that everybody hears of it who does not say so.
pub(super) struct Pace {
    /// Files of pods are written by kubelets, some time after the ConfigMap that they are of.
    pub(super) prepared: Duration,
    /// Other operators read what the leader has written.
    pub(super) other: Duration,
    /// A namespace that does not take the roots is waited for so long if it has no sidecar: nobody is cut off there. One
    /// that has some is waited for however long it takes.
    pub(super) unused: Duration,
}

/// What it comes to.
#[derive(Debug, PartialEq)]
pub(super) struct Judgement {
    /// The next step is due.
    pub(super) is_due: bool,
    /// How many sidecars count.
    pub(super) sidecars: usize,
    /// Those that have not followed, whoever is waited for longest first.
    pub(super) waiting: Vec<Waits>,
    /// Namespaces that are waited for.
    outdated: Vec<String>,
    /// Namespaces that are not: sidecars that start there do not get in.
    pub(super) left_behind: Vec<String>,
    /// The step lasts until then at least; none once that is over.
    until: Option<UnixTime>,
}

/// A sidecar that has not followed.
#[derive(Debug, PartialEq)]
pub(super) struct Waits {
    pub(super) uid: String,
    pub(super) name: String,
    pub(super) since: UnixTime,
    pub(super) why: String,
}

/// Whether the next step is due, and what it waits for.
pub(super) fn judge(rotation: &Rotation, facts: &Facts, pace: &Pace) -> Judgement {
    let step = rotation.step;
    let least = if step == Step::Prepared { pace.prepared } else { pace.other };
    let until = rotation.since().plus(least.as_secs());
    let until = (step != Step::Removed && facts.now < until).then_some(until);
    // Whoever speaks to nobody for longer has no certificate any more: it enrols again, with the roots of then.
    let forgotten = facts.started.map(|started| rotation.since().max(started).plus(LONGEST_CERTIFICATE.as_secs()));
    let counts = |sidecar: &Sidecar| sidecar.heard.connected || forgotten.is_none_or(|end| facts.now < end);
    let sidecars = || facts.sidecars.iter().filter(|(_, sidecar)| counts(sidecar));
    let waits = |(uid, sidecar): (&String, &Sidecar)| {
        let Sidecar { name, since, .. } = sidecar;
        let why = lacks(step, &sidecar.heard)?;
        Some(Waits { uid: uid.clone(), name: name.clone(), since: *since, why })
    };
    let mut waiting: Vec<Waits> = sidecars().filter_map(waits).collect();
    waiting.sort_by(|a, b| (a.since, &a.name).cmp(&(b.since, &b.name)));
    let patient = facts.now < rotation.since().plus(pace.unused.as_secs());
    let (outdated, left): (Vec<_>, Vec<_>) = facts.outdated.iter().partition(|namespace| namespace.in_use || patient);
    let names = |all: Vec<&Outdated>| all.into_iter().map(|outdated| outdated.namespace.clone()).collect::<Vec<_>>();
    let (outdated, left_behind) = (names(outdated), names(left));
    let is_due = step.next().is_some() && until.is_none() && waiting.is_empty() && outdated.is_empty();
    Judgement { is_due, sidecars: sidecars().count(), waiting, outdated, left_behind, until }
}

/// What a sidecar has still to do in this step.
fn lacks(step: Step, heard: &Heard) -> Option<String> {
    let Heard { connected, trusts, renewed, refused } = heard;
    if !connected {
        return Some("it has no control stream".to_owned());
    }
    if !trusts {
        let why = refused.as_ref().map(|why| format!("it refuses the roots: {why}"));
        return Some(why.unwrap_or_else(|| "it has not acknowledged the roots".to_owned()));
    }
    (step >= Step::Tainted && !renewed).then(|| "it has a certificate of the old root".to_owned())
}

impl Judgement {
    /// For a person; nothing once everybody has followed.
    pub(super) fn waits_for(&self) -> Option<String> {
        let mut all = Vec::new();
        if let Some(Waits { name, since, why, .. }) = self.waiting.first() {
            let (count, since) = (self.waiting.len(), timestamp(*since));
            all.push(format!("{count} of {} sidecars, oldest since {since}: {name}: {why}", self.sidecars));
        }
        if !self.outdated.is_empty() {
            let named = self.outdated.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            let more = if self.outdated.len() > NAMED { ", ..." } else { "" };
            all.push(format!("the trust bundles of {} namespaces: {named}{more}", self.outdated.len()));
        }
        all.extend(self.until.map(|until| format!("{} at the earliest", timestamp(until))));
        (!all.is_empty()).then(|| all.join("; "))
    }
}
