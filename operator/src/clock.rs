//! The one place of the operator that reads the time.
//!
//! Time never goes backwards in one process: what has expired stays expired, whatever is done to the machine's clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fapi::UnixTime;

/// The time as this process sees it. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    follows_machine: bool,
    /// The latest time that anyone was told, in seconds.
    latest: AtomicU64,
}

impl Clock {
    /// The machine's clock.
    pub(crate) fn system() -> Self {
        Self(Arc::new(Inner { follows_machine: true, latest: AtomicU64::new(0) }))
    }

    /// A clock that moves only by [`Clock::advance`], for tests of what depends on time.
    #[cfg(test)]
    pub(crate) fn manual(now: UnixTime) -> Self {
        Self(Arc::new(Inner { follows_machine: false, latest: AtomicU64::new(now.as_secs()) }))
    }

    /// Moves a manual clock.
    #[cfg(test)]
    pub(crate) fn advance(&self, by: Duration) {
        self.0.latest.fetch_add(by.as_secs(), Ordering::Relaxed);
    }

    /// The time now; at least what any earlier call said.
    pub(crate) fn now(&self) -> UnixTime {
        let machine = if self.0.follows_machine { machine_seconds() } else { 0 };
        UnixTime::from_secs(self.0.latest.fetch_max(machine, Ordering::Relaxed).max(machine))
    }

    /// How long it is until `then`; zero once it has come.
    pub(crate) fn until(&self, then: UnixTime) -> Duration {
        Duration::from_secs(then.as_secs().saturating_sub(self.now().as_secs()))
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the module that may read the clock")]
fn machine_seconds() -> u64 {
    // A clock before 1970 reads as 0: everything is then not yet valid, so it denies.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_machine() {
        let clock = Clock::system();
        let first = clock.now();
        assert!(first.as_secs() > 1_700_000_000);
        assert!(clock.now().as_secs() >= first.as_secs());
    }

    #[test]
    fn never_goes_back() {
        let clock = Clock::system();
        let ahead = clock.now().plus(1_000);
        clock.0.latest.store(ahead.as_secs(), Ordering::Relaxed);
        assert_eq!(clock.now().as_secs(), ahead.as_secs());
        assert_eq!(clock.until(ahead.plus(5)), Duration::from_secs(5));
        assert_eq!(clock.until(ahead.minus(5)), Duration::ZERO);
    }
}
