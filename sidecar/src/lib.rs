//! The data plane of fapi-mesh: one process beside each workload.
//!
//! Inbound it ends the mutual TLS of its callers, lets [`fapi::decide`] judge every request and forwards what was
//! admitted to the app; outbound it gives the app's calls a connection, an identity and a bound token.
//!
//! | module | knows |
//! |---|---|
//! | `run` | which threads exist and what each of them owns |
//! | `state` | what the control thread publishes to the data workers |
//! | `control_client`, `identity`, `tokens` | how that state comes to be: operator, certificates, issuer |
//! | `issuers` | keys of issuers outside the mesh |
//! | `interception` | how calls come here, where to listen for them, where a redirected one was meant to go |
//! | `bypass` | whether the app can be reached past the sidecar |
//! | `workers` | accepting, least loaded worker, bounds |
//! | `contexts` | calls in progress that the app may hand on |
//! | `inbound`, `headers`, `forward`, `body` | one call from a peer to the app |
//! | `outbound` | one call from the app to a peer |
//! | `detect` | HTTP, by its first bytes |
//! | `answers`, `awaited`, `sync` | waiting for another thread; `models` tries every interleaving of it |
//! | `tunnel` | two upgraded connections, joined |
//! | `ready` | what a container in want of a sidecar asks; a program of its own |
//! | `redirect` | the rules that bring the calls of a pod here; a program of its own |
//! | `health` | what a kubelet asks for, of the sidecar and of the app |
//! | `audit` | what policies in `Audit` let pass, counted for the operator |
//! | `log`, `metrics`, `admin`, `clock` | what is told to people, and the time |

pub mod args;
pub mod interception;
pub mod ready;
#[cfg(target_os = "linux")]
pub mod redirect;
pub mod run;

pub(crate) mod admin;
pub(crate) mod answers;
pub(crate) mod audit;
pub(crate) mod awaited;
pub(crate) mod body;
pub(crate) mod bypass;
pub(crate) mod clock;
pub(crate) mod contexts;
pub(crate) mod control_client;
pub(crate) mod detect;
pub(crate) mod forward;
pub(crate) mod headers;
pub(crate) mod health;
pub(crate) mod identity;
pub(crate) mod inbound;
pub(crate) mod issuers;
pub(crate) mod local;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod outbound;
pub(crate) mod random;
pub(crate) mod shares;
pub(crate) mod small_http;
pub(crate) mod state;
pub(crate) mod stop;
pub(crate) mod sync;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod tokens;
pub(crate) mod tunnel;
pub(crate) mod workers;
