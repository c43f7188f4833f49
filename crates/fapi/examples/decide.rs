//! Decides about requests of others: `decide` reads one case per line, a world and requests one after another, and writes a
//! line of verdicts for each. `decide nonces SECRET FIRST LAST` writes the nonces of these seconds. `make oracle` compares.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a tool for tests: what it cannot read ends it")]

#[path = "../tests/vectors/format.rs"]
#[allow(dead_code, reason = "only worlds and requests are read here")]
mod format;
#[path = "../tests/vectors/world.rs"]
mod world;

use std::io::{self, BufWriter, Write};

use fapi::{NonceMinter, ProvenTokens, UnixTime};
use format::{Asked, Expected, secret};
use serde::Deserialize;
use world::World;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    world: format::World,
    steps: Vec<Ask>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    /// Seconds since the epoch, if not the world's.
    clock: Option<u64>,
    request: Asked,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut out = BufWriter::new(io::stdout().lock());
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["nonces", hex, first, last] => {
            let minter = NonceMinter::new(secret(hex));
            for second in first.parse::<u64>().unwrap()..=last.parse().unwrap() {
                writeln!(out, "{}", minter.mint(UnixTime::from_secs(second))).unwrap();
            }
        }
        [] => {
            for line in io::stdin().lines() {
                writeln!(out, "{}", serde_json::to_string(&verdicts(&line.unwrap())).unwrap()).unwrap();
            }
        }
        _ => panic!("usage: decide [nonces SECRET FIRST LAST]"),
    }
    out.flush().unwrap();
}

/// All requests of a line come over one connection.
fn verdicts(line: &str) -> Vec<Expected> {
    let Line { world, steps } = serde_json::from_str(line).unwrap();
    let (world, mut proven) = (World::new(&world), ProvenTokens::new());
    steps.iter().map(|step| world.verdict(step.clock, &[], &step.request, &mut proven)).collect()
}
