//! Child processes that end with the driver, and what `/proc` says of them.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::Failure;

/// A process pinned to a core, killed on drop.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts `binary` on `core`, its output in `log`.
    pub(crate) fn start(core: u32, binary: &Path, args: &[String], log: &Path) -> Result<Self, Failure> {
        // Killed by the kernel should the driver itself be.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "taskset", "-c", &core.to_string()])
            .arg(binary)
            .args(args)
            .stdin(Stdio::null())
            .stdout(File::create(log)?)
            .stderr(File::create(log.with_extension("err"))?)
            .spawn()
            .map_err(|error| {
                format!("cannot start {}: {error}; setpriv and taskset are in util-linux", binary.display())
            })?;
        Ok(Self { child })
    }

    /// User and system time so far.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after_name = stat.rsplit_once(')').ok_or("unexpected /proc stat")?.1;
        let mut ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let (user, system) = (ticks.next().ok_or("no utime")??, ticks.next().ok_or("no stime")??);
        // USER_HZ is 100 on every Linux that Rust runs on.
        Ok(Duration::from_millis((user + system) * 10))
    }

    /// Resident memory in KiB.
    pub(crate) fn memory(&self) -> Result<u64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing is left to tell if it ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The folder of this program.
pub(crate) fn own_folder() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.parent().map_or_else(PathBuf::new, Path::to_path_buf))
}

/// Asks `probe` until it answers, at most 20 seconds.
pub(crate) fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> Result<T, Failure> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = probe() {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(format!("waited 20 seconds for {what}").into());
        }
        #[allow(clippy::disallowed_methods, reason = "the pause of a poll that has a condition and a deadline")]
        std::thread::sleep(Duration::from_millis(20));
    }
}
