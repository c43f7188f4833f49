//! The one place of this crate that asks what time it is.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since the epoch. A clock before 1970 counts as 1970.
#[expect(clippy::disallowed_methods, reason = "the one clock of this program")]
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
