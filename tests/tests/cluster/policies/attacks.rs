//! What thieves do, from pods: every attack of the demo, and what becomes of a pod that is revoked.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::{Command, Output};

use e2e::cluster::Forward;
use e2e::cluster::bank::{PAYMENTS, call, caller, ends_with, is_refused, passes};
use e2e::cluster::load::command_in;
use e2e::cluster::loot::fill;
use e2e::cluster::platform::Platform;
use e2e::{Scratch, program, wait_for};
use serde_json::{Value, json};

/// Chapters of the demo that are no attack on a mesh as it is, and where a cluster has the same.
const ELSEWHERE: [(&str, &str); 7] = [
    ("1 ", "calls that pass: every test here makes them"),
    ("3 ", "policies that change: the scenarios before this one"),
    ("4 ", "rotation of certificates: `rotation`"),
    ("5 ", "an operator that is away: `faults`"),
    ("6 ", "`Audit`: a scenario before this one"),
    ("7 ", "revocation: the scenario after this one, by an object"),
    ("8 ", "handing on takes policies of its own, and is decided by operator and sidecar as in a folder"),
];
/// What an app of the mesh does not try, beside these.
const NOT_FROM_MESH: [(&str, &str); 3] = [
    ("2 a pod's certificate posing as the operator", "pod and impostor are in one place: nothing is sent to others"),
    ("2 the same in trailers", "they come with requests that do not get that far"),
    ("2 a token that has expired", "a token does not get that far, whatever it is"),
];

/// With certificates of pods and with the keys of the mesh itself. From a pod beside the mesh each is refused where it arrives; from
/// a pod of the mesh none even leaves, neither as TLS of its own nor in plain HTTP.
pub(super) fn every_attack_of_the_demo_fails_from_pods(platform: &Platform) {
    let kubectl = platform.kubectl();
    kubectl.apply(&caller("stranger", "outside", "payments.bank", &json!({}))).unwrap();
    platform.is("Ready", "outside", "pod/stranger");
    let stranger = kubectl.get(&["pod", "stranger", "-n", "outside"]);
    let scratch = Scratch::new("attack");
    let _logs = fill(scratch.path(), platform);
    let attack = |pod: &Value, more: &[&str]| {
        let mut attack = command_in(pod, program("fapictl"));
        let output = attack.args(["attack", "-o", "json", "--state"]).arg(scratch.path()).args(more).output().unwrap();
        let rows = rows(&output);
        let failed: Vec<&Value> = rows.iter().filter(|row| row["pass"] != true).collect();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(failed.is_empty() && output.status.success(), "{failed:#?}\n{errors}");
        eprintln!("{} attacks from {} came out as stated", rows.len(), pod["metadata"]["name"]);
        names(&rows)
    };
    // How it comes out there is not asked here; but it has to come to its end, which takes another try where time was short.
    let play = || Command::new(program("fapictl")).args(["demo", "-o", "json"]).output().unwrap();
    let demo = Some(play()).filter(|demo| demo.status.success()).unwrap_or_else(play);
    eprintln!("{}", String::from_utf8_lossy(&demo.stderr));
    let demo = names(&rows(&demo));
    let beside = attack(&stranger, &[]);
    assert_eq!(beside, without(&demo, &ELSEWHERE), "what the demo shows and pods do not try, or the other way round");
    let inside = attack(&platform.pod("outside", "intruder"), &["--from-mesh"]);
    assert_eq!(inside, without(&beside, &NOT_FROM_MESH), "what pods beside the mesh try and those of it do not");
}

/// The steps that fapictl has told of.
fn rows(output: &Output) -> Vec<Value> {
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn names(rows: &[Value]) -> BTreeSet<String> {
    rows.iter().map(|row| row["step"].as_str().unwrap().to_owned()).collect()
}

/// The steps whose names begin with none of these, each of which is the beginning of one.
fn without(all: &BTreeSet<String>, left_out: &[(&str, &str)]) -> BTreeSet<String> {
    for (start, why) in left_out {
        assert!(all.iter().any(|step| step.starts_with(start)), "there is no {start} to leave out any more ({why})");
    }
    let played = |step: &&String| !left_out.iter().any(|(start, _)| step.starts_with(start));
    all.iter().filter(played).cloned().collect()
}

/// A pod that is revoked makes no call any more, other pods do, and what takes its place does.
pub(super) fn whoever_is_revoked_is_refused_and_nobody_else(platform: &Platform, shop: SocketAddr) {
    let kubectl = platform.kubectl();
    let payments = Forward::start(kubectl, "bank", "deployment/payments", 8080);
    let pod = platform.pod("bank", "shop");
    let (uid, name) = (&pod["metadata"]["uid"], pod["metadata"]["name"].as_str().unwrap());
    let revocation = json!({
        "apiVersion": "fapi-mesh.dev/v1alpha1", "kind": "Revocation", "metadata": {"name": "stolen"},
        "spec": {"podUid": uid, "expires": "2099-12-31T23:59:59Z"},
    });
    wait_for("a guarded call", 30, || passes(shop).then_some(()));
    kubectl.apply(&revocation.to_string()).unwrap();
    wait_for("the pod to be refused", 30, || is_refused(shop).then_some(()));
    platform.told("payments", &[("reason", "revoked")]);
    assert_ne!(call(shop, None)["status"], 200, "it stays so");
    let said = wait_for("a call of another pod", 30, || ends_with(payments.address(), 200));
    assert_eq!(said["answer"]["told"]["caller"], PAYMENTS, "{said}");
    // The pod itself is told nothing any more, and nobody waits for it.
    platform.is("Ready", "bank", "revocation/stolen");

    kubectl.run(&["delete", "pod", name, "-n", "bank"]);
    platform.rolled_out("bank", "shop");
    let shop = Forward::start(kubectl, "bank", "deployment/shop", 8080);
    wait_for("what takes its place to call", 60, || passes(shop.address()).then_some(()));
}
