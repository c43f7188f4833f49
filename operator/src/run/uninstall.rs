//! The two commands of the chart's end: asking whether anybody still needs the mesh, and removing what is left of it.

use std::future::Future;
use std::time::Duration;

use kube::Client;
use tokio::time::timeout;

use super::error::Failure;
use crate::args::{Args, SourceArg};
use crate::kubernetes;

/// A few hundred objects are deleted one by one, a hundred thousand pods read in pages.
const PATIENCE: Duration = Duration::from_secs(100);

/// It is an error if pods of the cluster have a sidecar, or nobody can say.
pub(super) async fn check_unused(args: &Args) -> Result<(), Failure> {
    let client = client(args, "--check-unused").await?;
    let users = within(kubernetes::users(client)).await.map_err(Failure::Users)?;
    if users.count == 0 { Ok(()) } else { Err(Failure::Used(users)) }
}

/// What an operator has made in a cluster goes.
pub(super) async fn forget(args: &Args) -> Result<(), Failure> {
    let client = client(args, "--forget").await?;
    within(kubernetes::forget(client, &args.operator_namespace)).await.map_err(Failure::Forget)
}

async fn client(args: &Args, flag: &'static str) -> Result<Client, Failure> {
    if args.source != SourceArg::Kubernetes {
        return Err(Failure::NoCluster(flag));
    }
    Ok(kubernetes::client().await?)
}

async fn within<T>(answer: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match timeout(PATIENCE, answer).await {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the API server took more than {} s", PATIENCE.as_secs())),
    }
}
