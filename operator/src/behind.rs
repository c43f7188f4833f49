//! Sidecars that run newer snapshots than this operator makes: another one, which knew more, has told them.
//!
//! The order of snapshots is made of the versions of all kinds, and that of a kind which does not change for long is old. So a
//! source of several operators looks again when it hears of such a sidecar, and then knows at least as much.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Looking again is work, and a sidecar may say anything.
const AT_MOST_EVERY: Duration = Duration::from_secs(30);

/// Where such sidecars are told of. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Behind(watch::Sender<Option<(Instant, u64)>>);

impl Behind {
    /// A sidecar runs a snapshot of this order, and we have none that is as new.
    pub(crate) fn tell(&self, order: u64) {
        self.tell_at(Instant::now(), order);
    }

    fn tell_at(&self, now: Instant, order: u64) {
        self.0.send_if_modified(|last| {
            let due = last.is_none_or(|(at, _)| now >= at + AT_MOST_EVERY);
            if due {
                *last = Some((now, order));
            }
            due
        });
    }

    /// The order that was told last.
    pub(crate) fn order(&self) -> Option<u64> {
        self.0.borrow().map(|(_, order)| order)
    }

    /// Tells that it is time to look again.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<(Instant, u64)>> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_looks_again_does_so_now_and_then() {
        let (behind, now) = (Behind::default(), Instant::now());
        let mut looks = behind.subscribe();
        behind.tell_at(now, 7);
        assert!(looks.has_changed().is_ok_and(|changed| changed));
        looks.mark_unchanged();
        behind.tell_at(now + AT_MOST_EVERY / 2, 8);
        assert!(looks.has_changed().is_ok_and(|changed| !changed));
        assert_eq!(behind.order(), Some(7));
        behind.tell_at(now + AT_MOST_EVERY, 9);
        assert!(looks.has_changed().is_ok_and(|changed| changed));
        assert_eq!(behind.order(), Some(9));
    }
}
