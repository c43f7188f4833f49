//! Why the operator does not run. Every message says what is wrong, where, and what to do.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use fapi::TrustDomain;

use crate::addresses::AddressError;
use crate::enroll::TokenKeyError;
use crate::files::FileError;
use crate::issuer::KeysError;
use crate::kubernetes::{ClientError, Users};
use crate::pki::PkiError;
use crate::publish::CounterError;
use crate::revocations::RevocationsError;
use crate::source::SourceError;

/// Why the operator cannot start, or ended by itself.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct RunError(#[from] Failure);

/// The same, as the operator sees it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    TokenKey(#[from] TokenKeyError),
    #[error(transparent)]
    Counter(#[from] CounterError),
    #[error(transparent)]
    Revocations(#[from] RevocationsError),
    /// The operating system refuses the handlers.
    #[error("cannot listen to signals: {0}; raise the limit of open files")]
    Signals(io::Error),
    /// The operating system does not tell an address.
    #[error("cannot read the address of a listener: {0}; start again, and report it if it stays")]
    Socket(io::Error),
    /// A second operator on the same state.
    #[error("another operator runs on {}; end it, or give another folder with --state", .0.display())]
    InUse(PathBuf),
    /// A folder has no place for keys.
    #[error("--source directory:DIR needs --state DIR, a folder for keys, tokens and status")]
    NoState,
    /// A cluster has a place for keys.
    #[error("--state is for --source directory:DIR; leave it out: in a cluster keys are kept in Secrets")]
    StateInCluster,
    /// A folder has no pods, and is removed by whoever made it.
    #[error("{0} is for --source kubernetes; with --source directory:DIR, remove the folder of --state")]
    NoCluster(&'static str),
    /// Pods that nobody would guard.
    #[error(
        "{0} in this cluster. Without the operator they go on until their certificates end, and pods that take their place start \
         without a sidecar. Take fapi-mesh.dev/inject off their namespaces and pod templates, have them made anew (kubectl \
         rollout restart), and uninstall again. Or leave them to it: helm rollback to the revision that helm history shows as \
         uninstalling, helm upgrade with --reuse-values --set uninstall.force=true, helm uninstall"
    )]
    Used(Users),
    /// Nobody says whether there are any.
    #[error("cannot tell whether pods have a sidecar: {0}; ask again, with the rights of the chart")]
    Users(String),
    /// Something of the mesh is left.
    #[error("cannot delete all that the operator has made: {0}; ask again, with the rights of the chart")]
    Forget(String),
    /// The state folder names a trust domain that is none.
    #[error(
        "the state names the trust domain {0:?}, which is none; restore addresses.json in the state folder from a backup"
    )]
    State(String),
    /// Two trust domains.
    #[error(
        "--trust-domain {asked}, but this mesh is {fixed}, and that never changes; leave the flag out, \
         or give another state folder for a new mesh (and let its FapiMesh name no other)"
    )]
    TrustDomain {
        /// By the flag.
        asked: TrustDomain,
        /// By the state folder, or by the FapiMesh of a new mesh.
        fixed: TrustDomain,
    },
    /// A namespace that cannot be one.
    #[error("--operator-namespace {namespace}: {source}; give the name of a namespace")]
    Namespace {
        /// As it was given.
        namespace: String,
        /// What is wrong with it.
        source: fapi::InvalidValue,
    },
    /// The issuer's address is part of every token, so callers must be able to dial it.
    #[error("--issuer-listen {0}: nobody can call this address; give one that sidecars reach")]
    Unspecified(SocketAddr),
    /// One of the parts ended, and the rest is of no use without it.
    #[error("{part} ended by itself: {detail}; start the operator again, and report it if it stays")]
    Ended {
        /// Which.
        part: &'static str,
        /// Why, if it said so.
        detail: String,
    },
}
