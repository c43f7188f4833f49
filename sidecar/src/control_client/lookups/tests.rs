#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use control::DestinationKind;

use super::*;

fn unmeshed(authority: &str) -> (Destination, Resolved) {
    let kind = DestinationKind::Unmeshed { addresses: vec![] };
    (Destination { authority: authority.to_owned(), kind }, Resolved::Unmeshed(vec![]))
}

#[tokio::test(start_paused = true)]
async fn many_ask_and_one_lookup_answers_all() {
    let lookups = Lookups::new();
    let (first, second) = (lookups.cell("a.b").unwrap(), lookups.cell("a.b").unwrap());
    assert_eq!(lookups.take_new(), ["a.b".into()]);
    let (document, resolved) = unmeshed("a.b");
    let answer = async { lookups.answer(document, resolved) };
    let (first, second, ()) = tokio::join!(first.wait(), second.wait(), answer);
    assert_eq!((first, second), (Ok(()), Ok(())));
    assert!(lookups.take_new().is_empty());
    assert_eq!(lookups.take_all(), ["a.b".into()]);
}

#[tokio::test(start_paused = true)]
async fn no_answer_in_time_is_no_destination() {
    let lookups = Lookups::new();
    assert_eq!(lookups.cell("a.b").unwrap().wait().await, Err(Rejection::DestinationUnknown));
}

#[test]
fn there_is_room_for_a_bounded_number_and_unused_ones_make_room() {
    let lookups = Lookups::new();
    let cells: Vec<_> = (0..MAX_AUTHORITIES).map(|at| lookups.cell(&format!("{at}.b")).unwrap()).collect();
    assert!(lookups.cell("one.more").is_err());
    assert!(lookups.cell("7.b").is_ok(), "a known one is still there");
    lookups.sweep();
    assert!(lookups.cell("one.more").is_err());
    drop(cells);
    assert!(lookups.cell("one.more").is_ok());
    assert_eq!((lookups.len(), lookups.take_new()), (1, vec!["one.more".into()]), "nothing else is asked for");
    assert!(lookups.cell(&"a".repeat(300)).is_err());
}

#[test]
fn an_answer_that_nobody_asked_for_is_dropped() {
    let lookups = Lookups::new();
    let (document, resolved) = unmeshed("a.b");
    lookups.answer(document, resolved);
    assert_eq!(lookups.len(), 0);
}
