//! `fapi-operator`: the library, with a command line and an exit code.

use std::process::ExitCode;

use clap::Parser;
use operator::{Args, run};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args = Args::parse();
    let level = EnvFilter::builder().with_env_var("FAPI_LOG").try_from_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().flatten_event(true).with_writer(std::io::stderr).with_env_filter(level).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(args)).map_err(|error| error.to_string()),
        Err(error) => Err(format!("cannot start threads: {error}; raise the limit of processes and files")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error, "the operator ends");
            eprintln!("fapi-operator: {error}");
            ExitCode::FAILURE
        }
    }
}
