use std::collections::{HashMap, HashSet};
#[cfg(not(all(loom, test)))]
use std::sync::Mutex;

#[cfg(all(loom, test))]
use loom::sync::Mutex;

use crate::{
    rejection::Rejection,
    value::{SpiffeId, UnixTime},
};

/// The proofs seen by this process, remembered for longer than they are accepted (RFC 9449 section 11.1).
///
/// A proof is good until 60 seconds after an `iat` that may lie 10 seconds ahead; it is remembered for 100 to 120. Room is
/// divided evenly among 16 shards by a hash that callers cannot aim, so a refusal may come a little before the last place
/// is taken. A full set refuses: nothing is ever forgotten to make room.
pub struct ReplaySet {
    shards: [Mutex<Shard>; SHARDS],
    capacity: usize,
    per_caller: usize,
}

/// Buckets of proofs by time of arrival; the oldest are dropped whole.
#[derive(Default)]
struct Shard([Bucket; BUCKETS]);

#[derive(Default)]
struct Bucket {
    /// Which stretch of [`BUCKET_SECS`] since the epoch it holds.
    period: u64,
    seen: HashSet<[u8; 16]>,
    callers: HashMap<SpiffeId, usize>,
}

impl ReplaySet {
    /// A set for at most `capacity` proofs, of which one caller may hold `per_caller`. Memory is taken as proofs come:
    /// about 40 bytes each.
    #[must_use]
    pub fn new(capacity: usize, per_caller: usize) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            capacity: capacity.div_ceil(SHARDS),
            per_caller: per_caller.div_ceil(SHARDS),
        }
    }

    /// How many proofs are remembered, for metrics.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().map_or(0, |shard| shard.remembered())).sum()
    }

    /// Remembers a proof that passed every other check; a step that cannot be seen half done.
    pub(crate) fn reserve(&self, caller: &SpiffeId, key: [u8; 16], now: UnixTime) -> Result<(), Rejection> {
        let [first, ..] = key;
        let shard = self.shards.get(usize::from(first) % SHARDS).ok_or(Rejection::ReplayStoreFull)?;
        // A thread that died with the lock held may have left half a step behind: then nothing is certain any more.
        let mut shard = shard.lock().map_err(|_| Rejection::ReplayStoreFull)?;
        shard.reserve(caller, key, now.as_secs() / BUCKET_SECS, self.capacity, self.per_caller)
    }
}

impl std::fmt::Debug for ReplaySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplaySet").finish_non_exhaustive()
    }
}

impl Shard {
    fn remembered(&self) -> usize {
        self.0.iter().map(|bucket| bucket.seen.len()).sum()
    }

    fn reserve(
        &mut self,
        caller: &SpiffeId,
        key: [u8; 16],
        period: u64,
        capacity: usize,
        per_caller: usize,
    ) -> Result<(), Rejection> {
        for bucket in &mut self.0 {
            if !bucket.seen.is_empty() && bucket.period + KEPT_PERIODS < period {
                *bucket = Bucket::default();
            }
        }
        if self.0.iter().any(|bucket| bucket.seen.contains(&key)) {
            return Err(Rejection::ProofReplayed);
        }
        let of_caller: usize = self.0.iter().filter_map(|bucket| bucket.callers.get(caller)).sum();
        if self.remembered() >= capacity || of_caller >= per_caller {
            return Err(Rejection::ReplayStoreFull);
        }
        let bucket = self.bucket(period).ok_or(Rejection::ReplayStoreFull)?;
        bucket.seen.insert(key);
        *bucket.callers.entry(caller.clone()).or_default() += 1;
        Ok(())
    }

    /// The bucket of this period, or a free one.
    fn bucket(&mut self, period: u64) -> Option<&mut Bucket> {
        let place = self.0.iter().position(|bucket| bucket.period == period && !bucket.seen.is_empty());
        let place = place.or_else(|| self.0.iter().position(|bucket| bucket.seen.is_empty()))?;
        let bucket = self.0.get_mut(place)?;
        bucket.period = period;
        Some(bucket)
    }
}

/// Threads of a model have small stacks.
const SHARDS: usize = if cfg!(all(loom, test)) { 2 } else { 16 };
const BUCKET_SECS: u64 = 20;
/// A bucket is kept until five whole periods have passed after its own, that is for at least 100 seconds.
const KEPT_PERIODS: u64 = 5;
/// The period that is being filled and those that are kept.
const BUCKETS: usize = 6;

#[cfg(all(loom, test))]
mod models;

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    fn caller(name: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://bank.example/ns/bank/sa/{name}")).unwrap()
    }

    fn at(secs: u64) -> UnixTime {
        UnixTime::from_secs(1_800_000_000 + secs)
    }

    #[test]
    fn a_proof_counts_once_for_as_long_as_it_could_be_accepted() {
        let (set, shop) = (ReplaySet::new(1000, 1000), caller("shop"));
        for start in 0..50 {
            let key = [start; 16];
            let start = u64::from(start) * 1000 + u64::from(start);
            assert_eq!(set.reserve(&shop, key, at(start)), Ok(()));
            for later in 0..=100 {
                assert_eq!(set.reserve(&shop, key, at(start + later)), Err(Rejection::ProofReplayed));
            }
            assert_eq!(set.reserve(&caller("other"), key, at(start + 100)), Err(Rejection::ProofReplayed));
            assert_eq!(set.reserve(&shop, key, at(start + 120)), Ok(()), "room is freed");
        }
    }

    #[test]
    fn a_full_set_refuses_and_heals() {
        let set = ReplaySet::new(32, 1000);
        let key = |last| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        for last in 0..2 {
            assert_eq!(set.reserve(&caller("shop"), key(last), at(0)), Ok(()));
        }
        assert_eq!(set.reserve(&caller("shop"), key(2), at(0)), Err(Rejection::ReplayStoreFull));
        assert_eq!(set.reserve(&caller("shop"), key(0), at(0)), Err(Rejection::ProofReplayed));
        assert_eq!(set.remembered(), 2);
        assert_eq!(set.reserve(&caller("shop"), key(2), at(150)), Ok(()));
        assert_eq!(set.remembered(), 1);
    }

    #[test]
    fn each_proof_is_forgotten_at_its_own_time() {
        let set = ReplaySet::new(32, 1000);
        let key = |last| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        assert_eq!(set.reserve(&caller("shop"), key(0), at(0)), Ok(()));
        assert_eq!(set.reserve(&caller("shop"), key(1), at(60)), Ok(()));
        assert_eq!(set.reserve(&caller("shop"), key(2), at(150)), Ok(()), "the first one's room is free");
        assert_eq!(set.reserve(&caller("shop"), key(3), at(150)), Err(Rejection::ReplayStoreFull));
    }

    #[test]
    fn one_caller_cannot_take_the_room_of_another() {
        let set = ReplaySet::new(1600, 16);
        assert_eq!(set.reserve(&caller("shop"), [0; 16], at(0)), Ok(()));
        let mut next = [0; 16];
        next[15] = 1;
        assert_eq!(set.reserve(&caller("shop"), next, at(0)), Err(Rejection::ReplayStoreFull));
        assert_eq!(set.reserve(&caller("ledger"), next, at(0)), Ok(()));
    }

    #[test]
    fn of_many_threads_with_one_proof_exactly_one_wins() {
        let set = ReplaySet::new(1000, 1000);
        for round in 0..100 {
            let wins = std::thread::scope(|scope| {
                let tries: Vec<_> =
                    (0..4).map(|_| scope.spawn(|| set.reserve(&caller("shop"), [round; 16], at(0)).is_ok())).collect();
                tries.into_iter().map(|one| one.join().unwrap()).filter(|won| *won).count()
            });
            assert_eq!(wins, 1);
        }
    }
}
