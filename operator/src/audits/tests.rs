use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::testing::mesh::SOON;
use crate::testing::{NOW, domain};

/// Counts of a policy, each a reason, a caller and a number.
pub(crate) fn told(policy: &str, since: UnixTime, lines: &[(&str, &str, u64)]) -> pb::WouldRefuse {
    let line = |&(reason, caller, count): &(&str, &str, u64)| pb::RefusedCaller {
        reason: reason.to_owned(),
        caller: caller.to_owned(),
        count,
    };
    pb::WouldRefuse { policy: policy.to_owned(), since: since.as_secs(), callers: lines.iter().map(line).collect() }
}

/// As [`told`], and read.
pub(crate) fn counted(policy: &str, since: UnixTime, lines: &[(&str, &str, u64)]) -> Counted {
    Counted::read(told(policy, since, lines), &domain(), since).unwrap()
}

fn once(count: u64) -> Counted {
    counted("bank/p", NOW, &[("token_missing", "web/checkout", count)])
}

fn totals(audits: &Audits, uid: &str) -> Vec<u64> {
    audits.all().get(uid).into_iter().flatten().map(|(_, counted)| counted.newness().1).collect()
}

#[test]
fn only_what_a_sidecar_would_tell_is_read() {
    let read = |lines: &[(&str, &str, u64)]| Counted::read(told("bank/p", NOW, lines), &domain(), NOW).is_ok();
    assert!(read(&[("token_missing", "web/checkout", 1), ("of_a_newer_one", "other", u64::MAX)]));
    assert!(read(&[]));
    for (reason, caller) in [
        ("", "web/checkout"),
        ("Token", "web/checkout"),
        ("token\nmissing", "web/checkout"),
        (&*"r".repeat(65), "web/checkout"),
        ("r", ""),
        ("r", "others"),
        ("r", "web/checkout/x"),
        ("r", "Web/checkout"),
        ("r", &*format!("web/{}", "a".repeat(254))),
    ] {
        assert!(!read(&[(reason, caller, 1)]), "{reason} {caller}");
    }
    assert!(!read(&vec![("r", "web/checkout", 1); MAX_CALLERS + 1]));
    for policy in [String::new(), "p".repeat(MAX_POLICY + 1)] {
        assert_eq!(Counted::read(told(&policy, NOW, &[]), &domain(), NOW), Err(NotCounts));
    }
    let ahead = Counted::read(told("bank/p", NOW.plus(100), &[]), &domain(), NOW).unwrap();
    assert_eq!(ahead.since(), NOW);
}

#[test]
fn totals_take_the_place_of_those_before_and_go_with_who_told_them() {
    let audits = Arc::new(Audits::default());
    let mut changed = audits.changed.subscribe();
    let mut first = audits.open();
    assert!(first.put("pod", once(1)) && first.put("pod", once(3)) && first.put("pod", once(3)));
    assert_eq!(totals(&audits, "pod"), [3]);
    assert!(changed.has_changed().unwrap());
    // The sidecar comes by another stream, and then that is the only one.
    let mut second = audits.open();
    assert!(second.put("pod", once(5)));
    assert_eq!(totals(&audits, "pod"), [5]);
    assert!(first.put("pod", once(4)));
    assert_eq!(totals(&audits, "pod"), [5], "the other one has told since");
    drop(first);
    assert_eq!(totals(&audits, "pod"), [5]);
    // A new process of the pod has counted less, and only it counts.
    let mut third = audits.open();
    assert!(third.put("pod", counted("bank/p", NOW.plus(1), &[("token_missing", "web/checkout", 1)])));
    assert_eq!(totals(&audits, "pod"), [1]);
    drop(third);
    assert!(second.put("pod", counted("bank/p", NOW, &[])));
    assert!(audits.all().is_empty());
    changed.mark_unchanged();
    drop(second);
    assert!(!changed.has_changed().unwrap(), "nothing went with it");
}

#[test]
fn counts_that_change_all_the_time_are_looked_at_now_and_then() {
    let audits = Arc::new(Audits::default());
    let (mut pace, mut telling) = (Pace::new(&audits, 60), audits.open());
    assert!(!pace.is_due(NOW), "there is nothing");
    assert!(telling.put("pod", once(1)));
    assert!(pace.is_due(NOW.plus(1)), "the first is seen at once");
    assert!(!pace.is_due(NOW.plus(2)));
    assert!(telling.put("pod", once(2)));
    assert!(!pace.is_due(NOW.plus(60)));
    assert!(pace.is_due(NOW.plus(61)), "and is not forgotten");
    assert!(!pace.is_due(NOW.plus(1000)));
    assert!(Pace::new(&audits, 60).is_due(NOW), "whoever comes later has not seen it");
}

#[tokio::test]
async fn who_waits_to_look_wakes_when_there_is_something_and_it_is_time() {
    let audits = Arc::new(Audits::default());
    let clock = Clock::manual(NOW);
    let (mut pace, mut telling) = (Pace::new(&audits, 60), audits.open());
    for count in [1, 2] {
        assert!(timeout(Duration::ZERO, pace.due(&clock)).await.is_err(), "there is nothing new");
        assert!(telling.put("pod", once(count)));
        clock.advance(Duration::from_secs(60));
        timeout(SOON, pace.due(&clock)).await.unwrap().unwrap();
        assert!(pace.is_due(clock.now()));
        assert!(telling.put("pod", once(count + 10)));
        assert!(timeout(Duration::ZERO, pace.due(&clock)).await.is_err(), "it was looked at just now");
        clock.advance(Duration::from_secs(60));
        assert!(pace.is_due(clock.now()));
        clock.advance(Duration::from_secs(60));
    }
}

#[test]
fn nobody_tells_more_than_there_can_be() {
    let audits = Arc::new(Audits::default());
    let mut telling = audits.open();
    let of = |number: usize| counted(&format!("bank/{number}"), NOW, &[("r", "other", 1)]);
    assert!((0..MAX_POLICIES).all(|number| telling.put("pod", of(number))));
    assert!(!telling.put("pod", of(MAX_POLICIES)));
    assert!(telling.put("pod", of(0)) && telling.put("pod", counted("bank/0", NOW, &[])));
    assert!(telling.put("pod", of(MAX_POLICIES)));
    assert!((1..MAX_PODS).all(|number| telling.put(&number.to_string(), of(0))));
    assert!(!telling.put("one more", of(0)));
    assert!(telling.put("one more", counted("bank/0", NOW, &[])), "that there is nothing needs no room");
    assert!(telling.put("1", counted("bank/0", NOW, &[])) && telling.put("one more", of(0)));
}
