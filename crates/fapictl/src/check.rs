//! `fapictl check`: facts are gathered, judged by rules that are functions of them, and told. What is wrong has a remedy.

mod before;
mod definitions;
mod finding;
mod images;
mod installed;
mod objects;
mod pods;
mod probe;
mod render;
mod rights;
mod versions;
mod webhooks;

use std::process::ExitCode;

use self::finding::{Finding, Outcome};
use crate::args::CheckArgs;
use crate::cluster::{Cluster, Scope};
use crate::failure::Failure;

/// Checks; the code is 1 if anything must be mended.
pub(crate) async fn run(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let scope = Scope::of(args.namespace.as_deref(), args.all_namespaces, Scope::All);
    let operator_namespace = &args.connection.operator_namespace;
    let cluster = Cluster::connect(&args.connection).await?;
    let version = cluster.version().await?;
    let findings = if args.pre {
        before::Before::gather(&cluster, version, &scope, operator_namespace).await.judge()
    } else {
        installed::Installed::gather(&cluster, version, &scope, operator_namespace).await.judge()
    };
    print!("{}", render::render(&findings, args.output));
    Ok(if passes(&findings) { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn passes(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.outcome != Outcome::Failed)
}

#[cfg(test)]
mod tests;
