#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{net::SocketAddr, thread};

use control::{MeshIssuer, Port, WorkloadName};
use fapi::{WireCaller, WireTcpPolicy};

use super::*;
use crate::testing::authority::workload;

const NOW: UnixTime = UnixTime::from_secs(100);
const LATER: UnixTime = UnixTime::from_secs(200);

/// A policy that lets only this service account connect.
fn policy(name: &str, mode: Mode, account: &str) -> PortPolicyDoc {
    let caller = WireCaller { namespace: "bank".to_owned(), service_account: Some(account.to_owned()) };
    PortPolicyDoc::Tcp(WireTcpPolicy { name: name.to_owned(), mode, callers: vec![caller] })
}

fn snapshot(policies: Vec<PortPolicyDoc>) -> Snapshot {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let port = |policy| Port { name: "db".to_owned(), port: 80, listen: address, app: address, policy };
    Snapshot {
        trust_domain: "bank.example".to_owned(),
        spiffe_id: workload("db").to_string(),
        pod_uid: "pod".to_owned(),
        workload: WorkloadName { namespace: "bank".to_owned(), name: "db".to_owned() },
        mesh_issuer: MeshIssuer { issuer: "https://as".to_owned(), token_endpoint: "https://as/token".to_owned() },
        external_issuers: Vec::new(),
        token_exchange: false,
        ports: policies.into_iter().map(port).collect(),
    }
}

/// Reason, caller and count, as they are told.
fn lines(book: &Book) -> Vec<(String, String, u64)> {
    book.told("p").callers.into_iter().map(|line| (line.reason, line.caller, line.count)).collect()
}

fn line(reason: &str, caller: &str, count: u64) -> (String, String, u64) {
    (reason.to_owned(), caller.to_owned(), count)
}

#[test]
fn calls_are_counted_by_reason_and_caller_from_any_thread() {
    let book = Book::new(NOW);
    let count = || {
        for _ in 0..100 {
            book.count(Rejection::TokenMissing, &workload("shop"));
            book.count(Rejection::TokenMissing, &workload("ledger"));
            book.count(Rejection::CallerNotAllowed, &workload("shop"));
        }
    };
    thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(count))));
    let expected = [
        line("caller_not_allowed", "bank/shop", 400),
        line("token_missing", "bank/ledger", 400),
        line("token_missing", "bank/shop", 400),
    ];
    assert_eq!(lines(&book), expected);
    assert_eq!(book.told("bank/db").since, NOW.as_secs());
}

#[test]
fn who_comes_when_there_is_no_room_is_counted_among_others() {
    let book = Book::new(NOW);
    for number in 0..TOLD_APART + 3 {
        book.count(Rejection::TokenMissing, &workload(&format!("a{number}")));
    }
    book.count(Rejection::ScopeInsufficient, &workload("late"));
    book.count(Rejection::TokenMissing, &workload("a0"));
    let lines = lines(&book);
    assert_eq!(lines.len(), TOLD_APART + 2);
    for expected in
        [line("token_missing", "other", 3), line("scope_insufficient", "other", 1), line("token_missing", "bank/a0", 2)]
    {
        assert!(lines.contains(&expected), "{expected:?} in {lines:?}");
    }
}

#[test]
fn a_book_is_that_of_a_policy_in_audit_for_as_long_as_it_says_the_same() {
    let audit = |account: &str| policy("bank/a", Mode::Audit, account);
    let enforce = policy("bank/b", Mode::Enforce, "shop");
    let first = snapshot(vec![audit("shop"), enforce.clone(), PortPolicyDoc::Invalid { name: "bank/c".to_owned() }]);
    let books = Books::of(&first, None, NOW);
    assert_eq!(books.told().map(|told| told.policy).collect::<Vec<_>>(), ["bank/a"]);
    assert!(books.book(&enforce).is_none());
    books.book(&audit("shop")).unwrap().count(Rejection::CallerNotAllowed, &workload("web"));

    // Something else changes: it goes on.
    let other = snapshot(vec![policy("bank/b", Mode::Audit, "shop"), audit("shop")]);
    let next = Books::of(&other, Some((&first, &books)), LATER);
    let told: Vec<_> = next.told().map(|told| (told.since, told.callers.len())).collect();
    assert_eq!(told, [(NOW.as_secs(), 1), (LATER.as_secs(), 0)]);

    // It says something else, or governs another port too: it begins anew.
    for changed in [vec![audit("web")], vec![audit("shop"), audit("shop")]] {
        let again = Books::of(&snapshot(changed), Some((&other, &next)), LATER);
        let told: Vec<_> = again.told().map(|told| (told.since, told.callers.len())).collect();
        assert_eq!(told, [(LATER.as_secs(), 0)]);
    }
}

#[test]
fn only_news_are_told_and_that_there_is_nothing_any_more() {
    let told = |policy: &str, count| pb::WouldRefuse {
        policy: policy.to_owned(),
        since: 1,
        callers: vec![pb::RefusedCaller { reason: "r".to_owned(), caller: "c".to_owned(), count }],
    };
    let nothing = |policy: &str| pb::WouldRefuse { policy: policy.to_owned(), ..pb::WouldRefuse::default() };
    let mut heard = Heard::default();
    let mut news = |now: &[pb::WouldRefuse]| heard.news(now.iter().cloned());
    assert_eq!(news(&[nothing("a")]), [], "nobody was counted yet");
    assert_eq!(news(&[told("a", 1), told("b", 1)]), [told("a", 1), told("b", 1)]);
    assert_eq!(news(&[told("a", 1), told("b", 2)]), [told("b", 2)]);
    assert_eq!(news(&[nothing("a"), told("b", 2)]), [nothing("a")]);
    assert_eq!(news(&[]), [nothing("b")]);
    assert_eq!(news(&[]), []);
}

#[test]
fn a_report_fits_into_a_message_however_long_the_names_are() {
    let domain = fapi::TrustDomain::parse("bank.example").unwrap();
    let long = |number: usize| {
        let account = format!("{number:03}{}.{}.{}.{}", "a".repeat(60), "b".repeat(63), "c".repeat(63), "d".repeat(61));
        SpiffeId::new(&domain, &"n".repeat(63), &account).unwrap()
    };
    let book = Book::new(NOW);
    for number in 0..TOLD_APART {
        book.count(Rejection::BoundTokenSentAsBearer, &long(number));
    }
    for &reason in Rejection::ALL {
        book.count(reason, &workload("late"));
    }
    let told = book.told(&format!("{}/{}", "n".repeat(63), "p".repeat(253)));
    // Tags, lengths and a number take 20 bytes at most.
    let lines = told.callers.iter().map(|line| line.reason.len() + line.caller.len() + 20);
    assert!(told.policy.len() + lines.sum::<usize>() < 48 * 1024, "the operator takes 64 KiB");
}
