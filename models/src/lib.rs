//! What threads of a sidecar share, under the model checker loom: `make loom`. Every interleaving of a few threads is tried,
//! on the files of the sidecar themselves; `sync` stands for its locks and notices. Empty without `cfg(loom)`.
#![cfg(all(loom, test))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "the sidecar uses more of it")]
#[path = "../../sidecar/src/answers.rs"]
mod answers;
#[path = "../../sidecar/src/awaited.rs"]
mod awaited;
#[allow(dead_code, reason = "the sidecar uses more of it")]
#[path = "../../sidecar/src/control_client/lookups/cells.rs"]
mod cells;
mod sync;
mod tests;
