//! Processes of a test. None of them outlives it.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait_for;

/// How many ports [`free_port`] chooses from.
const PORTS: u32 = 10_000;

/// A running process, killed when it is dropped.
pub struct Running(Child);

impl Running {
    /// Starts it.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Starts one whose standard output is piped, and gives that.
    ///
    /// # Panics
    /// If it cannot be started, or its output is not piped.
    pub fn with_output(command: &mut Command) -> (Self, ChildStdout) {
        let mut running = Self::start(command);
        let output = running.0.stdout.take().unwrap();
        (running, output)
    }

    /// Asks it to end, as a service manager does.
    pub fn terminate(&self) {
        signal(self.0.id(), Signal::TERM);
    }

    /// Tells it to do what SIGHUP means to it.
    pub fn hang_up(&self) {
        signal(self.0.id(), Signal::HUP);
    }

    /// Ctrl-C.
    pub fn interrupt(&self) {
        signal(self.0.id(), Signal::INT);
    }

    /// Ends it at once; it learns nothing of it.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If that takes longer than `seconds`.
    pub fn wait(&mut self, seconds: u64) -> ExitStatus {
        wait_for("a process to end", seconds, || self.ended())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port of this machine's loopback that is free now. Nobody else here is given it: it is below those that the kernel gives away, and
/// each is given once.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    let next = || first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
    let mut ports = (0..PORTS).map(|_| 10_000 + u16::try_from(next() % PORTS).unwrap());
    ports.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).unwrap()
}

/// Sends a signal; a process that is gone needs none.
pub fn signal(id: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(id.cast_signed()) {
        let _ = kill_process(pid, signal);
    }
}

/// The processes whose command line speaks of `folder`, by id, but for this one.
///
/// # Panics
/// If `/proc` cannot be read.
pub fn living(folder: &Path) -> Vec<(u32, String)> {
    let folder = folder.display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Gone in the meantime, or a zombie without a command line: either way not alive.
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&folder) && id != std::process::id() {
            found.push((id, line));
        }
    }
    found
}
