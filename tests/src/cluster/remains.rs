//! What containers leave behind when their runtime is ended: processes, mounts, control groups, network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::{living, signal};

/// Removes all of it. Nothing here fails: what is not there needs no removal.
pub(super) fn remove(folder: &Path, control_group: &str, networks: &[String]) {
    end_control_group(control_group);
    // The shims of containerd, which outlive it by design, and what they have just started.
    within(10, || {
        let mut left = living(folder);
        left.retain(|(_, line)| line.contains("containerd-shim") || line.contains("runc "));
        left.iter().for_each(|(id, _)| signal(*id, Signal::KILL));
        left.is_empty()
    });
    unmount_below(folder);
    remove_control_group(control_group);
    remove_links_into(Path::new("/var/log/containers"), folder);
    for name in networks {
        run("ip", &["link", "delete", name]);
        remove_by_name(Path::new("/var/lib/cni/results"), name);
        // The last, as the next cluster may have the name now.
        run("ip", &["netns", "delete", name]);
    }
}

/// Ends every process of a control group, those that it forks meanwhile too.
pub(super) fn end_control_group(name: &str) {
    within(10, || {
        let ids: Vec<u32> = control_groups(name).iter().flat_map(|folder| processes(folder)).collect();
        for id in &ids {
            signal(*id, Signal::KILL);
        }
        ids.is_empty()
    });
}

/// Waits for a condition, but no longer than `seconds`.
#[expect(clippy::disallowed_methods, reason = "between two looks at a condition with a deadline")]
pub(super) fn within(seconds: u64, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !condition() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// The folders of a control group: one with version 2, one per controller with version 1.
pub(super) fn control_groups(name: &str) -> Vec<PathBuf> {
    mounts()
        .into_iter()
        .filter(|(kind, _)| kind == "cgroup" || kind == "cgroup2")
        .map(|(_, at)| at.join(name))
        .filter(|folder| folder.is_dir())
        .collect()
}

/// Type and place of every mount.
pub(super) fn mounts() -> Vec<(String, PathBuf)> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    // Blanks in paths are spelled in octal.
    fields.filter_map(|f| Some(((*f.get(2)?).to_owned(), PathBuf::from(f.get(1)?.replace("\\040", " "))))).collect()
}

fn processes(control_group: &Path) -> Vec<u32> {
    let own = fs::read_to_string(control_group.join("cgroup.procs")).unwrap_or_default();
    let mut ids: Vec<u32> = own.lines().filter_map(|id| id.parse().ok()).collect();
    for folder in folders(control_group) {
        ids.extend(processes(&folder));
    }
    ids
}

fn remove_control_group(name: &str) {
    fn remove(folder: &Path) {
        folders(folder).iter().for_each(|inner| remove(inner));
        let _ = fs::remove_dir(folder);
    }
    for folder in control_groups(name) {
        // A process that was killed a moment ago may still be in it.
        within(5, || {
            remove(&folder);
            !folder.exists()
        });
    }
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn unmount_below(folder: &Path) {
    let below = mounts().into_iter().map(|(_, at)| at).filter(|at| at.starts_with(folder));
    // The newest first: mounts lie upon each other.
    for at in below.collect::<Vec<_>>().into_iter().rev() {
        run("umount", &["--lazy", &at.to_string_lossy()]);
    }
}

fn remove_links_into(links: &Path, folder: &Path) {
    for entry in fs::read_dir(links).into_iter().flatten().flatten() {
        if fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(folder)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn remove_by_name(folder: &Path, start: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&format!("{start}-")) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn run(program: &str, args: &[&str]) {
    let _ = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
}
