#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod calls;
mod foreign;
mod proofs;
mod refusals;
mod rotation;
