//! The API server of a cluster, as every part that needs it gets to it, but for the source, which watches by itself.

mod changes;
mod desk;
mod forget;
mod lease;
mod rights;
pub(crate) mod secret;
#[cfg(test)]
mod tests;
mod trust_bundles;
mod users;

use std::time::Duration;

use kube::{Client, Config};

pub(crate) use self::changes::{Changes, SecretWatch};
pub(crate) use self::desk::Desk;
pub(crate) use self::forget::forget;
pub(crate) use self::lease::{Candidate, Leadership};
pub use self::rights::{RIGHTS, Right, Scope};
pub(crate) use self::secret::{Loss, Secret};
pub(crate) use self::trust_bundles::TrustBundles;
pub(crate) use self::users::{Users, users};

/// An API server nearby.
const CONNECT: Duration = Duration::from_secs(5);

/// Why the API server cannot be called; the message says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// No cluster is known.
    #[error("no cluster is known: {0}; run in a cluster, or set KUBECONFIG")]
    Config(#[from] kube::config::InferConfigError),
    /// What is known of it cannot be used.
    #[error("the cluster cannot be called: {0}; mend the certificates and keys that KUBECONFIG names")]
    Client(#[from] kube::Error),
    /// The operating system refuses.
    #[error("cannot start a thread: {0}; raise the limit of processes")]
    Thread(std::io::Error),
}

/// A client of the cluster of KUBECONFIG, or else of the one that this process runs in. It belongs to the runtime that it is
/// made on.
pub(crate) async fn client() -> Result<Client, ClientError> {
    let mut config = Config::infer().await?;
    config.connect_timeout = Some(CONNECT);
    Ok(Client::try_from(config)?)
}
