//! What a command says when it cannot go on: what happened, where, and what to do about it.

use std::fmt::Display;

/// The one error of the command line. It is shown to a person, so it always carries a remedy.
#[derive(Debug, thiserror::Error)]
#[error("{what}\n  where: {place}\n  to do: {remedy}")]
pub(crate) struct Failure {
    what: String,
    place: String,
    remedy: String,
}

impl Failure {
    /// `what` happened, in `place`, and the `remedy`.
    pub(crate) fn new(what: impl Display, place: impl Display, remedy: impl Display) -> Self {
        Self { what: what.to_string(), place: place.to_string(), remedy: remedy.to_string() }
    }
}

/// An error of a library with what it hides in its sources.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let said = error.to_string();
        // Some repeat what is below them.
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        source = error.source();
    }
    text
}

/// Turns a library's error into a [`Failure`], keeping its text behind what we were doing.
pub(crate) trait OrFail<T> {
    /// `what` we were doing, in `place`, and the `remedy`.
    fn or_fail(self, what: &str, place: impl Display, remedy: &str) -> Result<T, Failure>;
}

impl<T, E: Display> OrFail<T> for Result<T, E> {
    fn or_fail(self, what: &str, place: impl Display, remedy: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(format!("{what}: {error}"), place, remedy))
    }
}

impl<T> OrFail<T> for Option<T> {
    fn or_fail(self, what: &str, place: impl Display, remedy: &str) -> Result<T, Failure> {
        self.ok_or_else(|| Failure::new(what, place, remedy))
    }
}
