//! The flags of commands that ask a cluster; they mean what they mean to kubectl.

use std::path::PathBuf;

use operator::names;

use super::{Output, workload};

/// Which cluster, and as whom.
#[derive(Debug, clap::Args)]
pub(crate) struct ConnectionArgs {
    /// The context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The kubeconfig [default: KUBECONFIG, else ~/.kube/config, else the cluster that this runs in]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The namespace that the operator runs in
    #[arg(long, value_name = "NAME", default_value = names::NAMESPACE)]
    pub(crate) operator_namespace: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    /// Before anything is installed: whether the cluster can have a mesh, and whether you may install it
    #[arg(long)]
    pub(crate) pre: bool,
    /// Look at the workloads of this namespace alone, and try the injection there [default: all namespaces]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Look at the workloads of all namespaces, which is the default
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
    /// How the findings are told: lines for people, or one JSON document
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    /// The namespace to show [default: that of the context]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Show a mesh without a cluster, by the state folder of its operator: how the rotation of its root goes on
    #[arg(long, value_name = "DIR", conflicts_with_all = ["namespace", "all_namespaces", "context", "kubeconfig"])]
    pub(crate) state: Option<PathBuf>,
    /// Show all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
    /// How it is told: tables for people, or one JSON document
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, clap::Args)]
pub(crate) struct IdentityArgs {
    /// The pod to ask [default: every pod of the namespace that has a sidecar]
    #[arg(value_name = "POD", conflicts_with_all = ["state", "all_namespaces"])]
    pub(crate) pod: Option<String>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    /// The namespace to ask in [default: that of the context]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Ask in all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
    /// How it is told: a table for people, or one JSON document
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) enrolment: Option<Enrolment>,
}

/// What it takes to become a workload of a mesh on this machine.
#[derive(Debug, clap::Args)]
pub(crate) struct Enrolment {
    /// Enrol: the state folder of the operator (the demo's --state)
    #[arg(long, value_name = "DIR", requires_all = ["workload", "out"], required = false)]
    pub(crate) state: PathBuf,
    /// The workload to enrol as: its namespace and name
    #[arg(long, value_name = "NS/NAME", value_parser = workload, requires = "state", required = false)]
    pub(crate) workload: (String, String),
    /// Where cert.pem, chain.pem, key.pem and ca.pem go
    #[arg(long, value_name = "DIR", requires = "state", required = false)]
    pub(crate) out: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    /// The state folder of an operator without a cluster
    #[arg(long, value_name = "DIR", conflicts_with_all = ["context", "kubeconfig"])]
    pub(crate) state: Option<PathBuf>,
    /// What the rotation is called: asking again by the same name changes nothing [default: root- and the time]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}
