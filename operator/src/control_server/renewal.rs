//! When each of many sidecars is asked for a new certificate: not all in one moment, as each also gets new tokens with it.

use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// How much longer each sidecar makes it until all are asked: the authority and the issuer need less for one.
const EACH: Duration = Duration::from_millis(5);
/// How long it takes at most, however many there are.
const LONGEST: Duration = Duration::from_secs(30);

/// How long to wait before asking one of so many sidecars; all values of `random` spread them evenly.
pub(super) fn delay(sidecars: usize, random: [u8; 2]) -> Duration {
    let all = EACH.saturating_mul(u32::try_from(sidecars).unwrap_or(u32::MAX)).min(LONGEST);
    all * u32::from(u16::from_be_bytes(random)) / (u32::from(u16::MAX) + 1)
}

/// A request that is made soon, if there is one.
#[derive(Default)]
pub(super) struct Soon(Option<Pin<Box<Sleep>>>);

impl Soon {
    /// Makes one after this time. One that is due already stays as it is.
    pub(super) fn after(&mut self, delay: Duration) {
        self.0.get_or_insert_with(|| Box::pin(sleep(delay)));
    }

    /// Returns when it is time, once for each request.
    pub(super) async fn come(&mut self) {
        match &mut self.0 {
            Some(time) => time.as_mut().await,
            None => pending().await,
        }
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::testing::mesh::SOON;

    #[test]
    fn sidecars_are_asked_one_after_the_other_in_a_time_that_grows_with_them_to_a_bound() {
        for (sidecars, all) in [(0, 0), (1, 5), (4, 20), (2_000, 10_000), (20_000, 30_000), (usize::MAX, 30_000)] {
            let all = Duration::from_millis(all);
            assert_eq!(delay(sidecars, [0, 0]), Duration::ZERO);
            assert_eq!(delay(sidecars, [128, 0]), all / 2, "{sidecars}");
            let last = delay(sidecars, [255, 255]);
            assert!(last <= all && last >= all.mul_f64(0.999), "{sidecars}: {last:?}");
        }
    }

    #[tokio::test]
    async fn a_second_request_does_not_put_off_the_first_and_each_comes_once() {
        let mut soon = Soon::default();
        let now = Duration::ZERO;
        assert!(timeout(now, soon.come()).await.is_err(), "nobody has asked");
        soon.after(now);
        soon.after(Duration::from_secs(3600));
        assert!(timeout(SOON, soon.come()).await.is_ok());
        assert!(timeout(now, soon.come()).await.is_err());
        soon.after(now);
        assert!(timeout(SOON, soon.come()).await.is_ok());
    }
}
