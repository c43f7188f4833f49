//! `fapi-sidecar`: the library, with a command line and an exit code.

use std::{fmt::Display, process::ExitCode};

use clap::Parser;
use sidecar::{args::Args, ready::ReadyArgs, run::run};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    if std::env::args_os().nth(1).is_some_and(|word| word == "redirect") {
        let args = sidecar::redirect::RedirectArgs::parse_from(std::env::args_os().skip(1));
        return ended(sidecar::redirect::redirect(&args).map(|told| eprint!("{told}")));
    }
    if std::env::args_os().nth(1).is_some_and(|word| word == "ready") {
        return ended(sidecar::ready::ready(&ReadyArgs::parse_from(std::env::args_os().skip(1))));
    }
    let args = Args::parse();
    // Decisions go to standard output; what is said to people about the process itself goes to standard error.
    let level = EnvFilter::builder().with_env_var("FAPI_LOG").try_from_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().flatten_event(true).with_writer(std::io::stderr).with_env_filter(level).init();
    ended(run(&args))
}

fn ended<E: Display>(outcome: Result<(), E>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fapi-sidecar: {error}");
            ExitCode::FAILURE
        }
    }
}
