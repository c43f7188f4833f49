//! What is told of the roots of the mesh: in the status of the FapiMesh, and as metrics.

use std::sync::Arc;

use crds::mesh::AnchorPhase;
use fapi::UnixTime;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::{Progress, Step};
use crate::pki::{Anchor, Authority, Rotation};

const PHASES: [AnchorPhase; 4] =
    [AnchorPhase::Prepared, AnchorPhase::Active, AnchorPhase::Tainted, AnchorPhase::Removed];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InPhase {
    phase: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InStep {
    step: String,
}

/// The roots, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Anchors {
    /// The older one first.
    pub(crate) all: Vec<Anchor>,
    /// The step of the rotation that runs, and since when.
    pub(crate) step: Option<(Step, UnixTime)>,
    /// How far that is, and shortly after it how far it got. Whoever does not lead does not know.
    pub(crate) progress: Option<Progress>,
    /// Why pods get no certificates, and what to do.
    pub(crate) lost: Option<Arc<str>>,
}

/// Where they are told.
pub(crate) type Told = watch::Receiver<Arc<Anchors>>;

impl Anchors {
    pub(super) fn of(authority: &Authority, progress: Option<Progress>) -> Self {
        let rotation = authority.rotation().filter(Rotation::runs);
        let step = rotation.map(|rotation| (rotation.step, rotation.since()));
        Self { all: authority.anchors(), step, progress, lost: authority.lost() }
    }

    /// The root that others follow in this step, by its place.
    pub(crate) fn followed(&self) -> Option<(usize, &Progress)> {
        let progress = self.progress.as_ref()?;
        let at = if progress.step < Step::Tainted { self.all.len().checked_sub(1)? } else { 0 };
        Some((at, progress))
    }

    /// Adds what scrapers are told at this time.
    pub(crate) fn register(&self, registry: &mut Registry, now: UnixTime) {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let roots = Family::<InPhase, Gauge>::default();
        for phase in PHASES {
            let count = self.all.iter().filter(|anchor| anchor.phase == phase).count();
            roots.get_or_create(&InPhase { phase: format!("{phase:?}") }).set(number(count as u64));
        }
        registry.register("fapi_operator_roots", "Roots of the mesh, by phase", roots);
        let Some((step, since)) = self.step else { return };
        let seconds = Family::<InStep, Gauge>::default();
        let passed = now.as_secs().saturating_sub(since.as_secs());
        seconds.get_or_create(&InStep { step: format!("{step:?}") }).set(number(passed));
        let help = "How long the rotation of the root that runs has been at its step";
        registry.register("fapi_operator_rotation_step_seconds", help, seconds);
    }
}
