//! How long to rest before something that failed is tried again.

use std::time::Duration;

use tokio::time::sleep;

use crate::crypto;

/// Rests that double from the shortest to the longest, each between half and all of its length, so that kinds and replicas do not come
/// back together.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    shortest: Duration,
    longest: Duration,
}

impl Backoff {
    pub(crate) fn new(shortest: Duration, longest: Duration) -> Self {
        Self { next: shortest, shortest, longest }
    }

    /// Forgets the failures: the next rest is the shortest again.
    pub(crate) fn reset(&mut self) {
        self.next = self.shortest;
    }

    /// Rests. Who does not await the end rests longer the next time all the same.
    pub(crate) async fn rest(&mut self) {
        let whole = self.next;
        self.next = (whole * 2).min(self.longest);
        sleep(crypto::between(whole / 2, whole)).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rests_grow_up_to_the_longest_and_are_short_after_a_success() {
        let (shortest, longest) = (Duration::from_millis(500), Duration::from_secs(30));
        // A timer ends at the next millisecond.
        let tick = Duration::from_millis(1);
        let mut backoff = Backoff::new(shortest, longest);
        let mut at_most = shortest;
        for _ in 0..10 {
            let began = Instant::now();
            backoff.rest().await;
            let rest = began.elapsed();
            assert!((at_most / 2..=at_most + tick).contains(&rest), "{rest:?} of {at_most:?}");
            at_most = (at_most * 2).min(longest);
        }
        assert_eq!(at_most, longest);
        backoff.reset();
        let began = Instant::now();
        backoff.rest().await;
        assert!(began.elapsed() <= shortest + tick);
    }
}
