//! Waiting for a condition, always with a deadline.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(15);

/// Asks `condition` until it answers `Some`, at most for `limit`; `None` when that time is over.
/// The condition is asked at least once, and once more at the very end.
pub(crate) async fn until<T>(limit: Duration, mut condition: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        let late = Instant::now() >= end;
        if let Some(value) = condition().await {
            return Some(value);
        }
        if late {
            return None;
        }
        sleep(STEP).await;
    }
}
