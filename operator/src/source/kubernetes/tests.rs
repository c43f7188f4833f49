#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

mod destinations;
mod left;
mod mapping;
mod scale;
mod sequences;
mod watching;
mod world;
