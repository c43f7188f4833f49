//! Every interleaving of a few threads at one set, by loom: `make loom`.

use loom::{sync::Arc, thread};

use super::*;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn caller(name: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://bank.example/ns/bank/sa/{name}")).unwrap()
}

/// Keys of one shard, so that threads meet.
fn key(last: u8) -> [u8; 16] {
    let mut key = [0; 16];
    key[15] = last;
    key
}

/// What becomes of these proofs, each brought by a thread of its own; the first by this one.
fn at_once(set: ReplaySet, proofs: &[(&str, u8)]) -> (Vec<Result<(), Rejection>>, usize) {
    let set = Arc::new(set);
    let ((name, last), others) = proofs.split_first().unwrap();
    let others: Vec<_> = others
        .iter()
        .map(|(name, last)| {
            let (set, name, key) = (set.clone(), caller(name), key(*last));
            thread::spawn(move || set.reserve(&name, key, NOW))
        })
        .collect();
    let mut told = vec![set.reserve(&caller(name), key(*last), NOW)];
    told.extend(others.into_iter().map(|other| other.join().unwrap()));
    (told, set.remembered())
}

fn count(told: &[Result<(), Rejection>], what: Result<(), Rejection>) -> usize {
    told.iter().filter(|one| **one == what).count()
}

#[test]
fn of_threads_with_one_proof_exactly_one_wins() {
    loom::model(|| {
        let (told, held) = at_once(ReplaySet::new(1600, 1600), &[("shop", 1), ("shop", 1), ("ledger", 1)]);
        assert_eq!((count(&told, Ok(())), count(&told, Err(Rejection::ProofReplayed)), held), (1, 2, 1));
    });
}

#[test]
fn the_last_place_is_given_once() {
    loom::model(|| {
        // One place in each shard.
        let (told, held) = at_once(ReplaySet::new(SHARDS, SHARDS), &[("shop", 1), ("ledger", 2), ("web", 3)]);
        assert_eq!((count(&told, Ok(())), count(&told, Err(Rejection::ReplayStoreFull)), held), (1, 2, 1));
    });
}

#[test]
fn the_quota_of_a_caller_holds_and_is_nobody_elses() {
    loom::model(|| {
        let (told, held) = at_once(ReplaySet::new(1600, SHARDS), &[("shop", 1), ("shop", 2), ("ledger", 3)]);
        assert_eq!((count(&told, Ok(())), count(&told, Err(Rejection::ReplayStoreFull)), held), (2, 1, 2));
        assert_eq!(told[2], Ok(()));
    });
}

#[test]
fn what_is_forgotten_makes_room_for_one() {
    loom::model(|| {
        let set = ReplaySet::new(SHARDS, SHARDS);
        let long_ago = UnixTime::from_secs(NOW.as_secs() - 151);
        set.reserve(&caller("shop"), key(1), long_ago).unwrap();
        let (told, held) = at_once(set, &[("shop", 1), ("ledger", 2)]);
        assert_eq!((count(&told, Ok(())), count(&told, Err(Rejection::ReplayStoreFull)), held), (1, 1, 1));
    });
}
