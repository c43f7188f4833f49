#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod broken;
mod calls;
mod contexts;
mod exempt;
mod hygiene;
mod long_calls;
mod opaque;
mod revoked;
mod standing;
mod vectors;
