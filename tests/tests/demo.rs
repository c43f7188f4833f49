//! `fapictl demo` as its users see it: exit code, output, and what is left afterwards.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use e2e::{Mesh, Scratch, living, program, wait_for};
use serde_json::Value;

/// Every attack that the demo must show, by the reason that refuses it.
const REASONS: [&str; 25] = [
    "peer_certificate_missing",
    "peer_certificate_untrusted",
    "trust_domain_not_allowed",
    "peer_identity_mismatch",
    "token_missing",
    "binding_missing",
    "binding_cert_mismatch",
    "caller_mismatch",
    "bound_token_sent_as_bearer",
    "signature_invalid",
    "alg_not_allowed",
    "token_expired",
    "audience_mismatch",
    "scope_insufficient",
    "rule_not_matched",
    "proof_replayed",
    "proof_htu",
    "proof_htm",
    "proof_ath",
    "proof_key_mismatch",
    "proof_stale",
    "proof_nonce_required",
    "request_malformed",
    "revoked",
    "destination_unknown",
];

#[test]
fn two_demos_side_by_side_come_out_as_stated() {
    let scratch = Scratch::new("demo");
    let folders = [scratch.path().join("one"), scratch.path().join("two")];
    let demos = folders.each_ref().map(|folder| start(folder));
    for (demo, folder) in demos.into_iter().zip(&folders) {
        let output = demo.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let rows: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let failed: Vec<&Value> = rows.iter().filter(|row| row["pass"] != true).collect();
        assert!(failed.is_empty(), "{failed:#?}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        whole_story(&rows);
        nothing_left(folder);
    }
}

fn start(folder: &Path) -> Child {
    Command::new(program("fapictl"))
        .args(["demo", "--output", "json", "--state"])
        .arg(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn whole_story(rows: &[Value]) {
    for row in rows {
        assert_eq!(row.as_object().unwrap().len(), 4, "{row}");
        assert_eq!(row["expect"], row["observed"], "a step passes only if all is as expected");
        let status = &row["observed"]["status"];
        assert!(status.is_null() || status.is_u64(), "{row}");
    }
    for chapter in 1..=8 {
        let name = format!("{chapter} ");
        assert!(
            rows.iter().any(|row| row["step"].as_str().unwrap().starts_with(&name)),
            "chapter {chapter} is missing"
        );
    }
    for reason in REASONS {
        let shown = rows.iter().any(|row| row["observed"]["reason"] == reason);
        assert!(shown, "no step shows {reason}");
    }
}

fn nothing_left(folder: &Path) {
    assert_eq!(living(folder), [], "processes were left behind");
    let description: Value = serde_json::from_slice(&std::fs::read(folder.join("demo.json")).unwrap()).unwrap();
    for workload in description["workloads"].as_array().unwrap() {
        for address in ["inbound", "outbound", "app", "admin"] {
            let address = workload[address].as_str().unwrap();
            assert!(TcpStream::connect(address).is_err(), "somebody still listens on {address}");
        }
    }
}

#[test]
fn a_mesh_that_is_kept_can_be_attacked() {
    let mesh = Mesh::start("attacked");
    let mut attack = Command::new(program("fapictl"));
    let output = attack.args(["attack", "--output", "json", "--state"]).arg(mesh.folder()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let rows: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let failed: Vec<&Value> = rows.iter().filter(|row| row["pass"] != true).collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(failed.is_empty() && output.status.success(), "{failed:#?}\n{errors}");
    assert!(rows.len() >= 40, "{} steps", rows.len());
}

#[test]
fn ctrl_c_ends_everything_in_order() {
    let mut mesh = Mesh::start("interrupted");
    assert!(living(mesh.folder()).len() > 4, "a mesh has more processes");
    mesh.demo().interrupt();
    assert_eq!(mesh.demo().wait(20).code(), Some(0));
    nothing_left(mesh.folder());
}

#[test]
fn a_killed_demo_leaves_nothing_behind() {
    let mut mesh = Mesh::start("killed");
    assert!(living(mesh.folder()).len() > 4, "a mesh has more processes");
    mesh.demo().kill();
    wait_for("the kernel to end the others", 10, || living(mesh.folder()).is_empty().then_some(()));
}

#[test]
fn a_missing_program_is_named_with_a_remedy() {
    let scratch = Scratch::new("empty");
    let output = Command::new(program("fapictl")).args(["demo", "--bin-dir"]).arg(scratch.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    for part in ["fapi-operator", "where:", "to do:", "--bin-dir"] {
        assert!(said.contains(part), "{said}");
    }
    let usage = Command::new(program("fapictl")).arg("sing").output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
}
