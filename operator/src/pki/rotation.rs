//! What is kept of a rotation of the root: how far it is, and which two roots it is about.

use crds::mesh::AnchorPhase;
use fapi::UnixTime;
use serde::{Deserialize, Serialize};

/// How far a rotation is. Each step lasts until everybody has followed, and survives every restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Step {
    /// The new root is being made. Nobody has heard of it.
    Begun,
    /// Both roots are trusted, and the old one signs.
    Prepared,
    /// Both roots are trusted, and the new one signs.
    Active,
    /// Whoever still has a certificate of the old one is asked to renew it.
    Tainted,
    /// The new root alone is trusted: the end.
    Removed,
}

impl Step {
    /// The one after it.
    pub(crate) fn next(self) -> Option<Self> {
        match self {
            Self::Begun => Some(Self::Prepared),
            Self::Prepared => Some(Self::Active),
            Self::Active => Some(Self::Tainted),
            Self::Tainted => Some(Self::Removed),
            Self::Removed => None,
        }
    }

    /// What the root that goes is good for in this step.
    fn of_old(self) -> AnchorPhase {
        match self {
            Self::Begun | Self::Prepared | Self::Active => AnchorPhase::Active,
            Self::Tainted => AnchorPhase::Tainted,
            Self::Removed => AnchorPhase::Removed,
        }
    }

    /// What the root that comes is good for in this step; nothing before it is made.
    fn of_new(self) -> Option<AnchorPhase> {
        match self {
            Self::Begun => None,
            Self::Prepared => Some(AnchorPhase::Prepared),
            Self::Active | Self::Tainted | Self::Removed => Some(AnchorPhase::Active),
        }
    }
}

/// The last rotation, or the one that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Rotation {
    /// As whoever asked for it calls it: asking again by the same name changes nothing.
    pub(crate) name: String,
    pub(crate) step: Step,
    since: u64,
    /// The fingerprint of the first root of all.
    pub(super) first: String,
    /// The root that goes.
    pub(super) old: Mark,
    /// The root that comes.
    pub(super) new: Mark,
}

/// Tells one root from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Mark {
    /// Roots of a mesh are counted, from 1.
    pub(super) number: u32,
    /// Of its certificate; none before it is made.
    pub(super) fingerprint: Option<String>,
}

impl Rotation {
    /// One that begins. `old` is the root that signs, `first` the fingerprint of the first one of all.
    pub(super) fn begin(name: &str, old: Mark, first: String, now: UnixTime) -> Self {
        let new = Mark { number: old.number.saturating_add(1), fingerprint: None };
        Self { name: name.to_owned(), step: Step::Begun, since: now.as_secs(), first, old, new }
    }

    /// The same, once the root that comes is made.
    pub(super) fn prepared(&self, new: Mark, now: UnixTime) -> Self {
        Self { new, ..self.at(Step::Prepared, now) }
    }

    /// The same, with another step that begins now.
    pub(super) fn at(&self, step: Step, now: UnixTime) -> Self {
        Self { step, since: now.as_secs(), ..self.clone() }
    }

    /// One of roots that nobody has.
    #[cfg(test)]
    pub(crate) fn sample(step: Step, now: UnixTime) -> Self {
        Self::begin("sample", Mark { number: 1, fingerprint: None }, String::new(), now).at(step, now)
    }

    /// The root that goes and, once it is made, the one that comes; what each is good for.
    pub(super) fn phases(&self) -> impl Iterator<Item = (&Mark, AnchorPhase)> {
        [(&self.old, Some(self.step.of_old())), (&self.new, self.step.of_new())]
            .into_iter()
            .filter_map(|(mark, phase)| Some((mark, phase?)))
    }

    /// When the step began.
    pub(crate) fn since(&self) -> UnixTime {
        UnixTime::from_secs(self.since)
    }

    /// Whether it has not come to its end.
    pub(crate) fn runs(&self) -> bool {
        self.step != Step::Removed
    }
}
