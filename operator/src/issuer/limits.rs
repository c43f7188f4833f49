//! How many requests a client may send: many at once, as after a rotation, and then a steady few.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use fapi::UnixTime;

/// Requests that may come at once. A sidecar with 64 targets asks for 64 tokens, each twice for want of a nonce.
pub(super) const BURST: u32 = 256;
/// Requests that may come in each second after that.
pub(super) const PER_SECOND: u32 = 32;
/// Clients that are counted at one time.
const CLIENTS: usize = 32_768;

/// What each client may still send. A client that was quiet for long enough is forgotten: it may send everything again.
#[derive(Debug)]
pub(super) struct Limits(Mutex<HashMap<Box<str>, Allowance>>);

#[derive(Debug)]
struct Allowance {
    left: u32,
    at: UnixTime,
}

impl Limits {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Takes one request of `client`; the error is the number of seconds to wait.
    pub(super) fn take(&self, client: &str, now: UnixTime) -> Result<(), u64> {
        // Each allowance is changed in one step, so another holder's panic leaves good ones.
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(allowance) = clients.get_mut(client) {
            let left = allowance.at(now).checked_sub(1).ok_or(WAIT)?;
            *allowance = Allowance { left, at: now };
            return Ok(());
        }
        if clients.len() >= CLIENTS {
            clients.retain(|_, allowance| allowance.at(now) < BURST);
        }
        if clients.len() >= CLIENTS {
            return Err(WAIT);
        }
        clients.insert(client.into(), Allowance { left: BURST - 1, at: now });
        Ok(())
    }
}

impl Allowance {
    fn at(&self, now: UnixTime) -> u32 {
        let seconds = u32::try_from(now.since(self.at)).unwrap_or(u32::MAX);
        seconds.saturating_mul(PER_SECOND).saturating_add(self.left).min(BURST)
    }
}

/// Seconds after which there is something again.
const WAIT: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::NOW;

    /// How many requests pass before one is refused.
    fn pass(limits: &Limits, client: &str, now: UnixTime) -> usize {
        (0..1000).take_while(|_| limits.take(client, now).is_ok()).count()
    }

    #[test]
    fn many_at_once_and_then_a_steady_few() {
        let limits = Limits::new();
        assert_eq!(pass(&limits, "a", NOW), 256);
        assert_eq!(limits.take("a", NOW), Err(1));
        assert_eq!(pass(&limits, "b", NOW), 256, "each has its own");
        assert_eq!(pass(&limits, "a", NOW.plus(1)), 32);
        assert_eq!(pass(&limits, "a", NOW.plus(3)), 64);
        assert_eq!(pass(&limits, "a", NOW.plus(1_000_000_000)), 256, "no more than at first");
    }

    #[test]
    fn the_map_is_bounded_and_forgets_the_quiet() {
        let limits = Limits::new();
        for number in 0..CLIENTS {
            assert_eq!(limits.take(&number.to_string(), NOW), Ok(()));
        }
        assert_eq!(limits.take("one more", NOW), Err(1));
        assert_eq!(limits.take("7", NOW), Ok(()), "those that are known go on");
        assert_eq!(limits.take("one more", NOW.plus(1)), Ok(()));
        assert_eq!(limits.0.lock().unwrap().len(), 1);
    }
}
