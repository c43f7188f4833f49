//! Helpers of the end-to-end tests: real processes, found where this very test was built, and ended with it.
//!
//! Everything here panics when something is not as it must be: that is how a test fails.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

pub mod cluster;
mod fapictl;
mod http;
mod mesh;
#[cfg(target_os = "linux")]
mod netns;
mod process;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub use fapictl::fapictl;
pub use http::{Answer, exchange, get, metric};
pub use mesh::Mesh;
#[cfg(target_os = "linux")]
pub use netns::{Node, Place, SIDECAR};
pub use process::{Running, free_port, living, signal};

/// The program `name` that was built together with this test.
///
/// # Panics
/// If it was not built.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // target/debug/deps/some_test-0123 -> target/debug
    let folder = test.parent().and_then(Path::parent).unwrap();
    let program = folder.join(name);
    assert!(program.is_file(), "{} is not there: build the programs first, or run `make test`", program.display());
    program
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Asks until the answer is something.
///
/// # Panics
/// If that does not happen within `seconds`.
#[expect(clippy::disallowed_methods, reason = "between two looks at a condition with a deadline")]
pub fn wait_for<T>(what: &str, seconds: u64, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < end, "waited {seconds} s for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A folder of a test's own, removed when it is dropped, unless the test is failing.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one.
    ///
    /// # Panics
    /// If the temporary folder cannot be written.
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fapi-e2e-{name}-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("left for you to read: {}", self.0.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
