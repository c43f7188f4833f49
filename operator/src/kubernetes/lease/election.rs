//! The election, without API server and clock.

use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// How long a Lease lasts after its last renewal.
pub(super) const DURATION: Duration = Duration::from_secs(15);
/// What two clocks may differ in their pace over that time, and a write may still be on its way.
const SKEW: Duration = Duration::from_secs(3);

/// A Lease as it was found.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    /// Empty: nobody.
    pub(super) holder: String,
    pub(super) acquired: Option<MicroTime>,
    pub(super) renewed: Option<MicroTime>,
    pub(super) lasts: Duration,
    pub(super) transitions: i32,
    pub(super) version: String,
    /// Where the holder's control server is, if it says so.
    pub(super) control: Option<SocketAddr>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// There is no Lease.
    Create,
    /// It is ours.
    Renew(Record),
    /// It is nobody's any more.
    Take(Record),
    /// It is another's.
    Wait,
}

/// One candidate. Times are since some moment of this process.
#[derive(Debug)]
pub(super) struct Election {
    me: String,
    /// The Lease, and since when it stands like that.
    seen: Option<(Record, Duration)>,
    until: Option<Duration>,
}

impl Election {
    pub(super) fn new(me: &str) -> Self {
        Self { me: me.to_owned(), seen: None, until: None }
    }

    /// What to do about the Lease that was found at `now`.
    pub(super) fn step(&mut self, now: Duration, found: Option<&Record>) -> Step {
        let Some(found) = found else {
            self.until = None;
            return Step::Create;
        };
        if found.holder == self.me {
            return Step::Renew(found.clone());
        }
        self.until = None;
        let since = match &self.seen {
            Some((seen, since)) if seen == found => *since,
            _ => now,
        };
        self.seen = Some((found.clone(), since));
        if found.holder.is_empty() || now >= since + found.lasts { Step::Take(found.clone()) } else { Step::Wait }
    }

    /// The Lease was written, by a turn that began at `asked`.
    pub(super) fn won(&mut self, asked: Duration) {
        self.until = Some(asked + DURATION - SKEW);
    }

    /// We write no more.
    pub(super) fn ended(&mut self) {
        self.until = None;
    }

    /// Up to when we may write.
    pub(super) fn until(&self) -> Option<Duration> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn record(holder: &str, version: u32) -> Record {
        Record {
            holder: holder.to_owned(),
            acquired: None,
            renewed: None,
            lasts: DURATION,
            transitions: 0,
            version: version.to_string(),
            control: None,
        }
    }

    #[test]
    fn a_lease_that_changes_is_left_alone_and_one_that_does_not_is_taken() {
        let mut election = Election::new("me");
        assert_eq!(election.step(SECOND, None), Step::Create);
        for at in 1..10 {
            let renewed = record("other", at);
            assert_eq!(election.step(SECOND * at * 5, Some(&renewed)), Step::Wait);
        }
        let last = record("other", 9);
        assert_eq!(election.step(SECOND * 59, Some(&last)), Step::Wait);
        assert_eq!(election.step(SECOND * 60, Some(&last)), Step::Take(last));
    }

    #[test]
    fn one_that_was_let_go_is_taken_at_once() {
        let free = record("", 7);
        assert_eq!(Election::new("me").step(SECOND, Some(&free)), Step::Take(free));
    }

    #[test]
    fn it_counts_from_when_we_asked_and_ends_before_others_may_take_it() {
        let mut election = Election::new("me");
        election.won(SECOND * 10);
        assert_eq!(election.until(), Some(SECOND * 22));
        // Renewing has not worked yet: what we have goes on, and no longer.
        assert_eq!(election.step(SECOND * 14, Some(&record("me", 1))), Step::Renew(record("me", 1)));
        assert_eq!(election.until(), Some(SECOND * 22));
        // Another one has it, so we do not.
        assert_eq!(election.step(SECOND * 18, Some(&record("other", 2))), Step::Wait);
        assert_eq!(election.until(), None);
    }

    /// Three candidates of different pace, an API server that loses answers, and candidates that sleep at any moment.
    #[test]
    fn there_are_never_two() {
        let (mut held, mut seed) = (0, 7_u64);
        let mut dice = move |bound: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % bound
        };
        for _ in 0..50 {
            let mut lease: Option<Record> = None;
            let names = ["a", "b", "c"];
            let mut elections = names.map(Election::new);
            let mut wakes = [0_u64; 3];
            for now in 0..3000_u64 {
                let time = Duration::from_millis(now * 100);
                for (at, election) in elections.iter_mut().enumerate() {
                    if now < wakes[at] {
                        continue;
                    }
                    // Mostly four seconds; sometimes it is stopped for up to a minute.
                    wakes[at] = now + if dice(20) == 0 { dice(600) } else { 30 + dice(15) };
                    let found = lease.clone();
                    let record = match election.step(time, found.as_ref()) {
                        Step::Wait => continue,
                        Step::Create => record(names[at], 0),
                        Step::Renew(found) | Step::Take(found) => {
                            let next = found.version.parse::<u32>().unwrap() + 1;
                            record(names[at], next)
                        }
                    };
                    // A conflict: somebody wrote in between. Or the server does not answer.
                    if dice(10) == 0 {
                        continue;
                    }
                    lease = Some(record);
                    // Or it does it, and the answer is lost.
                    if dice(10) != 0 {
                        election.won(time);
                    }
                }
                let holders = elections.iter().filter(|election| election.until().is_some_and(|until| time < until));
                let count = holders.count();
                assert!(count <= 1, "two at {time:?}");
                held += count;
            }
        }
        assert!(held > 75_000, "somebody holds it most of the time: {held}");
    }
}
