#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

use fapi::{Issuer, Revoked, UnixTime};

use super::*;
use crate::kubernetes::{Desk, Loss, Secret, secret};
use crate::testing::cluster::Cluster;
use crate::testing::mesh::SOON;
use crate::testing::{NOW, TempDir, id};

fn open(dir: &TempDir, clock: &Clock) -> Result<Revocations, RevocationsError> {
    Revocations::open(
        Shelf::Folder(dir.path().to_owned()),
        !dir.path().join("revocations.json").exists(),
        clock.clone(),
    )
}

fn pod(uid: &str, expires: UnixTime) -> Revocation {
    Revocation::new(Revoked::Pod(uid.into()), None, expires).unwrap()
}

fn hit(revocations: &Revocations, uid: &str) -> bool {
    let now = revocations.clock.now();
    revocations.in_force().set.hit_workload(&id("shop"), Some(uid), now, now)
}

#[test]
fn what_is_revoked_is_on_disk_and_comes_back() {
    let (dir, clock) = (TempDir::new(), Clock::manual(NOW));
    let first = open(&dir, &clock).unwrap();
    let mut told = first.subscribe();
    first.revoke([pod("one", NOW.plus(100))]).unwrap();
    assert!(told.has_changed().unwrap());
    assert!(hit(&first, "one") && !hit(&first, "two"));
    let before = told.borrow_and_update().clone();
    let again = open(&dir, &clock).unwrap();
    assert!(hit(&again, "one"));
    let after = again.in_force();
    assert_eq!((after.epoch, &after.digest, &after.document), (before.epoch, &before.digest, &before.document));
}

#[test]
fn the_epoch_grows_with_every_change_and_with_no_other() {
    let (dir, clock) = (TempDir::new(), Clock::manual(NOW));
    let revocations = open(&dir, &clock).unwrap();
    let epoch = || revocations.in_force().epoch;
    let first = epoch();
    revocations.revoke([pod("one", NOW.plus(100))]).unwrap();
    let second = epoch();
    revocations.revoke([pod("two", NOW.plus(100))]).unwrap();
    assert!(first < second && second < epoch());
    let third = epoch();
    revocations.revoke([pod("one", NOW.plus(100)), pod("over", NOW)]).unwrap();
    assert_eq!(epoch(), third, "known, and over");
    // A lost file does not bring an old epoch again.
    std::fs::remove_file(dir.path().join("revocations.json")).unwrap();
    clock.advance(Duration::from_secs(60));
    assert!(open(&dir, &clock).unwrap().in_force().epoch > third);
}

#[test]
fn entries_leave_at_their_ends() {
    let (dir, clock) = (TempDir::new(), Clock::manual(NOW));
    let revocations = open(&dir, &clock).unwrap();
    revocations.revoke([pod("one", NOW.plus(100)), pod("two", NOW.plus(200))]).unwrap();
    clock.advance(Duration::from_secs(100));
    assert!(!hit(&revocations, "one") && hit(&revocations, "two"));
    revocations.revoke([pod("three", NOW.plus(200))]).unwrap();
    assert_eq!(revocations.in_force().set.len(), 2, "one has left");
    let again = open(&dir, &clock).unwrap();
    assert!(hit(&again, "two") && hit(&again, "three"));
}

#[test]
fn what_cannot_be_kept_is_not_in_force() {
    let (dir, clock) = (TempDir::new(), Clock::manual(NOW));
    let mut revocations = open(&dir, &clock).unwrap();
    revocations.shelf = Shelf::Folder(dir.path().join("no such folder"));
    let error = revocations.revoke([pod("one", NOW.plus(100))]).unwrap_err();
    assert!(matches!(error, RevocationsError::File(_)), "{error}");
    assert!(!hit(&revocations, "one"));
    revocations.shelf = Shelf::Folder(dir.path().to_owned());
    revocations.revoke([pod("one", NOW.plus(100))]).unwrap();
    assert!(hit(&revocations, "one"), "tried again");
}

#[test]
fn a_torn_or_changed_file_is_refused() {
    let (dir, clock) = (TempDir::new(), Clock::manual(NOW));
    open(&dir, &clock).unwrap().revoke([pod("one", NOW.plus(100))]).unwrap();
    let path = dir.path().join("revocations.json");
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(matches!(open(&dir, &clock), Err(RevocationsError::Damaged { .. })), "{length}");
    }
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        std::fs::write(&path, &changed).unwrap();
        assert!(matches!(open(&dir, &clock), Err(RevocationsError::Damaged { .. })), "{at}");
    }
    std::fs::write(&path, &whole).unwrap();
    assert!(hit(&open(&dir, &clock).unwrap(), "one"));
}

#[test]
fn tokens_leave_room_for_what_people_revoke() {
    let (dir, clock) = (TempDir::new(), Clock::manual(NOW));
    let revocations = open(&dir, &clock).unwrap();
    let issuer = Issuer::parse("https://127.0.0.1:1").unwrap();
    let token = |at: usize| {
        let id = format!("{at:0512}").into();
        Revocation::new(Revoked::Token { issuer: issuer.clone(), id }, None, NOW.plus(100)).unwrap()
    };
    let by_client = |tokens: std::ops::Range<usize>| Change {
        add: tokens.map(token).collect(),
        instead: Vec::new(),
        by_client: true,
    };
    revocations.make(&by_client(0..3500)).unwrap();
    let error = revocations.make(&by_client(3500..5000)).unwrap_err();
    assert!(matches!(error, RevocationsError::Full), "{error}");
    assert_eq!(revocations.in_force().set.len(), 3500, "all or none");
    revocations.revoke([pod("one", NOW.plus(100))]).unwrap();
    assert!(hit(&revocations, "one"));
}

#[tokio::test]
async fn what_another_replica_revokes_is_found_though_nobody_tells_of_it() {
    let (cluster, clock) = (Cluster::default(), Clock::manual(NOW));
    let open = async || {
        let cluster = cluster.clone();
        let desk = Desk::open("fapi-mesh", move || async move { Ok(cluster.client()) }).await.unwrap();
        let shelf = Shelf::Secret(Secret::new(desk, secret::REVOCATIONS, Loss::Missing));
        Revocations::open(shelf, false, clock.clone()).unwrap()
    };
    let (other, mut own) = (open().await, open().await);
    own.look = Duration::from_millis(10);
    let (own, shutdown, desired) = (Arc::new(own), watch::Sender::new(false), watch::Sender::default());
    let following = tokio::spawn(own.clone().follow(desired.subscribe(), Changes::none(), shutdown.subscribe()));
    let mut told = own.subscribe();
    for (uid, all) in [("one", 1), ("two", 2)] {
        other.revoke([pod(uid, NOW.plus(100))]).unwrap();
        let found = told.wait_for(|in_force| in_force.set.len() == all);
        assert!(tokio::time::timeout(SOON, found).await.is_ok(), "{uid}");
    }
    shutdown.send_replace(true);
    following.await.unwrap();
}
