//! `fapictl with-parent PROGRAM ARGS…`: becomes that program, and asks the kernel to end it when the
//! process that started it is gone, however that happened (`kill -9` too). So a demo leaves nothing behind.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use crate::args::WithParentArgs;
use crate::failure::{Failure, OrFail};

/// Replaces this process; returns only when that fails.
pub(crate) fn run(args: &WithParentArgs) -> Result<ExitCode, Failure> {
    end_with_parent(args.parent)?;
    let (program, arguments) =
        args.command.split_first().or_fail("no program was given", "fapictl with-parent", "name one")?;
    let error = Command::new(program).args(arguments).exec();
    Err(Failure::new(
        format!("cannot start: {error}"),
        program.display(),
        "build it first: `make demo` builds everything the demo starts",
    ))
}

#[cfg(target_os = "linux")]
fn end_with_parent(parent: u32) -> Result<(), Failure> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL)).or_fail(
        "the kernel does not tie this process to its parent",
        "prctl",
        "run the demo on Linux",
    )?;
    // The parent may have died before the line above took hold: then nobody will tell us.
    let living = getppid().is_some_and(|pid| pid.as_raw_nonzero().get().unsigned_abs() == parent);
    living.then_some(()).or_fail("the parent is gone", parent, "nothing: this is the clean end")
}

/// Elsewhere a killed demo may leave processes behind; an interrupted or failed one does not.
#[cfg(not(target_os = "linux"))]
fn end_with_parent(_parent: u32) -> Result<(), Failure> {
    Ok(())
}
