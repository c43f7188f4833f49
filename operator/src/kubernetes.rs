//! The API server of a cluster, as every part that needs it gets to it, but for the source, which watches by itself.

use std::time::Duration;

use kube::{Client, Config};

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
}

/// A client of the cluster of KUBECONFIG, or else of the one that this process runs in. It belongs to the runtime that it is
/// made on.
pub(crate) async fn client() -> Result<Client, ClientError> {
    let mut config = Config::infer().await?;
    config.connect_timeout = Some(CONNECT);
    Ok(Client::try_from(config)?)
}
