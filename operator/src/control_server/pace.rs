//! How often a stream is told of revocations: the set travels as a whole, so many that come one after the other travel together.

use std::time::Duration;

use tokio::time::Instant;

/// The first is told at once; what comes within this time after it, at its end.
const PAUSE: Duration = Duration::from_secs(1);

/// When a stream was told last.
#[derive(Default)]
pub(super) struct Pace(Option<Instant>);

impl Pace {
    /// How long a change waits; `None`: it is told now.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let wait = self.0.map_or(Duration::ZERO, |told| (told + PAUSE).saturating_duration_since(now));
        (!wait.is_zero()).then_some(wait)
    }

    /// It was told.
    pub(super) fn told(&mut self, now: Instant) {
        self.0 = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_told_at_once_and_of_many_no_more_than_one_in_each_second() {
        let (mut pace, begin) = (Pace::default(), Instant::now());
        let (mut told, mut due) = (Vec::new(), None);
        for at in 0..20_000 {
            let now = begin + Duration::from_millis(at);
            // A change in each of the first five thousand milliseconds.
            if at < 5000 {
                due = due.or(Some(now + pace.wait(now).unwrap_or_default()));
            }
            if due.take_if(|due| *due <= now).is_some() {
                pace.told(now);
                told.push(at);
            }
        }
        assert_eq!(told, [0, 1000, 2000, 3000, 4000, 5000], "the last one too");
        assert_eq!(pace.wait(begin + Duration::from_secs(20)), None);
    }
}
