//! How long to wait before trying again.

use std::time::Duration;

use crate::random;

/// The first wait. Short: at start and after a rotation a peer is usually there within milliseconds.
const FIRST: Duration = Duration::from_millis(50);
/// The longest wait: an operator that comes back serves its sidecars within seconds.
const LONGEST: Duration = Duration::from_secs(5);

/// Waits that double from 50 ms to 5 s, each between half and all of its length so that sidecars do not come in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST, longest: LONGEST }
    }

    /// For servers that are not ours, and that every sidecar asks: waits up to a minute.
    pub(crate) fn patient() -> Self {
        Self { next: FIRST, longest: Duration::from_secs(60) }
    }

    /// Forgets the failures: the next wait is the first again.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// The wait before the next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.longest);
        random::between(whole / 2, whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_start_again_after_a_success() {
        let mut backoff = Backoff::new();
        let mut whole = FIRST;
        for _ in 0..12 {
            let wait = backoff.next();
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
            whole = (whole * 2).min(LONGEST);
        }
        assert_eq!(whole, LONGEST);
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
