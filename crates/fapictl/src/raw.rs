//! Bytes over TCP and TLS, for clients that must be able to misbehave: what is sent is exactly what the
//! caller wrote, nothing is corrected, repeated or followed. It shares no code with the sidecar.

mod danger;
mod http1;
mod tls;

pub(crate) use http1::{Ask, Reply, exchange};
pub(crate) use tls::{Line, Tls, connect, exchange_plain};
