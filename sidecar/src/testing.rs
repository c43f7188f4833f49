//! A small mesh for tests, with real sockets, certificates and tokens: an operator that enrols and streams, an issuer
//! that grants, and peers that judge every request by [`fapi::decide`]. They stand in for the other processes, which
//! this crate may not depend on; the same paths run against the real ones in the end-to-end tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::result_large_err,
    reason = "a test fails by panicking"
)]

pub(crate) mod app;
pub(crate) mod authority;
pub(crate) mod bytes;
pub(crate) mod desk;
pub(crate) mod issuer;
pub(crate) mod keys;
pub(crate) mod mesh;
pub(crate) mod operator;
pub(crate) mod peer;
pub(crate) mod side;

use std::{future::Future, time::Duration};

use tokio::{task::LocalSet, time::timeout};

use crate::state::Shared;

/// Runs a test with local tasks; one that hangs fails.
pub(crate) async fn local<F: Future>(test: F) -> F::Output {
    timeout(Duration::from_secs(180), LocalSet::new().run_until(test)).await.expect("the test ends within 180 seconds")
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("within 30 seconds: {what}");
}

/// Whether the metrics of a sidecar have this line.
pub(crate) fn shows(shared: &Shared, line: &str) -> bool {
    shared.render_metrics().lines().any(|found| found == line)
}

/// Waits until they have it.
pub(crate) async fn counted(shared: &Shared, line: &str) {
    until(line, || shows(shared, line)).await;
}
