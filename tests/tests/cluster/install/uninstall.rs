//! The end of a mesh: refused while pods depend on it, and what is to be kept is kept.

use std::net::SocketAddr;

use e2e::cluster::bank::{call, check_passed, passes};
use e2e::cluster::platform::{HOME, Platform, chart};
use e2e::cluster::{Forward, helm};
use e2e::wait_for;
use serde_json::{Value, json};

use super::a_policy_takes_hold;

const UNINSTALL: &[&str] = &["uninstall", "fapi-mesh", "-n", HOME, "--wait"];

/// While the bank runs nothing goes, its calls stay guarded, and whoever tried is told why and what to do.
pub(super) fn is_refused(platform: &Platform, shop: SocketAddr) {
    let lasting = || {
        let objects = platform.objects().into_iter();
        objects.filter(|name| !name.contains("fapi-mesh-unused")).collect::<Vec<_>>()
    };
    let before = lasting();
    let refused = helm(platform.kubectl(), UNINSTALL).unwrap_err();
    for part in ["pods have a sidecar (", "bank/", "kubectl rollout restart", "uninstall.force=true"] {
        assert!(refused.contains(part), "Helm shows what the Job said: {part}: {refused}");
    }
    let log = platform.kubectl().run(&["logs", "-n", HOME, "job/fapi-mesh-unused"]);
    assert!(log.contains("pods have a sidecar ("), "{log}");
    assert_eq!(lasting(), before);
    check_passed(&call(shop, None));
}

/// Whoever was refused can go on: Helm takes the release for one that it upgrades again, and nothing else is changed.
fn goes_on(platform: &Platform) {
    let release = || -> Value {
        serde_json::from_str(&platform.helm(&["status", "fapi-mesh", "-n", HOME, "-o", "json"])).unwrap()
    };
    let operator =
        || platform.kubectl().get(&["deployment", "fapi-operator", "-n", HOME])["metadata"]["generation"].clone();
    let (refused, before) = (release(), operator());
    assert_eq!(refused["info"]["status"], "uninstalling");
    platform.helm(&["rollback", "fapi-mesh", &refused["version"].to_string(), "-n", HOME, "--wait"]);
    assert_eq!((&release()["info"]["status"], operator()), (&json!("deployed"), before));
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn what_is_kept_serves_the_next_install_and_force_is_force() {
    let platform = Platform::new("uninstall");
    let kubectl = platform.kubectl();
    platform.install();
    platform.open_the_bank();
    let shop = Forward::start(kubectl, "bank", "deployment/shop", 8080);
    wait_for("the first guarded call", 60, || passes(shop.address()).then_some(()));

    let (kept, pods) = (kept(&platform), pods(&platform));
    is_refused(&platform, shop.address());
    goes_on(&platform);
    let (chart, set) = (chart("fapi-mesh"), "uninstall.force=true,uninstall.keepState=true");
    platform.helm(&["upgrade", "fapi-mesh", &chart, "-n", HOME, "--reuse-values", "--set", set, "--wait"]);
    platform.helm(UNINSTALL);
    gone(&platform);
    // Its Job, and the pod of that, can be read for an hour.
    let of_refusal = |name: &String| name.contains("fapi-mesh-unused") && !name.starts_with("pod/");
    let left: Vec<String> = platform.objects().into_iter().filter(of_refusal).collect();
    assert_eq!(left, ["job.batch/fapi-mesh-unused"], "what was refused leaves no rights");
    assert_eq!(self::kept(&platform), kept);
    check_passed(&call(shop.address(), None));

    // The next operator is known to the sidecars of the one before, and is heard by them.
    platform.helm(&["install", "fapi-mesh", &chart, "-n", HOME, "--set", "trustDomain=bank.example", "--wait"]);
    assert_eq!(self::kept(&platform), kept);
    a_policy_takes_hold(&platform, shop.address());
    check_passed(&call(shop.address(), None));
    assert_eq!(self::pods(&platform), pods, "no pod was made anew");

    // Who leaves out what the chart does at its end leaves all that it would have removed.
    is_refused(&platform, shop.address());
    platform.helm(&[UNINSTALL, &["--no-hooks"]].concat());
    gone(&platform);
    assert_eq!(self::kept(&platform), kept);
}

/// What stays under `keepState`: the authority, which pods have to trust, and what is recorded of the mesh, by their contents; the
/// rest, which operators write, by its names.
fn kept(platform: &Platform) -> Value {
    let data = |object: &[&str]| platform.kubectl().get(object)["data"].clone();
    let roots = data(&["configmap", "fapi-mesh-trust-bundle", "-n", "bank"]);
    let (authority, record) = (["secret", "fapi-mesh-ca", "-n", HOME], ["configmap", "fapi-mesh-state", "-n", HOME]);
    let others =
        ["secret/fapi-mesh-issuer", "secret/fapi-mesh-revocations", "secret/fapi-mesh-webhook", "lease/fapi-operator"];
    let names = platform.kubectl().run(&[&["get", "-n", HOME, "-o", "name"], &others[..]].concat());
    json!([roots, data(&authority), data(&record), names])
}

/// The uids of the pods of the bank.
fn pods(platform: &Platform) -> Vec<Value> {
    ["shop", "payments", "ledger"].map(|app| platform.pod("bank", app)["metadata"]["uid"].clone()).to_vec()
}

/// The operator, also the one that serves while it ends, and its webhooks.
fn gone(platform: &Platform) {
    platform.nothing_ends();
    let kinds = "deployments,services,mutatingwebhookconfigurations,validatingwebhookconfigurations,\
                 validatingadmissionpolicies,validatingadmissionpolicybindings";
    let left =
        platform.kubectl().run(&["get", kinds, "-n", HOME, "-l", "app.kubernetes.io/part-of=fapi-mesh", "-o", "name"]);
    assert_eq!(left, "");
}
