//! `make bench`: our pair of sidecars and the floor in turns, on one pinned core, with the load on the other.
//!
//! What counts is `/proc` CPU of both proxies per answered request; medians over the rounds, and the ratio.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

mod load;
mod pair;
mod process;
mod report;

use load::{Load, Protocol};
use pair::{Between, Pair};

/// What can go wrong; the driver only ever reports it.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(about = "What a call through the mesh costs, against a bare hyper + rustls pair")]
struct Args {
    /// Turns of each pair and case; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of load a turn.
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// Connections to try.
    #[arg(long, value_delimiter = ',', default_values_t = [16])]
    connections: Vec<u32>,
    /// What is spoken between the two sidecars.
    #[arg(long, value_delimiter = ',', default_values_t = [Between::H1, Between::H2])]
    between: Vec<Between>,
    /// What the apps speak.
    #[arg(long, value_delimiter = ',', default_values_t = [Protocol::H1, Protocol::H2])]
    apps: Vec<Protocol>,
    /// The core of the proxies; load and app run on the other one.
    #[arg(long, default_value_t = 0)]
    proxy_core: u32,
    /// The core of load and app.
    #[arg(long, default_value_t = 1)]
    load_core: u32,
    /// Calls with a DPoP-bound token instead of a certificate-bound one.
    #[arg(long)]
    dpop: bool,
    /// Where the binaries are; default: beside this one.
    #[arg(long)]
    bin_dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let bins = match &args.bin_dir {
        Some(folder) => folder.clone(),
        None => process::own_folder()?,
    };
    let cores = pair::Cores { proxies: args.proxy_core, load: args.load_core };
    print!("{}", report::head(args.dpop));
    for app in &args.apps {
        for between in &args.between {
            let mesh = Pair::mesh(&bins, cores, *between, args.dpop)?;
            let floor = Pair::floor(&bins, cores, *between, *app)?;
            for connections in &args.connections {
                let load = Load { app: *app, connections: *connections, seconds: args.seconds, core: args.load_core };
                load.warm(&mesh)?;
                load.warm(&floor)?;
                let mut row = report::Row::new(*app, *between, *connections);
                for round in 0..args.rounds {
                    eprintln!("{app} apps, {between} between, {connections} connections: round {}", round + 1);
                    row.floor.push(load.measure(&floor)?);
                    row.mesh.push(load.measure(&mesh)?);
                }
                row.latency = Some((load.p99(&mesh)?, load.p99(&floor)?));
                println!("{row}");
            }
        }
    }
    Ok(())
}
