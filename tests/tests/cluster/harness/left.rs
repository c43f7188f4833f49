//! What goes although its owner does not take it down: clusters of tests that were killed, and those that people have.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use e2e::cluster::{ApiServer, Cluster, turn};
use e2e::{Running, Scratch, living, signal, wait_for};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::traces;

/// Where a helper of a test writes the folder of its cluster.
const ABANDONED: &str = "FAPI_CLUSTER_ABANDONED";

/// Not a test by itself: the process that the next one kills.
#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn is_killed_while_it_has_a_cluster() {
    let Some(file) = std::env::var_os(ABANDONED) else { return };
    let cluster = Cluster::start_two_nodes("abandoned");
    be_killed(&file, &json!({"folder": cluster.folder(), "networks": cluster.networks()}));
}

/// The same, of one after it.
#[test]
#[ignore = "needs an API server: make test-cluster"]
fn is_killed_while_it_has_an_api_server() {
    let Some(file) = std::env::var_os(ABANDONED) else { return };
    let server = ApiServer::start("abandoned");
    be_killed(&file, &json!({"folder": server.kubectl().kubeconfig().parent(), "networks": []}));
}

fn be_killed(file: &OsStr, known: &Value) {
    fs::write(file, known.to_string()).unwrap();
    wait_for("being killed", 120, || None::<()>);
}

/// Kills a test while it has a cluster; the folder of that, its network namespaces, and how many processes lived on.
fn abandon(test: &str) -> (PathBuf, Vec<String>, usize) {
    let scratch = Scratch::new("abandoned");
    let file = scratch.path().join("known");
    let mut helper = Running::start(
        Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", test])
            .env(ABANDONED, &file)
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    let known: Value = wait_for("a cluster to be abandoned", 400, || {
        assert!(helper.ended().is_none(), "the helper has ended by itself");
        serde_json::from_str(&fs::read_to_string(&file).ok()?).ok()
    });
    // Another test that starts a cluster takes it down.
    let turn = turn();
    helper.kill();
    let folder = PathBuf::from(known["folder"].as_str().unwrap());
    let left = living(&folder).len();
    drop(turn);
    (folder, serde_json::from_value(known["networks"].clone()).unwrap(), left)
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn what_a_killed_test_left_goes_when_the_next_one_starts() {
    let (folder, networks, left) = abandon("harness::left::is_killed_while_it_has_a_cluster");
    assert_eq!(networks.len(), 2);
    assert!(left > 10, "both nodes live on");
    drop(ApiServer::start("next"));
    assert_eq!(traces(&folder, &networks), Vec::<String>::new());
    fs::remove_dir_all(folder).unwrap();
}

#[test]
#[ignore = "needs an API server: make test-cluster"]
fn what_a_killed_test_left_goes_when_a_person_takes_clusters_down() {
    let running = ApiServer::start("running");
    let (folder, _, left) = abandon("harness::left::is_killed_while_it_has_an_api_server");
    assert_eq!(left, 2, "etcd and the API server live on");
    let said = cluster("down", "nobody-s").unwrap();
    assert!(said.contains("there is no cluster nobody-s"), "{said}");
    assert_eq!(living(&folder), []);
    running.kubectl().run(&["get", "--raw=/readyz"]);
    fs::remove_dir_all(folder).unwrap();
}

/// What `make cluster` and `make cluster-down` run: everything that it says, complaints last.
fn cluster(what: &str, name: &str) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_cluster")).args([what, name]).output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    if output.status.success() { Ok(text) } else { Err(text) }
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn a_cluster_for_a_person_is_one_that_answers() {
    let name = format!("person-{}", std::process::id());
    let up = || {
        let said = cluster("up", &name).unwrap();
        let line = said.lines().find_map(|line| line.strip_prefix("export KUBECONFIG=")).unwrap();
        (PathBuf::from(line), said)
    };
    let (kubeconfig, first) = up();
    let (again, second) = up();
    assert!(kubeconfig == again && second.contains("is there already"), "{first}\n{second}");

    let folder = kubeconfig.parent().unwrap();
    let of_server = |(_, line): &(u32, String)| line.contains("kube-apiserver ");
    let (server, _) = living(folder).into_iter().find(of_server).unwrap();
    signal(server, Signal::KILL);
    let (anew, third) = up();
    assert!(kubeconfig == anew && !third.contains("is there already"), "{third}");
    assert!(living(folder).iter().any(of_server), "{third}");
    cluster("down", &name).unwrap();
    assert!(!folder.exists() && living(folder).is_empty());
}
