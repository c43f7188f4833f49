//! How often somebody may do something: many times at once, as after a rotation, and then a steady few.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use fapi::UnixTime;

/// How often: so many times at once, and so many in each second after that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) burst: u32,
    pub(crate) per_second: u32,
}

/// Clients that are counted at one time.
const CLIENTS: usize = 32_768;

/// What each client may still do. A client that was quiet for long enough is forgotten: it may do everything again.
#[derive(Debug)]
pub(crate) struct Limits {
    rate: Rate,
    clients: Mutex<HashMap<Box<str>, Allowance>>,
}

/// What one may still do.
#[derive(Debug)]
pub(crate) struct Allowance {
    rate: Rate,
    left: u32,
    at: UnixTime,
}

impl Limits {
    /// The same for each client.
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, clients: Mutex::default() }
    }

    /// Takes one of `client`; the error is the number of seconds to wait.
    pub(crate) fn take(&self, client: &str, now: UnixTime) -> Result<(), u64> {
        // Each allowance is changed in one step, so another holder's panic leaves good ones.
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(allowance) = clients.get_mut(client) {
            return allowance.take(now);
        }
        if clients.len() >= CLIENTS {
            clients.retain(|_, allowance| allowance.at(now) < self.rate.burst);
        }
        if clients.len() >= CLIENTS {
            return Err(WAIT);
        }
        let mut allowance = Allowance::new(self.rate, now);
        let taken = allowance.take(now);
        clients.insert(client.into(), allowance);
        taken
    }
}

impl Allowance {
    /// Everything.
    pub(crate) fn new(rate: Rate, now: UnixTime) -> Self {
        Self { rate, left: rate.burst, at: now }
    }

    /// Takes one; the error is the number of seconds to wait.
    pub(crate) fn take(&mut self, now: UnixTime) -> Result<(), u64> {
        (self.left, self.at) = (self.at(now).checked_sub(1).ok_or(WAIT)?, now);
        Ok(())
    }

    fn at(&self, now: UnixTime) -> u32 {
        let seconds = u32::try_from(now.since(self.at)).unwrap_or(u32::MAX);
        seconds.saturating_mul(self.rate.per_second).saturating_add(self.left).min(self.rate.burst)
    }
}

/// Seconds after which there is something again.
const WAIT: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::NOW;

    const RATE: Rate = Rate { burst: 256, per_second: 32 };

    /// How many pass before one is refused.
    fn pass(limits: &Limits, client: &str, now: UnixTime) -> usize {
        (0..1000).take_while(|_| limits.take(client, now).is_ok()).count()
    }

    #[test]
    fn many_at_once_and_then_a_steady_few() {
        let limits = Limits::new(RATE);
        assert_eq!(pass(&limits, "a", NOW), 256);
        assert_eq!(limits.take("a", NOW), Err(1));
        assert_eq!(pass(&limits, "b", NOW), 256, "each has its own");
        assert_eq!(pass(&limits, "a", NOW.plus(1)), 32);
        assert_eq!(pass(&limits, "a", NOW.plus(3)), 64);
        assert_eq!(pass(&limits, "a", NOW.plus(1_000_000_000)), 256, "no more than at first");
    }

    #[test]
    fn the_map_is_bounded_and_forgets_the_quiet() {
        let limits = Limits::new(RATE);
        for number in 0..CLIENTS {
            assert_eq!(limits.take(&number.to_string(), NOW), Ok(()));
        }
        assert_eq!(limits.take("one more", NOW), Err(1));
        assert_eq!(limits.take("7", NOW), Ok(()), "those that are known go on");
        assert_eq!(limits.take("one more", NOW.plus(1)), Ok(()));
        assert_eq!(limits.clients.lock().unwrap().len(), 1);
    }
}
