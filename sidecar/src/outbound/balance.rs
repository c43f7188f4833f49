//! Which endpoint takes a call: the better of two at random, by calls in flight and recent latency.

use std::{cell::Cell, rc::Rc, time::Duration};

use tokio::time::Instant;

use super::peer::Peer;
use crate::clock::monotonic;

/// Weight of the newest latency. Small enough that one slow answer does not starve an endpoint.
const NEWEST: f32 = 0.2;
/// Latency that is assumed before the first answer, and the least that counts: below it all endpoints are equal.
const FLOOR_MICROS: f32 = 500.0;
/// What a failed connection counts as.
const FAILED_MICROS: f32 = 1_000_000.0;
/// An observation counts half after this time: an endpoint that is avoided must be tried again.
const HALF_LIFE: Duration = Duration::from_secs(1);

/// How busy and how slow an endpoint is, as this worker sees it.
#[derive(Debug)]
pub(super) struct Load {
    in_flight: Cell<u32>,
    latency_micros: Cell<f32>,
    observed: Cell<Instant>,
}

impl Default for Load {
    fn default() -> Self {
        Self { in_flight: Cell::new(0), latency_micros: Cell::new(0.0), observed: Cell::new(monotonic()) }
    }
}

impl Load {
    pub(super) fn begin(&self) {
        self.in_flight.set(self.in_flight.get().saturating_add(1));
    }

    pub(super) fn end(&self) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
    }

    /// Notes how long a response took to begin.
    pub(super) fn answered(&self, begun: Instant) {
        let now = monotonic();
        let micros = now.duration_since(begun).as_secs_f32() * 1e6;
        self.observe(self.latency(now) * (1.0 - NEWEST) + micros * NEWEST, now);
    }

    /// Notes that no connection could be made: others are tried first for a while.
    pub(super) fn failed(&self) {
        self.observe(FAILED_MICROS, monotonic());
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.get() == 0
    }

    fn observe(&self, micros: f32, now: Instant) {
        self.latency_micros.set(micros);
        self.observed.set(now);
    }

    fn latency(&self, now: Instant) -> f32 {
        let half_lives = now.duration_since(self.observed.get()).as_secs_f32() / HALF_LIFE.as_secs_f32();
        self.latency_micros.get() * (-half_lives).exp2()
    }

    #[expect(clippy::cast_precision_loss, reason = "a comparison, no count")]
    fn cost(&self, now: Instant) -> f32 {
        (self.in_flight.get() + 1) as f32 * self.latency(now).max(FLOOR_MICROS)
    }
}

/// The endpoint for the next call; not `except` if there is another. `None` when there is none at all.
pub(super) fn pick<'a>(peers: &'a [Rc<Peer>], random: u64, except: Option<&Rc<Peer>>) -> Option<&'a Rc<Peer>> {
    match peers {
        [] => None,
        [only] => Some(only),
        [..] => {
            let (first, second) = two(peers.len(), random);
            let (first, second) = (peers.get(first)?, peers.get(second)?);
            let is_excepted = |peer| except.is_some_and(|except| Rc::ptr_eq(except, peer));
            let now = monotonic();
            let first_is_better = first.load.cost(now) <= second.load.cost(now);
            Some(if is_excepted(second) || (first_is_better && !is_excepted(first)) { first } else { second })
        }
    }
}

/// Two different places below `len`, which is at least 2.
fn two(len: usize, random: u64) -> (usize, usize) {
    let len = len as u64;
    let first = (random >> 32) % len;
    let step = 1 + (random & 0xffff_ffff) % (len - 1);
    let index = |at: u64| usize::try_from(at).unwrap_or(0);
    (index(first), index((first + step) % len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_places_are_different_and_in_range() {
        for len in 2..40 {
            for random in [0, 1, u64::MAX, 0x1234_5678_9abc_def0, 0xffff_ffff_0000_0000] {
                let (first, second) = two(len, random);
                assert!(first < len && second < len && first != second, "{len} {random:x}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_or_failed_endpoint_costs_more_and_recovers() {
        let (idle, busy) = (Load::default(), Load::default());
        busy.begin();
        assert!(idle.cost(monotonic()) < busy.cost(monotonic()));
        busy.end();
        assert!(idle.cost(monotonic()) >= busy.cost(monotonic()) && busy.is_idle());
        idle.failed();
        assert!(idle.cost(monotonic()) > 100.0 * busy.cost(monotonic()));
        tokio::time::advance(20 * HALF_LIFE).await;
        assert!(idle.cost(monotonic()) <= busy.cost(monotonic()));
    }
}
