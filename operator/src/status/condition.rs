//! Conditions, as Kubernetes has them.

use crds::conditions::{READY, reason};
use fapi::UnixTime;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// What a Condition may hold; less than what an API server takes, and enough for a person.
const MESSAGE_LIMIT: usize = 1024;
const TRUE: &str = "True";
const FALSE: &str = "False";

/// Makes the conditions of one object.
#[derive(Clone, Copy)]
pub(super) struct Conditions {
    pub(super) generation: i64,
    pub(super) now: UnixTime,
}

impl Conditions {
    /// It is so. The reason is the type's own name.
    pub(super) fn holds(self, kind: &str, message: impl Into<String>) -> Condition {
        self.make(kind, TRUE, kind, message)
    }

    /// It is not so.
    pub(super) fn fails(self, kind: &str, reason: &str, message: impl Into<String>) -> Condition {
        self.make(kind, FALSE, reason, message)
    }

    /// The summary: true if all are, else the reason and the words of the first that is not.
    pub(super) fn ready<'a>(self, all: impl IntoIterator<Item = &'a Condition>) -> Condition {
        match all.into_iter().find(|condition| !is_true(condition)) {
            Some(first) => self.make(READY, FALSE, &first.reason, first.message.clone()),
            None => self.make(READY, TRUE, reason::READY, ""),
        }
    }

    fn make(self, kind: &str, status: &str, reason: &str, message: impl Into<String>) -> Condition {
        Condition {
            last_transition_time: Time(timestamp(self.now)),
            message: shorten(&message.into()),
            observed_generation: Some(self.generation),
            reason: reason.to_owned(),
            status: status.to_owned(),
            type_: kind.to_owned(),
        }
    }
}

/// Whether a condition is true.
pub(super) fn is_true(condition: &Condition) -> bool {
    condition.status == TRUE
}

/// Keeps the time of each condition whose status is what it was.
pub(super) fn keep_times(new: &mut [Condition], old: &[Condition]) {
    for condition in new {
        let before = old.iter().find(|before| before.type_ == condition.type_ && before.status == condition.status);
        if let Some(before) = before {
            condition.last_transition_time = before.last_transition_time.clone();
        }
    }
}

/// A time as a person reads it: RFC 3339, in UTC.
pub(crate) fn timestamp(time: UnixTime) -> Timestamp {
    // Beyond what a calendar has; only a broken clock gets there.
    i64::try_from(time.as_secs()).ok().and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or_default()
}

/// Cuts a text to what a status may hold.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(MESSAGE_LIMIT - 1) {
        Some((end, _)) if text.len() > end + 1 => format!("{}…", text.get(..end).unwrap_or_default()),
        _ => text.to_owned(),
    }
}
