//! The locks and notices of what `models` tries in every interleaving; there they are those of a model checker.

pub(crate) use std::sync::{Mutex, MutexGuard};
pub(crate) use tokio::sync::Notify;
