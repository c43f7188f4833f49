//! `fapictl`: what is wrong with a mesh in a cluster (`check`) and how it does (`status`); a whole mesh on one machine (`demo`),
//! and the three tools with which anyone can attack it by hand: an identity, a token, a proof.
//!
//! | module | what it is |
//! |---|---|
//! | `args` | the command line |
//! | `failure` | what every command says when it cannot go on, and the exit codes |
//! | `cluster` | an API server and what it knows of a mesh; every question has a deadline |
//! | `check` | facts to findings with remedies |
//! | `status` | the same facts to tables |
//! | `rotate` | asks for another root |
//! | `completion` | scripts for shells |
//! | `inject` | the sidecar into YAML documents, and out of them |
//! | `identity` | who the pods of a cluster are; enrols as a workload, keeps the certificate in a folder |
//! | `token`, `proof` | asks the issuer for a token; makes DPoP proofs with the key kept beside it |
//! | `app` | the plain-HTTP program that the demo puts behind each sidecar |
//! | `raw` | bytes over TCP and TLS, for clients that must be able to misbehave |
//! | `demo` | starts the mesh, plays the story, ends everything it started |

mod app;
mod args;
mod check;
mod clock;
mod cluster;
mod completion;
mod crypto;
mod demo;
mod failure;
mod files;
mod identity;
mod inject;
mod jose;
mod proof;
mod raw;
mod rotate;
mod status;
mod table;
mod token;
mod wait;
mod with_parent;

pub use args::Args;
use args::Command;
use failure::Failure;
use std::process::ExitCode;
use tokio::task::LocalSet;

/// Runs one command to its end. The exit code is 0 when it did what it says, 1 when it ran and the
/// answer is no; usage errors (2) end in the argument parser.
pub fn main(args: Args) -> ExitCode {
    // Before any runtime: this one becomes another program.
    if let Command::WithParent(args) = args.command {
        return finish(with_parent::run(&args));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("no runtime could be started", error, "look at the limits of this process"));
    finish(runtime.and_then(|runtime| LocalSet::new().block_on(&runtime, run(args.command))))
}

async fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Check(args) => check::run(&args).await,
        Command::Status(args) => status::run(&args).await.map(|()| ExitCode::SUCCESS),
        Command::RotateRoot(args) => rotate::run(&args).await.map(|()| ExitCode::SUCCESS),
        Command::Completion(args) => completion::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Demo(args) => demo::run(args).await,
        Command::Attack(args) => demo::attack(args).await,
        Command::Identity(args) => identity::run(&args).await,
        Command::Token(args) => token::run(&args).await.map(|()| ExitCode::SUCCESS),
        Command::Proof(args) => proof::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Inject(args) => inject::inject(args).map(|()| ExitCode::SUCCESS),
        Command::Uninject(args) => inject::uninject(&args).map(|()| ExitCode::SUCCESS),
        Command::App(args) => app::run(args).await,
        Command::WithParent(args) => with_parent::run(&args),
    }
}

fn finish(outcome: Result<ExitCode, Failure>) -> ExitCode {
    outcome.unwrap_or_else(|failure| {
        eprintln!("fapictl: {failure}");
        ExitCode::from(1)
    })
}
