//! The one form of a path that rules are matched on.

use crate::rejection::Rejection;

/// Gives the path back if it can be read in one way only.
///
/// # Errors
/// [`Rejection::RequestMalformed`].
pub fn normal_path(raw: &str) -> Result<&str, Rejection> {
    if raw.starts_with('/') { Ok(raw) } else { Err(Rejection::RequestMalformed) }
}
