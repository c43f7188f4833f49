//! Room for reviews. Each is a question to an API server, and whoever reaches the operator may bring tokens; so few are asked
//! at one time, and first enrolments take no place of a renewal: a mesh that grows, or is flooded, keeps what it has.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::EnrollRefusal;
use crate::newest::Newest;

/// First enrolments that are reviewed at one time: thousands a second, with an API server nearby.
pub(super) const FIRST: usize = 16;
/// The same of renewals.
const RENEWALS: usize = 16;
/// A sidecar has one renewal in progress. A pod that asks for more does not take the places of others.
const RENEWALS_OF_A_POD: usize = 1;
/// How long one waits for a place. A sidecar that is sent away comes back later, and not together with others.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who is reviewed now.
pub(super) struct Room {
    first: Semaphore,
    renewals: Semaphore,
    renewing: Newest<Arc<str>>,
}

impl Room {
    pub(super) fn new() -> Self {
        let (first, renewals) = (Semaphore::new(FIRST), Semaphore::new(RENEWALS));
        Self { first, renewals, renewing: Newest::new(RENEWALS_OF_A_POD) }
    }

    /// Reviews once there is a place for it: one of those kept for renewals, if `renews` is a pod that does.
    ///
    /// # Errors
    /// [`EnrollRefusal::Busy`] if there is none in time, or if the pod begins another renewal; else those of the review.
    pub(super) async fn within<T>(
        &self,
        renews: Option<&Arc<str>>,
        review: impl Future<Output = Result<T, EnrollRefusal>>,
    ) -> Result<T, EnrollRefusal> {
        let placed = async |places: &Semaphore| match timeout(PATIENCE, places.acquire()).await {
            Ok(Ok(_place)) => review.await,
            _ => Err(EnrollRefusal::Busy),
        };
        let Some(pod_uid) = renews else { return placed(&self.first).await };
        let renewal = self.renewing.open(pod_uid.clone());
        tokio::select! {
            // Whoever was replaced is told so, even if the review ended in that moment.
            biased;
            () = renewal.replaced() => Err(EnrollRefusal::Busy),
            reviewed = placed(&self.renewals) => reviewed,
        }
    }
}
