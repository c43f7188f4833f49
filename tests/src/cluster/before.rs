//! The charts of the commit before: what a platform has, when the ones of this commit come.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::repository;

/// The folder of the charts of the commit before, below `folder`, if the programs of today run by them. Images of that commit are
/// not built for a test, so where what the operator may do has changed, or this clone has no such commit, it is the charts of
/// today; why is said.
///
/// # Panics
/// If git or tar fails otherwise.
pub fn charts_before(folder: &Path) -> PathBuf {
    let today = repository().join("charts");
    let git = |args: &[&str]| Command::new("git").arg("-C").arg(repository()).args(args).output();
    if !git(&["rev-parse", "--quiet", "--verify", "HEAD~1:charts"]).is_ok_and(|output| output.status.success()) {
        eprintln!("no commit before this one is here: the upgrade begins with the charts of today");
        return today;
    }
    let archive = folder.join("charts.tar").display().to_string();
    let written = git(&["archive", "--output", &archive, "HEAD~1", "charts"]).unwrap();
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let unpacked = Command::new("tar").args(["-xf", &archive, "-C"]).arg(folder).status().unwrap();
    assert!(unpacked.success(), "{archive}");
    let before = folder.join("charts");
    let rights = |charts: &Path| fs::read(charts.join("fapi-mesh/templates/rbac.yaml")).ok();
    if rights(&before) != rights(&today) {
        eprintln!("what the operator may do has changed: the upgrade begins with the charts of today");
        return today;
    }
    before
}
