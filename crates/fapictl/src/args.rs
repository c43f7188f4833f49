//! The command line, as clap reads it.
#![allow(rustdoc::bare_urls, reason = "clap shows these texts in a terminal")]

mod cluster;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use fapi::TrustDomain;
use operator::inject::Loosening;
use operator::names;

pub(crate) use self::cluster::{CheckArgs, ConnectionArgs, Enrolment, IdentityArgs, RotateArgs, StatusArgs};

/// Check, see and attack a mesh that gives every call mutual TLS and a token bound to its sender.
///
/// As kubectl-fapi on the PATH it is a plugin of kubectl: `kubectl fapi check`.
#[derive(Debug, Parser)]
#[command(name = "fapictl", version)]
pub struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Look for what is wrong with a mesh in a cluster, or (--pre) with a cluster that is to have one
    Check(CheckArgs),
    /// Show a mesh in a cluster: who runs which policy, who lags, and where its holes are
    Status(StatusArgs),
    /// Replace the root certificate of a mesh, step by step, while it works
    RotateRoot(RotateArgs),
    /// Start a whole mesh on this machine, play the story, attack it, end it
    Demo(DemoArgs),
    /// Attack a mesh that is there, with identities that were stolen from it: a folder says where it is
    #[command(hide = true)]
    Attack(AttackArgs),
    /// Show who the pods of a cluster are; or (--state) enrol as a workload of a mesh on this machine
    Identity(IdentityArgs),
    /// Ask the issuer for an access token and print it
    Token(TokenArgs),
    /// Make a DPoP proof with the key that `token --dpop` kept, and print it
    Proof(ProofArgs),
    /// Bring the sidecar into the workloads of YAML documents: Pods and whatever has a pod template
    Inject(InjectArgs),
    /// Take the sidecar out of the workloads of YAML documents again
    Uninject(UninjectArgs),
    /// Print what a shell needs to complete commands and flags
    Completion(CompletionArgs),
    /// The plain-HTTP program behind each sidecar of the demo
    #[command(hide = true)]
    App(AppArgs),
    /// Become another program that ends when the caller ends
    #[command(hide = true)]
    WithParent(WithParentArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Stay up after the story, until Ctrl-C, and print commands to paste
    #[arg(long)]
    pub(crate) keep: bool,
    /// Only start the mesh, and keep it: no story, no attacks
    #[arg(long, requires = "keep")]
    pub(crate) no_story: bool,
    /// How the outcome is told: a table, or one JSON object a step
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// Where the mesh keeps everything; an empty folder, or one of an earlier demo, which is emptied
    /// [default: a new temporary folder, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Where fapi-operator and fapi-sidecar are [default: beside fapictl]
    #[arg(long, value_name = "DIR")]
    pub(crate) bin_dir: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AttackArgs {
    /// The folder of a demo that runs (`demo --keep`), or one like it of another mesh of the bank
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,
    /// The attacker is an app of the mesh: it runs in the network of the pod of `intruder`, whose sidecar must stop each attack
    #[arg(long)]
    pub(crate) from_mesh: bool,
    /// How the outcome is told: a table, or one JSON object a step
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// Where fapi-operator and fapi-sidecar are [default: beside fapictl]
    #[arg(long, value_name = "DIR")]
    pub(crate) bin_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TokenArgs {
    /// A folder made by `fapictl identity`
    #[arg(long, value_name = "DIR")]
    pub(crate) identity: PathBuf,
    /// The mesh issuer: `issuer` of demo.json
    #[arg(long, value_name = "URL")]
    pub(crate) issuer: String,
    /// The service the token is for, as https://SERVICE.NAMESPACE
    #[arg(long)]
    pub(crate) audience: String,
    /// The scopes to ask for [default: all that the service grants this caller]
    #[arg(long)]
    pub(crate) scope: Option<String>,
    /// Bind the token to a proof key instead of the certificate; the key is kept as dpop.key
    #[arg(long)]
    pub(crate) dpop: bool,
    /// The namespace that the operator's own identity is in
    #[arg(long, value_name = "NAME", default_value = names::NAMESPACE)]
    pub(crate) operator_namespace: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ProofArgs {
    /// The folder that `fapictl token --dpop` was given
    #[arg(long, value_name = "DIR")]
    pub(crate) identity: PathBuf,
    /// The method of the request that the proof is for
    #[arg(long)]
    pub(crate) method: String,
    /// The address of the request, as https://SERVICE.NAMESPACE/path
    #[arg(long)]
    pub(crate) url: String,
    /// The access token that goes with it
    #[arg(long, conflicts_with = "token_file")]
    pub(crate) token: Option<String>,
    /// A file with the access token
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The nonce that the server asked for (its DPoP-Nonce header)
    #[arg(long)]
    pub(crate) nonce: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct InjectArgs {
    #[command(flatten)]
    pub(crate) documents: DocumentArgs,
    /// The sidecar's image
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: String,
    /// When the image is pulled
    #[arg(long, default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub(crate) pull_policy: String,
    /// The operator's control server, as pods reach it
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) control: String,
    /// The trust domain of the mesh
    #[arg(long, default_value = "cluster.local", value_parser = TrustDomain::parse)]
    pub(crate) trust_domain: TrustDomain,
    /// The namespace that the operator runs in
    #[arg(long, value_name = "NAME", default_value = names::NAMESPACE)]
    pub(crate) operator_namespace: String,
    /// What pods may loosen by annotation, as in the FapiMesh: OptOut, SkipPorts, Uid
    #[arg(long, value_name = "LOOSENING", value_delimiter = ',', value_parser = loosening)]
    pub(crate) allow: Vec<Loosening>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct UninjectArgs {
    #[command(flatten)]
    pub(crate) documents: DocumentArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DocumentArgs {
    /// Files of YAML documents; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub(crate) files: Vec<PathBuf>,
    /// The namespace of documents that name none
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AppArgs {
    /// Its name, as it stands in answers
    #[arg(long)]
    pub(crate) name: String,
    /// Where it listens
    #[arg(long, required_unless_present = "once")]
    pub(crate) listen: Option<SocketAddr>,
    /// The service it calls, as any plain program would: http://ledger.bank
    #[arg(long)]
    pub(crate) calls: Option<String>,
    /// Instead of serving, call once in this way (http1, http2, grpc) and end; with 0 if the answer was 200
    #[arg(long, requires = "calls", conflicts_with = "listen")]
    pub(crate) once: Option<String>,
    /// The proxy it was told to use [default: none, it calls the service itself]
    #[arg(long, env = "http_proxy")]
    pub(crate) http_proxy: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WithParentArgs {
    /// The process that starts this one
    #[arg(long)]
    pub(crate) parent: u32,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub(crate) command: Vec<std::ffi::OsString>,
}

fn workload(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("write it as NAMESPACE/NAME, as in bank/shop-1".to_owned()),
    }
}

fn loosening(text: &str) -> Result<Loosening, String> {
    let known = [("OptOut", Loosening::OptOut), ("SkipPorts", Loosening::SkipPorts), ("Uid", Loosening::Uid)];
    let found = known.into_iter().find(|(name, _)| *name == text);
    found.map(|(_, loosening)| loosening).ok_or_else(|| "write OptOut, SkipPorts or Uid".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_workload_is_a_namespace_and_a_name() {
        assert_eq!(workload("bank/shop-1").unwrap(), ("bank".to_owned(), "shop-1".to_owned()));
        for wrong in ["bank", "/shop", "bank/", "a/b/c"] {
            assert!(workload(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn usage_errors_end_with_code_two() {
        let error = Args::try_parse_from(["fapictl", "token"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}
