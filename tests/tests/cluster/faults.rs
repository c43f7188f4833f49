//! What a cluster loses and gets back while calls go on: its own parts, operators, certificates. No call fails, and afterwards new
//! pods join as before.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use e2e::cluster::bank::{call, caller, passes};
use e2e::cluster::load::{Load, kill_in};
use e2e::cluster::platform::{HOME, OPERATORS, Platform, chart, took};
use e2e::cluster::{Forward, Kubectl, Part, before};
use e2e::{metric, repository, wait_for};
use serde_json::{Value, json};

/// Tokens are refreshed at half of this. No operator is there until that has failed, so the old ones serve on.
const TOKENS: &str = "100s";
/// How long certificates live, for some to be made anew while a test looks.
const SHORT: &str = "30s";
/// The tag of the images of this commit.
const TODAY: &str = "0.1.0";
/// How many certificates each sidecar gets anew.
const ROTATIONS: u64 = 3;
/// What begins anew with an API server that was away. By themselves they ask it again after up to a minute, each for another kind of
/// objects at another time: pods end before their Services know it, and operators are not led to it.
const WITH_IT: [Part; 3] = [Part::ControllerManager, Part::Scheduler, Part::Proxy];
/// What the bank asks of payments is not among it.
const NARROW: &str = r#"
apiVersion: fapi-mesh.dev/v1alpha1
kind: FapiPolicy
metadata: {name: payments, namespace: bank}
spec:
  targetRefs: [{name: payments}]
  rules: [{methods: [DELETE], callers: [{serviceAccountName: shop}]}]
"#;

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn calls_outlive_the_loss_of_every_part() {
    let mut platform = Platform::new("parts-lost");
    platform.install_with(&["--set", "replicas=2"]);
    let shop = with_an_open_bank(&platform);
    for part in [Part::ApiServer, Part::Etcd, Part::Containerd] {
        under_load(&platform.kubectl().clone(), &shop, &format!("{part:?} restarted"), || {
            let others = if part == Part::ApiServer { &WITH_IT[..] } else { &[] };
            let cluster = &mut platform.cluster;
            others.iter().chain([&part]).for_each(|part| cluster.stop_part(*part));
            // Long enough for whatever watches it to notice; without an API server, for the Lease to end.
            pass(Duration::from_secs(if part == Part::ApiServer { 20 } else { 3 }));
            [&part].into_iter().chain(others).for_each(|part| cluster.start_part(*part));
        });
    }
    for holds in [false, true] {
        let what = if holds { "the operator that writes, killed" } else { "the other operator killed" };
        under_load(platform.kubectl(), &shop, what, || kill_an_operator(&platform, holds));
    }
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn calls_outlive_releases_outages_and_certificates() {
    let platform = Platform::new("changes");
    for name in ["fapi-operator", "fapi-sidecar"] {
        platform.cluster.load(&before().join(name).with_extension("tar"));
    }
    let tags = "image.tag=before,sidecar.image.tag=before";
    platform.install_from(&before().join("source/charts"), &["--set", "replicas=2", "--set", tags]);
    let mesh = repository().join("examples/bank/mesh.yaml").display().to_string();
    // A Service takes a moment to reach whom it has just got.
    wait_for("the webhooks", 30, || platform.kubectl().attempt(&["apply", "-f", &mesh]).ok());
    set(platform.kubectl(), &json!({"certificateLifetime": SHORT}));
    let shop = with_an_open_bank(&platform);
    an_upgrade_moves_the_operator_alone(&platform, &shop);
    all_operators_are_away(&platform);
    let shop = certificates_are_rotated(&platform);
    so_does_its_rollback(&platform, &shop);
}

/// The pod of shop, once its calls pass.
fn with_an_open_bank(platform: &Platform) -> Value {
    platform.open_the_bank();
    let app = Forward::start(platform.kubectl(), "bank", "deployment/shop", 8080);
    wait_for("the first guarded call", 60, || passes(app.address()).then_some(()));
    platform.pod("bank", "shop")
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
    // A cluster that loses a part before its Service leads to the new pod cannot lead to it.
    wait_for("a Service that leads to the new ledger alone", 60, || {
        let slices = ["get", "endpointslices", "-n", "bank", "-l", "kubernetes.io/service-name=ledger", "-o", "json"];
        let slices: Value = serde_json::from_str(&kubectl.attempt(&slices).ok()?).unwrap();
        let endpoints: Vec<&Value> =
            slices["items"].as_array()?.iter().flat_map(|slice| slice["endpoints"].as_array()).flatten().collect();
        let pods = kubectl.pods_of("bank", "ledger").ok()?;
        let ([endpoint], [pod]) = (&endpoints[..], &pods[..]) else { return None };
        let leads = endpoint["conditions"]["ready"] == true && endpoint["targetRef"]["uid"] == pod["metadata"]["uid"];
        leads.then_some(())
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
fn kill_an_operator(platform: &Platform, holds: bool) {
    let kubectl = platform.kubectl();
    let held = holder(kubectl);
    let all = operators(kubectl);
    let victim = all.iter().find(|name| held.starts_with(&***name) == holds);
    let victim = victim.unwrap_or_else(|| panic!("{held} holds the Lease, and there are {all:?}")).clone();
    // It has no time to let the Lease go, and nobody starts it again.
    kill_in(&kubectl.get(&["pod", &victim, "-n", HOME]), "/fapi-operator");
    kubectl.run(&["delete", "pod", "-n", HOME, &victim, "--grace-period=0", "--force"]);
    platform.operators_are(2);
    wait_for("an operator that lives to hold the Lease", 60, || {
        let held = holder(kubectl);
        operators(kubectl).iter().any(|name| *name != victim && held.starts_with(&**name)).then_some(())
    });
}

/// From an earlier release to this one, as an operator does it who has read how: pods keep the sidecar that they have, and those that
/// come meanwhile get the one of today.
fn an_upgrade_moves_the_operator_alone(platform: &Platform, shop: &Value) {
    let kubectl = platform.kubectl();
    assert_eq!(releases(platform), ["before", "before", "before", "before"]);
    under_load(kubectl, shop, "helm upgrade", || {
        platform.helm(&["upgrade", "fapi-mesh-crds", &chart("fapi-mesh-crds")]);
        let values = "trustDomain=bank.example,replicas=2";
        platform.helm(&["upgrade", "fapi-mesh", &chart("fapi-mesh"), "-n", HOME, "--wait", "--set", values]);
        platform.nothing_ends();
    });
    assert_eq!(releases(platform), [TODAY, "before", "before", TODAY]);
    sidecars_are_served(platform, shop, "older sidecars and newer operators");
    under_load(kubectl, shop, "payments restarted", || {
        kubectl.run(&["rollout", "restart", "-n", "bank", "deployment/payments"]);
        platform.rolled_out("bank", "payments");
    });
    assert_eq!(releases(platform), [TODAY, "before", TODAY, TODAY]);
}

/// Operators of before serve sidecars of today, which are neighbours of those that come then.
fn so_does_its_rollback(platform: &Platform, shop: &Value) {
    under_load(platform.kubectl(), shop, "helm rollback", || {
        platform.helm(&["rollback", "fapi-mesh", "1", "-n", HOME, "--wait"]);
        platform.nothing_ends();
    });
    assert_eq!(releases(platform), ["before", TODAY, TODAY, "before"]);
    sidecars_are_served(platform, shop, "newer sidecars and older operators");
}

/// The tags of the images of the operator and of the sidecars of shop, payments and ledger.
fn releases(platform: &Platform) -> [String; 4] {
    let operator =
        platform.kubectl().get(&["deployment", "fapi-operator", "-n", HOME])["spec"]["template"]["spec"].clone();
    let sidecar = |app: &str| platform.pod("bank", app)["spec"]["initContainers"][1]["image"].clone();
    [operator["containers"][0]["image"].clone(), sidecar("shop"), sidecar("payments"), sidecar("ledger")]
        .map(|image| image.as_str().unwrap().rsplit(':').next().unwrap().to_owned())
}

/// A policy takes effect on the sidecar of payments, and goes again; that of shop, too, gets certificates.
fn sidecars_are_served(platform: &Platform, shop: &Value, what: &str) {
    let (kubectl, began) = (platform.kubectl(), Instant::now());
    let app = Forward::start(kubectl, "bank", "deployment/shop", 8080);
    kubectl.apply(NARROW).unwrap();
    wait_for("the status to count the pod of payments", 60, || {
        let policy = kubectl.get(&["fapipolicy", "payments", "-n", "bank"]);
        let pods = &policy["status"]["ancestors"][0]["pods"];
        (pods["matched"] == 1 && pods["programmed"] == 1).then_some(())
    });
    let said = call(app.address(), None);
    assert_eq!(said["status"], 403, "{said}");
    platform.told("payments", &[("outcome", "refused")]);
    kubectl.run(&["delete", "fapipolicy", "payments", "-n", "bank"]);
    wait_for("calls to pass again", 30, || passes(app.address()).then_some(()));

    let pods = [shop.clone(), platform.pod("bank", "payments")];
    let (load, held) = (Load::by(shop, 2), pods.each_ref().map(certificates));
    // The second one tells that the first lives as short as the FapiMesh says.
    wait_for("two certificates of each", 120, || {
        pods.iter().zip(held).all(|(pod, held)| certificates(pod) > held + 1).then_some(())
    });
    load.all_passed(what);
    took(what, began);
}

/// Both operators go. Calls go on, pods that ask for a sidecar wait, others start; with the operators the waiting ones come.
fn all_operators_are_away(platform: &Platform) {
    let kubectl = platform.kubectl();
    set(kubectl, &json!({"tokenLifetime": TOKENS, "certificateLifetime": null}));
    // Tokens of before live for an hour; these pods have short ones from the beginning.
    let shop = restarted(platform);
    let load = Load::by(&shop, 2);
    kubectl.run(&["scale", "-n", HOME, "deployment/fapi-operator", "--replicas=0"]);
    wait_for("both operators to be gone", 60, || operators(kubectl).is_empty().then_some(()));
    let began = Instant::now();

    let asks = json!({"fapi-mesh.dev/inject": "enabled"});
    let refused = kubectl.apply(&caller("asks", "bank", "payments.bank", &asks)).unwrap_err();
    assert!(refused.contains("fapi-operator"), "{refused}");
    kubectl.apply(&caller("does-not-ask", "bank", "payments.bank", &json!({}))).unwrap();
    platform.is("Ready", "bank", "pod/does-not-ask");
    let callers = [shop, platform.pod("bank", "payments")];
    let tokens = |outcome: &'static str| callers.each_ref().map(|pod| count(pod, "fapi_tokens_total", outcome));
    wait_for("both to have asked for a token in vain", 90, || {
        tokens("failed").iter().all(|failed| failed.is_some_and(|failed| failed > 0)).then_some(())
    });
    let before = tokens("succeeded");
    // Now, as a ReplicaSet that was refused a pod waits longer each time.
    kubectl.run(&["scale", "-n", "bank", "deployment/ledger", "--replicas=2"]);
    wait_for("the ReplicaSet to say that it waits", 30, || {
        let events = kubectl.get(&["events", "-n", "bank", "--field-selector=reason=FailedCreate"]);
        events["items"].to_string().contains("fapi-operator").then_some(())
    });
    let ledgers = kubectl.run(&["get", "pods", "-n", "bank", "-l", "app=ledger", "-o", "name"]);
    assert_eq!(ledgers.lines().count(), 1, "none starts without a sidecar: {ledgers}");

    kubectl.run(&["scale", "-n", HOME, "deployment/fapi-operator", "--replicas=2"]);
    platform.operators_are(2);
    took("no operator at all", began);
    platform.rolled_out("bank", "ledger");
    took("until the pod that waited is ready", began);
    wait_for("tokens of the operators that came back", 60, || {
        tokens("succeeded").iter().zip(&before).all(|(now, then)| now > then).then_some(())
    });
    load.all_passed("no operator at all");
    kubectl.run(&["scale", "-n", "bank", "deployment/ledger", "--replicas=1"]);
    kubectl.run(&["delete", "pod", "does-not-ask", "-n", "bank", "--wait=false"]);
}

/// The bank has certificates that live for [`SHORT`], until each sidecar has had some. Gives the pod of shop.
fn certificates_are_rotated(platform: &Platform) -> Value {
    set(platform.kubectl(), &json!({"certificateLifetime": SHORT}));
    let shop = restarted(platform);
    let pods = [shop.clone(), platform.pod("bank", "payments"), platform.pod("bank", "ledger")];
    let load = Load::by(&shop, 2);
    let began = Instant::now();
    wait_for("several rotations", 240, || pods.iter().all(|pod| certificates(pod) > ROTATIONS).then_some(()));
    let held = pods.each_ref().map(certificates);
    took(&format!("certificates {held:?} of shop, payments and ledger"), began);
    load.all_passed("rotations of certificates");
    shop
}

/// Changes lifetimes of the mesh.
fn set(kubectl: &Kubectl, lifetimes: &Value) {
    let change = json!({"spec": lifetimes}).to_string();
    kubectl.run(&["patch", "fapimesh", "default", "--type=merge", "-p", &change]);
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
    wait_for("a call of the new shop", 60, || passes(app.address()).then_some(()));
    platform.pod("bank", "shop")
}

/// How many certificates a sidecar has got.
fn certificates(pod: &Value) -> u64 {
    wait_for("metrics", 30, || count(pod, "fapi_certificates_total", "succeeded"))
}

/// What a sidecar counts of an outcome.
fn count(pod: &Value, name: &str, outcome: &str) -> Option<u64> {
    let address = format!("{}:15020", pod["status"]["podIP"].as_str().unwrap()).parse().unwrap();
    metric(address, &format!("{name}{{outcome=\"{outcome}\"}}"))
}
