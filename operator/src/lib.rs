//! The control plane of fapi-mesh: reads the desired state from a source, compiles one snapshot per pod, hands out
//! certificates and tokens, and reports what the sidecars acknowledged.
//!
//! `source -> model -> index -> compile` is pure from the model on; `view::View` is the immutable result that every server
//! of this process reads.

mod accept;
mod acks;
mod addresses;
mod admin;
mod args;
mod audits;
mod backoff;
mod behind;
mod caller;
mod client_keys;
mod clock;
mod cluster_domain;
mod compile;
mod control_server;
mod crypto;
mod enroll;
mod events;
mod files;
mod index;
pub mod inject;
mod issuer;
mod kubernetes;
mod limits;
mod model;
pub mod names;
mod newest;
mod pki;
mod publish;
mod replicas;
mod revocations;
pub mod rotation;
mod run;
mod shelf;
mod source;
mod state;
mod status;
#[cfg(test)]
mod testing;
mod view;
mod webhook;

pub use args::{Args, SourceArg};
pub use cluster_domain::ClusterDomain;
pub use kubernetes::{RIGHTS, Right, Scope};
pub use run::{RunError, run};
