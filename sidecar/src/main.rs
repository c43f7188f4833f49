//! `fapi-sidecar`: the library, with a command line and an exit code.

use std::process::ExitCode;

use clap::Parser;
use sidecar::{args::Args, run::run};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args = Args::parse();
    // Decisions go to standard output; what is said to people about the process itself goes to standard error.
    let level = EnvFilter::builder().with_env_var("FAPI_LOG").try_from_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().flatten_event(true).with_writer(std::io::stderr).with_env_filter(level).init();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fapi-sidecar: {error}");
            ExitCode::FAILURE
        }
    }
}
