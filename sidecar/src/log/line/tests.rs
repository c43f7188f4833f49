#![allow(clippy::unwrap_used, reason = "a test may panic")]
use super::*;

fn parsed(write: impl FnOnce(&mut Lines)) -> serde_json::Value {
    let mut lines = Lines::default();
    write(&mut lines);
    let bytes = lines.take();
    assert_eq!(bytes.last(), Some(&b'\n'));
    serde_json::from_slice(&bytes).unwrap()
}

const BARE: Decision<'static> = Decision {
    direction: Direction::Inbound,
    outcome: Outcome::Admitted,
    reason: None,
    interaction_id: None,
    caller: None,
    client_id: None,
    subject: None,
    method: None,
    path: None,
    policy_version: None,
    policy: None,
    token: None,
    status: None,
    peer: None,
    destination: None,
    upstream: None,
};

#[test]
fn what_is_not_known_is_null() {
    let line = parsed(|lines| lines.decision(0, &BARE));
    for key in [
        "reason",
        "interaction_id",
        "caller",
        "client_id",
        "method",
        "path",
        "policy_version",
        "policy",
        "token",
        "status",
        "peer",
    ] {
        assert_eq!(line.get(key), Some(&serde_json::Value::Null), "{key}");
    }
    assert_eq!(line["event"], "decision");
    assert_eq!(line["time"], "1970-01-01T00:00:00.000Z");
}

#[test]
fn what_a_caller_sends_cannot_break_out_of_its_field() {
    let hostile = "/\",\"outcome\":\"admitted\n{}";
    let decision = Decision {
        outcome: Outcome::Refused,
        reason: Some(Rejection::TokenMissing),
        path: Some(hostile),
        subject: Some(hostile),
        status: Some(401),
        peer: Some("[::1]:80".parse().unwrap()),
        ..BARE
    };
    let line = parsed(|lines| lines.decision(1, &decision));
    assert_eq!((&line["path"], &line["subject"]), (&hostile.into(), &hostile.into()));
    assert_eq!(line["outcome"], "refused");
    assert_eq!(line["reason"], "token_missing");
    assert_eq!(line["status"], 401);
    assert_eq!(line["peer"], "[::1]:80");
}
