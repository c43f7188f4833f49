//! `fapictl completion`: what bash, zsh and fish need to complete the command line, for the name that it was called by.

use std::io::Write as _;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_complete::generate;

use crate::args::{Args, CompletionArgs, Shell};
use crate::failure::{Failure, OrFail};

/// What it is called by without a name of its own.
const NAME: &str = "fapictl";

/// Prints the script.
pub(crate) fn run(args: &CompletionArgs) -> Result<(), Failure> {
    let called = std::env::args_os().next();
    let name = called.as_deref().and_then(|path| Path::new(path).file_name()).and_then(|name| name.to_str());
    let script = script(args.shell, name.unwrap_or(NAME));
    let written = std::io::stdout().write_all(&script);
    written.or_fail("the script could not be written", "standard output", "write it into a file with room for it")
}

fn script(shell: Shell, name: &str) -> Vec<u8> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let all = Args::command();
    let shown = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let mut shown = Command::new(NAME).version(control::VERSION).subcommands(shown);
    let mut script = Vec::new();
    generate(shell, &mut shown, name, &mut script);
    script
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    #[test]
    fn every_shell_learns_the_commands_and_flags_under_the_name_that_is_called() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(script(shell, "kubectl-fapi")).unwrap();
            for word in ["kubectl-fapi", "check", "status", "pre", "operator-namespace"] {
                assert!(script.contains(word), "{shell:?} lacks {word}");
            }
            assert!(!script.contains("with-parent"), "{shell:?} shows what is hidden");
        }
    }
}
