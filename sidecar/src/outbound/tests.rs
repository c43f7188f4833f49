#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod broken;
mod calls;
mod exchanged;
mod foreign;
mod names;
mod proofs;
mod redirected;
mod refusals;
mod rotation;
mod websockets;
