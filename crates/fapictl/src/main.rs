//! The command line of fapi-mesh. Everything it does is in the library beside it.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    fapictl::main(fapictl::Args::parse())
}
