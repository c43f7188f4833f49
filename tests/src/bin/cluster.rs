//! A Kubernetes on this machine for a person: `cluster up [NAME]`, `cluster down [NAME]`, which also takes down what tests that were
//! ended have left; `cluster able` says whether it can have one, and `cluster rights` which rights of operators no test has needed.

use std::process::ExitCode;

use e2e::cluster::{Cluster, NODES, kept, lacking, missing_for_node, not_asked, remove_abandoned, take_down};

/// The name of a cluster that was given none.
const NAME: &str = "dev";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let name = args.get(1).map_or(NAME, String::as_str);
    match args.first().map(String::as_str) {
        Some("up") => up(name),
        Some("down") => down(name),
        Some("able") if able(&lacking()) => ExitCode::SUCCESS,
        Some("able") => ExitCode::FAILURE,
        Some("rights") => rights(),
        _ => {
            eprintln!("usage: cluster up [NAME] | cluster down [NAME] | cluster able | cluster rights");
            ExitCode::FAILURE
        }
    }
}

fn able(missing: &[String]) -> bool {
    if !missing.is_empty() {
        eprintln!("a cluster cannot run here; missing:\n  {}", missing.join("\n  "));
    }
    missing.is_empty()
}

fn rights() -> ExitCode {
    let unused = not_asked();
    if unused.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "operators have rights that no test has needed; take them away (operator/src/kubernetes/rights.rs), or try what they are for:\n  {}",
        unused.join("\n  ")
    );
    ExitCode::FAILURE
}

fn up(name: &str) -> ExitCode {
    if !able(&missing_for_node()) {
        return ExitCode::FAILURE;
    }
    let kubeconfig = match kept(name) {
        Some(kubeconfig) => {
            eprintln!("the cluster {name} is there already; `make cluster-down` removes it");
            kubeconfig
        }
        None => {
            if take_down(name) {
                eprintln!(
                    "of the cluster {name} only remains were there, and its API server did not answer; it begins anew"
                );
            }
            Cluster::keep(name)
        }
    };
    println!("export KUBECONFIG={}", kubeconfig.display());
    // What `ctr` reads, so that images find their way to this node and to no other containerd.
    println!("export CONTAINERD_ADDRESS={}", kubeconfig.with_file_name(NODES[0]).join("run/containerd.sock").display());
    ExitCode::SUCCESS
}

fn down(name: &str) -> ExitCode {
    if !take_down(name) {
        eprintln!("there is no cluster {name}");
    }
    remove_abandoned();
    ExitCode::SUCCESS
}
