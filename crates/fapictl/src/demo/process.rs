//! The processes of a demo. Each one ends with the demo: asked politely when there is time, killed when it is
//! dropped, and killed by the kernel when the demo itself is killed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::failure::{Failure, OrFail};

/// How many lines of its log are shown when a process has ended by itself.
const LAST_LINES: usize = 8;

/// One running process.
pub(crate) struct Process {
    name: String,
    child: Child,
    errors: PathBuf,
}

/// What to start.
pub(crate) struct Plan<'a> {
    /// For people.
    pub(crate) name: String,
    pub(crate) program: &'a Path,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(&'static str, String)>,
    /// Where its output goes; appended to, so that a restarted process does not wipe what was said before.
    pub(crate) log: &'a Path,
    pub(crate) errors: &'a Path,
}

/// Turns a mixed list into arguments.
pub(crate) fn args<const N: usize>(list: [&dyn AsRef<OsStr>; N]) -> Vec<OsString> {
    list.iter().map(|arg| arg.as_ref().to_owned()).collect()
}

impl Process {
    /// Starts it.
    pub(crate) fn start(plan: Plan<'_>) -> Result<Self, Failure> {
        let remedy = "build everything first: `make demo` does";
        let me = std::env::current_exe().or_fail("cannot find myself", "fapictl", remedy)?;
        let child = Command::new(me)
            .args(["with-parent", "--parent", &std::process::id().to_string(), "--"])
            .arg(plan.program)
            .args(plan.args)
            .envs(plan.env)
            .stdin(Stdio::null())
            .stdout(append(plan.log)?)
            .stderr(append(plan.errors)?)
            // Ctrl-C is for the demo alone, which then ends the others in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .or_fail("cannot start a process", plan.program.display(), remedy)?;
        Ok(Self { name: plan.name, child, errors: plan.errors.to_owned() })
    }

    /// Fails, with what it said last, if it has ended by itself.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Failure::new(
                format!("{} ended by itself ({status}); it said last:\n{}", self.name, last_lines(&self.errors)),
                self.errors.display(),
                "run the demo again; if it repeats, report these lines",
            )),
            Err(error) => Err(Failure::new(error, &self.name, "run the demo again")),
        }
    }

    /// Tells it something: SIGHUP to the operator asks for new certificates.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let pid = pid.or_fail("it has ended", &self.name, "see its log")?;
        kill_process(pid, signal).or_fail("cannot send a signal", &self.name, "see its log")
    }

    /// Asks it to end and waits; kills it when `patience` is over. True if it went by itself.
    pub(crate) async fn stop(mut self, patience: Duration) -> bool {
        let asked = self.signal(Signal::TERM).is_ok();
        if asked && timeout(patience, self.child.wait()).await.is_ok() {
            return true;
        }
        // What cannot be killed is dropped next, and there is nothing else to try.
        let _ = self.child.kill().await;
        false
    }

    /// Ends it at once, as a crash would.
    pub(crate) async fn kill(mut self) {
        let _ = self.child.kill().await;
    }
}

fn append(path: &Path) -> Result<File, Failure> {
    let file = File::options().append(true).create(true).open(path);
    file.or_fail("cannot write a log", path.display(), "give a --state folder that you may write")
}

fn last_lines(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LAST_LINES);
    lines.get(from..).unwrap_or_default().join("\n")
}
