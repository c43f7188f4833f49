use serde_json::json;

use super::*;

fn details(value: &Value) -> AuthorizationDetails {
    AuthorizationDetails::parse(&value.to_string()).unwrap()
}

#[track_caller]
fn covers(mine: Value, wanted: Value, good: bool) {
    assert_eq!(details(&json!([mine])).covers(&details(&json!([wanted]))), good, "{mine} {wanted}");
}

#[test]
fn lists_grant_what_they_name() {
    for list in ["actions", "datatypes", "privileges"] {
        let both = json!({"type": "t", list: ["a", "b"]});
        covers(both.clone(), json!({"type": "t", list: ["b"]}), true);
        covers(both.clone(), json!({"type": "t", list: ["b", "a", "a"]}), true);
        covers(both.clone(), json!({"type": "t"}), true);
        covers(both.clone(), both.clone(), true);
        covers(both.clone(), json!({"type": "t", list: ["b", "c"]}), false);
        covers(both, json!({"type": "u", list: ["a"]}), false);
        covers(json!({"type": "t"}), json!({"type": "t", list: ["a"]}), false);
    }
    covers(json!({"type": "t", "actions": ["a"]}), json!({"type": "t", "datatypes": ["a"]}), false);
    covers(json!({"type": "t", "actions": ["a"]}), json!({"type": "T", "actions": ["a"]}), false);
}

#[test]
fn limits_are_the_same_on_both_sides() {
    let (plain, one, two) =
        (json!({"type": "t"}), json!({"type": "t", "identifier": "1"}), json!({"type": "t", "identifier": "2"}));
    covers(one.clone(), one.clone(), true);
    covers(one.clone(), two, false);
    covers(one.clone(), plain.clone(), false);
    covers(plain.clone(), one, false);
    let at = |places: &[&str]| json!({"type": "t", "locations": places});
    covers(at(&["x", "y"]), at(&["y"]), true);
    covers(at(&["x"]), at(&["x", "y"]), false);
    covers(at(&["x"]), plain.clone(), false);
    covers(plain, at(&["x"]), false);
}

#[test]
fn each_wanted_detail_needs_one_that_covers_it_whole() {
    let read = json!({"type": "t", "actions": ["read"]});
    let write = json!({"type": "t", "actions": ["write"]});
    let both = json!({"type": "t", "actions": ["read", "write"]});
    assert!(details(&json!([read, write])).covers(&details(&json!([write, read]))));
    assert!(details(&json!([both])).covers(&details(&json!([write, read]))));
    assert!(!details(&json!([read])).covers(&details(&json!([read, write]))));
    assert!(!details(&json!([read, write])).covers(&details(&json!([both]))), "halves do not add up");
    assert!(details(&json!([read])).covers(&AuthorizationDetails::default()));
    assert!(!AuthorizationDetails::default().covers(&details(&json!([read]))));
}

#[test]
fn two_lists_have_in_common_what_both_cover() {
    let of = |actions: &[&str]| json!({"type": "payment", "actions": actions});
    let (wide, narrow, other) = (of(&["read", "write"]), of(&["read"]), json!({"type": "account"}));
    let list = |all: &[&Value]| details(&json!(all));
    assert_eq!(list(&[&wide, &other]).intersection(&list(&[&narrow])), list(&[&narrow]));
    assert_eq!(list(&[&narrow]).intersection(&list(&[&wide, &other])), list(&[&narrow]));
    let none = list(&[&other]).intersection(&list(&[&wide]));
    assert!(none.is_empty() && !list(&[&other]).is_empty());
    assert_eq!((none.len(), list(&[&wide, &other]).len()), (0, 2));
}

#[test]
fn a_request_is_read_strictly() {
    let long = "x".repeat(257);
    for bad in [
        json!({"type": "t"}),
        json!([]),
        json!(["t"]),
        json!([{}]),
        json!([{"type": ""}]),
        json!([{"type": 1}]),
        json!([{"type": "t", "actions": []}]),
        json!([{"type": "t", "actions": "a"}]),
        json!([{"type": "t", "actions": [""]}]),
        json!([{"type": "t", "actions": [1]}]),
        json!([{"type": "t", "actions": null}]),
        json!([{"type": "t", "actions": vec!["a"; 65]}]),
        json!([{"type": "t", "identifier": ["1"]}]),
        json!([{"type": "t", "identifier": ""}]),
        json!([{"type": "t", "instructedAmount": "1"}]),
        json!([{"type": long}]),
        json!([{"type": "t", "actions": ["a\nb"]}]),
        Value::from(vec![json!({"type": "t"}); 17]),
    ] {
        assert!(AuthorizationDetails::parse(&bad.to_string()).is_err(), "{bad}");
    }
    for bad in ["", "x", r#"[{"type":"t","type":"u"}]"#, r#"[{"type":"t"}] []"#] {
        assert!(AuthorizationDetails::parse(bad).is_err(), "{bad}");
    }
    assert_eq!(details(&Value::from(vec![json!({"type": "t"}); 16])).len(), 16);
}

#[test]
fn a_claim_may_hold_what_is_not_understood_but_it_covers_nothing() {
    let amount = json!({"type": "t", "instructedAmount": {"amount": "5"}});
    let plain = json!({"type": "t"});
    let read = |value: &Value| AuthorizationDetails::of_claim(value);
    assert!(read(&json!([amount])).unwrap().is_empty());
    assert_eq!(read(&json!([amount, plain])), Ok(details(&json!([plain]))));
    assert!(read(&json!([])).unwrap().is_empty());
    for bad in [
        json!(null),
        json!({}),
        json!("t"),
        json!([1]),
        json!([{"type": "t"}, {}]),
        json!([{"type": "t", "actions": [], "more": 1}]),
        Value::from(vec![plain; 65]),
    ] {
        assert_eq!(read(&bad), Err(NotStrict), "{bad}");
    }
}

#[test]
fn what_was_read_is_written_again() {
    let all = json!([{"type": "t", "locations": ["l"], "actions": ["a"], "datatypes": ["d"], "identifier": "1",
        "privileges": ["p"]}, {"type": "u"}]);
    let read = details(&all);
    assert_eq!(serde_json::to_value(&read).unwrap(), all);
    assert_eq!(read.union(&details(&json!([{"type": "u"}, {"type": "v"}]))).len(), 3);
    assert_eq!(read.union(&read), read);
    assert_eq!(AuthorizationDetails::default().union(&read), read);
}
