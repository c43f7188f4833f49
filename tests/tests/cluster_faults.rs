//! What a cluster loses and gets back while calls go on: its own parts, operators, certificates. No call fails, and afterwards new
//! pods join as before.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use e2e::cluster::bank::{call, caller};
use e2e::cluster::load::Load;
use e2e::cluster::platform::{HOME, OPERATORS, Platform, chart, took};
use e2e::cluster::{Forward, Kubectl, Part};
use e2e::{get, wait_for};
use serde_json::{Value, json};

/// Tokens are refreshed at half of this, so calls outlive the other half without an operator, and it is a little less long away.
const TOKENS: &str = "2m";
const AWAY: Duration = Duration::from_secs(40);
/// How many certificates each sidecar gets anew.
const ROTATIONS: u64 = 3;

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn calls_outlive_the_loss_of_every_part() {
    let mut platform = Platform::new("faults");
    platform.install_with(&["--set", "replicas=2"]);
    platform.open_the_bank();
    let shop = platform.pod("bank", "shop");
    {
        let app = Forward::start(platform.kubectl(), "bank", "deployment/shop", 8080);
        wait_for("the first guarded call", 60, || (call(app.address(), None)["status"] == 200).then_some(()));
    }
    an_upgrade_and_its_rollback_move_the_operator_alone(&platform, &shop);
    for part in [Part::ApiServer, Part::Etcd, Part::Containerd] {
        under_load(&platform.kubectl().clone(), &shop, &format!("{part:?} restarted"), || {
            platform.cluster.stop_part(part);
            // Long enough for whatever watches it to notice.
            pass(Duration::from_secs(3));
            platform.cluster.start_part(part);
        });
    }
    let kubectl = platform.kubectl();
    for holds in [false, true] {
        let what = if holds { "the operator that writes, killed" } else { "the other operator killed" };
        under_load(kubectl, &shop, what, || kill_an_operator(kubectl, holds));
    }
    all_operators_are_away(&platform);
    certificates_are_rotated(&platform);
}

/// Calls while something happens, and until a new pod of ledger is called: it has gone through webhook, enrolment, watches and
/// lookups of its callers.
fn under_load(kubectl: &Kubectl, shop: &Value, what: &str, happens: impl FnOnce()) {
    let load = Load::by(shop, 2);
    let began = Instant::now();
    happens();
    took(what, began);
    wait_for("the API server to take a change", 60, || {
        kubectl.attempt(&["rollout", "restart", "deployment/ledger", "-n", "bank"]).ok()
    });
    wait_for("a new ledger", 120, || {
        kubectl.attempt(&["rollout", "status", "-n", "bank", "deployment/ledger", "--timeout=60s"]).ok()
    });
    let before = load.calls();
    wait_for("calls of the new ledger", 30, || (load.calls() > before + 20).then_some(()));
    load.all_passed(what);
    took(&format!("{what}, and a new pod"), began);
}

/// Lets time pass, for what has no end that could be seen.
fn pass(time: Duration) {
    let began = Instant::now();
    wait_for("time to pass", time.as_secs() + 10, || (began.elapsed() >= time).then_some(()));
}

fn holder(kubectl: &Kubectl) -> String {
    let lease = kubectl.get(&["lease", "fapi-operator", "-n", HOME]);
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

fn operators(kubectl: &Kubectl) -> Vec<String> {
    let names = kubectl.run(&[&["get", "pods", "-o", "name"], &OPERATORS[..]].concat());
    names.lines().map(|line| line.trim_start_matches("pod/").to_owned()).collect()
}

/// Kills the operator that holds the Lease, or another, and waits until there are two and one holds it.
fn kill_an_operator(kubectl: &Kubectl, holds: bool) {
    let held = holder(kubectl);
    let all = operators(kubectl);
    let victim = all.iter().find(|name| held.starts_with(&***name) == holds);
    let victim = victim.unwrap_or_else(|| panic!("{held} holds the Lease, and there are {all:?}")).clone();
    kubectl.run(&["delete", "pod", "-n", HOME, &victim, "--grace-period=0", "--force"]);
    kubectl.run(&["rollout", "status", "-n", HOME, "deployment/fapi-operator", "--timeout=90s"]);
    wait_for("an operator that lives to hold the Lease", 60, || {
        let held = holder(kubectl);
        operators(kubectl).iter().any(|name| *name != victim && held.starts_with(&**name)).then_some(())
    });
}

/// Operator and sidecars of another name, then of the old one again: pods keep the sidecar that they have, and the pod of ledger
/// that comes meanwhile gets the one of that time, so each is called by neighbours of the other.
fn an_upgrade_and_its_rollback_move_the_operator_alone(platform: &Platform, shop: &Value) {
    let kubectl = platform.kubectl();
    for name in ["fapi-operator", "fapi-sidecar"] {
        platform.cluster.tag(&format!("fapi-mesh.dev/{name}:0.1.0"), &format!("fapi-mesh.dev/{name}:next"));
    }
    let images = || {
        let operator = kubectl.get(&["deployment", "fapi-operator", "-n", HOME])["spec"]["template"]["spec"].clone();
        let sidecar = |app: &str| platform.pod("bank", app)["spec"]["initContainers"][1]["image"].clone();
        [operator["containers"][0]["image"].clone(), sidecar("payments"), sidecar("ledger")]
            .map(|image| image.as_str().unwrap().rsplit(':').next().unwrap().to_owned())
    };
    assert_eq!(images(), ["0.1.0", "0.1.0", "0.1.0"]);
    under_load(kubectl, shop, "helm upgrade", || {
        let chart = chart("fapi-mesh");
        let tags = ["--set", "image.tag=next", "--set", "sidecar.image.tag=next"];
        let args = ["upgrade", "fapi-mesh", &chart, "-n", HOME, "--reuse-values", "--wait"];
        platform.helm(&[&args[..], &tags].concat());
    });
    assert_eq!(images(), ["next", "0.1.0", "next"]);
    under_load(kubectl, shop, "helm rollback", || {
        platform.helm(&["rollback", "fapi-mesh", "1", "-n", HOME, "--wait"]);
    });
    assert_eq!(images(), ["0.1.0", "0.1.0", "0.1.0"]);
}

/// Both operators go. Calls go on, pods that ask for a sidecar wait, others start; with the operators the waiting ones come.
fn all_operators_are_away(platform: &Platform) {
    let kubectl = platform.kubectl();
    kubectl.run(&[
        "patch",
        "fapimesh",
        "default",
        "--type=merge",
        "-p",
        &json!({"spec": {"tokenLifetime": TOKENS}}).to_string(),
    ]);
    // Tokens of before live for an hour; these pods have short ones from the beginning.
    let shop = restarted(platform);
    let load = Load::by(&shop, 2);
    kubectl.run(&["scale", "-n", HOME, "deployment/fapi-operator", "--replicas=0"]);
    wait_for("both operators to be gone", 60, || operators(kubectl).is_empty().then_some(()));
    let began = Instant::now();

    let asks = json!({"fapi-mesh.dev/inject": "enabled"});
    let refused = kubectl.apply(&caller("asks", "bank", "payments.bank", &asks)).unwrap_err();
    assert!(refused.contains("fapi-operator"), "{refused}");
    kubectl.run(&["scale", "-n", "bank", "deployment/ledger", "--replicas=2"]);
    kubectl.apply(&caller("does-not-ask", "bank", "payments.bank", &json!({}))).unwrap();
    platform.is("Ready", "bank", "pod/does-not-ask");
    wait_for("the ReplicaSet to say that it waits", 30, || {
        let events = kubectl.get(&["events", "-n", "bank", "--field-selector=reason=FailedCreate"]);
        events["items"].to_string().contains("fapi-operator").then_some(())
    });
    pass(AWAY.saturating_sub(began.elapsed()));
    let ledgers = kubectl.run(&["get", "pods", "-n", "bank", "-l", "app=ledger", "-o", "name"]);
    assert_eq!(ledgers.lines().count(), 1, "none starts without a sidecar: {ledgers}");

    kubectl.run(&["scale", "-n", HOME, "deployment/fapi-operator", "--replicas=2"]);
    kubectl.run(&["rollout", "status", "-n", HOME, "deployment/fapi-operator", "--timeout=90s"]);
    took("no operator at all", began);
    platform.rolled_out("bank", "ledger");
    took("until the pod that waited is ready", began);
    // Until tokens of now are in use.
    pass(Duration::from_secs(60).saturating_sub(began.elapsed()));
    load.all_passed("no operator at all");
    kubectl.run(&["scale", "-n", "bank", "deployment/ledger", "--replicas=1"]);
    kubectl.run(&["delete", "pod", "does-not-ask", "-n", "bank", "--wait=false"]);
}

/// The bank lives with certificates of 20 seconds for as long as each sidecar has had some.
fn certificates_are_rotated(platform: &Platform) {
    let change = json!({"spec": {"certificateLifetime": "20s"}}).to_string();
    platform.kubectl().run(&["patch", "fapimesh", "default", "--type=merge", "-p", &change]);
    let shop = restarted(platform);
    let pods = [shop.clone(), platform.pod("bank", "payments"), platform.pod("bank", "ledger")];
    let load = Load::by(&shop, 2);
    let began = Instant::now();
    wait_for("several rotations", 120, || pods.iter().all(|pod| certificates(pod) > ROTATIONS).then_some(()));
    let held = pods.each_ref().map(certificates);
    took(&format!("certificates {held:?} of shop, payments and ledger"), began);
    load.all_passed("rotations of certificates");
}

/// Starts the bank anew; the pod of shop, once its calls pass.
fn restarted(platform: &Platform) -> Value {
    let apps = ["ledger", "payments", "shop"];
    for app in apps {
        platform.kubectl().run(&["rollout", "restart", "-n", "bank", &format!("deployment/{app}")]);
    }
    apps.iter().for_each(|app| platform.rolled_out("bank", app));
    wait_for("the old pods to be gone", 60, || {
        let pods = platform.kubectl().run(&[
            "get",
            "pods",
            "-n",
            "bank",
            "-l",
            "app in (shop, payments, ledger)",
            "-o",
            "name",
        ]);
        (pods.lines().count() == apps.len()).then_some(())
    });
    let app = Forward::start(platform.kubectl(), "bank", "deployment/shop", 8080);
    wait_for("a call of the new shop", 60, || (call(app.address(), None)["status"] == 200).then_some(()));
    platform.pod("bank", "shop")
}

/// How many certificates a sidecar has got.
fn certificates(pod: &Value) -> u64 {
    let address = format!("{}:15020", pod["status"]["podIP"].as_str().unwrap()).parse().unwrap();
    let metrics = get(address, "/metrics").unwrap().body;
    let succeeded = |line: &&str| line.starts_with("fapi_certificates_total{") && line.contains("succeeded");
    let line = metrics.lines().find(succeeded).unwrap_or_else(|| panic!("{metrics}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}
