//! Sidecars that run newer snapshots than this operator makes: another one, which knew more, has told them.
//!
//! What is known of a kind of objects grows only with what happens to them, and what happened may come late. So a source of several
//! operators looks again when it hears of such a sidecar, and then knows at least as much.

use std::future::pending;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Looking again is work, and a sidecar may say anything.
const AT_MOST_EVERY: Duration = Duration::from_secs(30);

/// Where such sidecars are told of: when to look again. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Behind(watch::Sender<Option<Instant>>);

impl Behind {
    /// A sidecar runs a snapshot that no snapshot of ours may follow.
    pub(crate) fn tell(&self) {
        let now = Instant::now();
        self.0.send_if_modified(|look| {
            let next = match *look {
                // That will be soon enough for this sidecar too.
                Some(at) if at > now => return false,
                Some(at) => now.max(at + AT_MOST_EVERY),
                None => now,
            };
            *look = Some(next);
            true
        });
    }

    /// Whether a sidecar may be waiting for what is seen by looking again.
    pub(crate) fn is_awaited(&self) -> bool {
        self.0.borrow().is_some_and(|at| Instant::now() < at + AT_MOST_EVERY)
    }

    /// Whoever looks again when it is time.
    pub(crate) fn looks(&self) -> Looks {
        Looks { at: self.0.subscribe(), last: None }
    }
}

/// Somebody who looks again.
#[derive(Debug)]
pub(crate) struct Looks {
    at: watch::Receiver<Option<Instant>>,
    last: Option<Instant>,
}

impl Looks {
    /// Ends when it is time to look again. Nothing is lost if it is not awaited to its end.
    pub(crate) async fn due(&mut self) {
        loop {
            let at = *self.at.borrow_and_update();
            if let Some(at) = at.filter(|at| self.last != Some(*at)) {
                // What is due is so at once: a timer has its say only after whatever else is awaited.
                if Instant::now() < at {
                    sleep_until(at).await;
                }
                self.last = Some(at);
                return;
            }
            if self.at.changed().await.is_err() {
                pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_looks_again_does_so_now_and_then_and_forgets_nobody() {
        let (behind, began) = (Behind::default(), Instant::now());
        let mut looks = behind.looks();
        let elapsed = || Instant::now() - began;
        assert!(!behind.is_awaited());
        behind.tell();
        looks.due().await;
        assert_eq!(elapsed(), Duration::ZERO);
        assert!(behind.is_awaited());
        // Told too soon: it is for the next look, however often that is given up and begun again.
        behind.tell();
        behind.tell();
        assert!(tokio::time::timeout(AT_MOST_EVERY / 2, looks.due()).await.is_err());
        looks.due().await;
        assert_eq!(elapsed(), AT_MOST_EVERY);
        assert!(behind.is_awaited());
        assert!(tokio::time::timeout(10 * AT_MOST_EVERY, looks.due()).await.is_err(), "nobody told of more");
        assert!(!behind.is_awaited());
        behind.tell();
        looks.due().await;
        assert_eq!(elapsed(), 11 * AT_MOST_EVERY);
    }
}
