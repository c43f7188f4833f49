//! `fapictl status`: who runs which policy, who lags, and where the holes are.

mod render;
mod report;
#[cfg(test)]
mod tests;

use self::report::Report;
use crate::args::StatusArgs;
use crate::cluster::{Cluster, Scope, Workloads};
use crate::failure::Failure;
use crate::rotate;

/// Shows it.
pub(crate) async fn run(args: &StatusArgs) -> Result<(), Failure> {
    if let Some(state) = &args.state {
        print!("{}", render::rotation_alone(rotate::in_folder(state)?.as_ref(), args.output));
        return Ok(());
    }
    let cluster = Cluster::connect(&args.connection).await?;
    cluster.version().await?;
    let of_context = Scope::Namespace(cluster.namespace.clone());
    let scope = Scope::of(args.namespace.as_deref(), args.all_namespaces, of_context);
    let workloads = Workloads::gather(&cluster, &scope, &args.connection.operator_namespace).await;
    print!("{}", render::render(&Report::of(&workloads), args.output));
    Ok(())
}
