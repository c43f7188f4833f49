//! Counting what becomes of reviews, and when the certificates of the webhooks end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fapi::UnixTime;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::review::Verdict;

/// Counts for one process. Clones count together.
#[derive(Clone, Default)]
pub(crate) struct Meter(Arc<Counts>);

#[derive(Default)]
struct Counts {
    reviews: Family<Review, Counter>,
    seconds: Family<Webhook, Counter<f64, AtomicU64>>,
    /// When the certificates end, in seconds since 1970; 0 while there are none.
    serving: AtomicU64,
    authority: AtomicU64,
}

/// One of the webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Inject,
    Validate,
    Ephemeral,
}

/// What becomes of a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The object passes, with changes.
    Changed,
    /// It passes as it is.
    Passed,
    /// It does not pass.
    Refused,
    /// Nobody could say in time.
    Unavailable,
    /// It was no review.
    Malformed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Review {
    webhook: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Webhook {
    webhook: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Certificate {
    certificate: &'static str,
}

impl Which {
    /// Its label.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Inject => "inject",
            Self::Validate => "validate",
            Self::Ephemeral => "ephemeral",
        }
    }
}

impl Outcome {
    /// Of a review that was read.
    pub(super) fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Allowed { patch, .. } if patch.is_empty() => Self::Passed,
            Verdict::Allowed { .. } => Self::Changed,
            Verdict::Denied { .. } => Self::Refused,
            Verdict::Unavailable { .. } => Self::Unavailable,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Passed => "passed",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Malformed => "malformed",
        }
    }
}

impl Meter {
    /// Counts a review that was answered after `took`.
    pub(super) fn count(&self, which: Which, outcome: Outcome, took: Duration) {
        let webhook = which.name();
        self.0.reviews.get_or_create(&Review { webhook, outcome: outcome.name() }).inc();
        self.0.seconds.get_or_create(&Webhook { webhook }).inc_by(took.as_secs_f64());
    }

    /// The end of the certificate that is served.
    pub(super) fn serves_until(&self, end: UnixTime) {
        self.0.serving.store(end.as_secs(), Ordering::Relaxed);
    }

    /// The end of the authority that API servers are told to trust.
    pub(super) fn trusted_until(&self, end: UnixTime) {
        self.0.authority.store(end.as_secs(), Ordering::Relaxed);
    }

    /// Adds what is counted to what is shown; without webhooks that is nothing.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let Counts { reviews, seconds, serving, authority } = &*self.0;
        let ends = [("serving", serving), ("authority", authority)];
        let ends = ends.map(|(name, end)| (name, end.load(Ordering::Relaxed)));
        if ends.iter().any(|(_, end)| *end == 0) {
            return;
        }
        let help = "Reviews that API servers asked for, by webhook and what became of them";
        registry.register("fapi_operator_admission_requests", help, reviews.clone());
        let help = "Seconds that answering took, by webhook";
        registry.register("fapi_operator_admission_seconds", help, seconds.clone());
        let family = Family::<Certificate, Gauge>::default();
        for (certificate, end) in ends {
            family.get_or_create(&Certificate { certificate }).set(i64::try_from(end).unwrap_or(i64::MAX));
        }
        let help = "When the certificates of the webhooks end, seconds since 1970";
        registry.register("fapi_operator_webhook_certificate_not_after_seconds", help, family);
    }
}
