//! fapictl, as a person runs it.

use std::process::Command;

use crate::program;

/// Runs it to its end; everything that it says, complaints last.
///
/// # Errors
/// The same, when it fails.
pub fn fapictl(args: &[&str]) -> Result<String, String> {
    said(command().args(args))
}

/// What [`fapictl`] runs.
pub(crate) fn command() -> Command {
    Command::new(program("fapictl"))
}

pub(crate) fn said(command: &mut Command) -> Result<String, String> {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    if output.status.success() { Ok(text) } else { Err(text) }
}
