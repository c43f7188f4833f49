//! The one clock of the process.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fapi::UnixTime;
use tokio::time::Instant;

/// Wall-clock time that never goes backwards: when the system clock is set back, time stands still until it is caught up.
/// So nothing that was refused as expired comes alive again.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    latest_millis: AtomicU64,
    /// Where a test has set it, if it is not 0.
    #[cfg(test)]
    set_millis: AtomicU64,
}

impl Clock {
    /// Seconds since the epoch.
    pub(crate) fn now(&self) -> UnixTime {
        UnixTime::from_secs(self.now_millis() / 1000)
    }

    /// Milliseconds since the epoch.
    pub(crate) fn now_millis(&self) -> u64 {
        let read = self.read_millis();
        self.latest_millis.fetch_max(read, Ordering::Relaxed).max(read)
    }

    #[cfg(not(test))]
    fn read_millis(&self) -> u64 {
        system_millis()
    }

    #[cfg(test)]
    fn read_millis(&self) -> u64 {
        match self.set_millis.load(Ordering::Relaxed) {
            0 => system_millis(),
            set => set,
        }
    }

    /// Stands still at `then` from now on, unless it has been later already.
    #[cfg(test)]
    pub(crate) fn set(&self, then: UnixTime) {
        self.set_millis.store(then.as_secs() * 1000, Ordering::Relaxed);
    }

    /// How long from now until `then`; zero when it has passed.
    pub(crate) fn until(&self, then: UnixTime) -> Duration {
        Duration::from_millis((then.as_secs().saturating_mul(1000)).saturating_sub(self.now_millis()))
    }

    /// The point on the timer's clock at which the wall clock shows `then`.
    pub(crate) fn deadline(&self, then: UnixTime) -> Instant {
        // A certificate of decades must not overflow the timer.
        monotonic() + self.until(then).min(Duration::from_secs(30 * 365 * 24 * 3600))
    }
}

/// Now, on the clock of timers: unaffected by settings of the system clock.
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the system clock")]
fn system_millis() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
