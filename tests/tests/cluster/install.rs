//! The whole way of a user, on a cluster that runs pods: the charts are installed, the bank of the examples is applied, its calls
//! are guarded, and everything goes again. What a pod is, is a pod here; nothing is played.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod proxy;
mod uninstall;

use std::{fs, net::SocketAddr, time::Instant};

use e2e::cluster::bank::{SHOP, call, caller, check_passed, ends_with, is_refused, passes};
use e2e::cluster::loot::{curl, enrol};
use e2e::cluster::platform::{HOME, Platform, chart, took};
use e2e::cluster::{Forward, helm, on_your_cluster};
use e2e::{Scratch, wait_for};
use serde_json::{Value, json};

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn from_nothing_to_guarded_calls_and_back() {
    let platform = Platform::new("install");
    let kubectl = platform.kubectl();
    let before = platform.objects();

    // README has Helm make it; what comes into it later comes under the strictest Pod Security.
    kubectl.run(&["delete", "namespace", HOME, "--timeout=60s"]);
    let began = Instant::now();
    as_readme_says(&platform);
    took("README's commands, from install to the first guarded call", began);
    kubectl.run(&["label", "namespace", HOME, "pod-security.kubernetes.io/enforce=restricted"]);
    let shop = Forward::start(kubectl, "bank", "deployment/shop", 8080);
    wait_for("a guarded call", 30, || passes(shop.address()).then_some(()));
    statuses_say_so(&platform);
    nothing_is_amiss(&platform);

    strangers_are_refused(&platform);
    a_stolen_token_is_worth_nothing(&platform);
    proxy::guards_where_capabilities_are_forbidden(&platform);
    a_policy_takes_hold(&platform, shop.address());
    the_operator_is_killed(&platform, shop.address());
    an_upgrade_changes_what_it_should(&platform, shop.address());
    costs(&platform);
    platform.helm(&["test", "fapi-mesh", "-n", HOME]);
    the_test_fails_where_nothing_is_injected(&platform);

    platform.nothing_ends();
    uninstall::is_refused(&platform, shop.address());
    drop(shop);
    kubectl.run(&["delete", "namespace", "bank", "outside", "--timeout=120s"]);
    let began = Instant::now();
    platform.helm(&["uninstall", "fapi-mesh", "-n", HOME, "--wait"]);
    took("uninstall", began);
    let ours = |name: &String| {
        name.ends_with(".fapi-mesh.dev") || name.starts_with("secret/sh.helm.release.v1.fapi-mesh-crds.")
    };
    let began = Instant::now();
    let left = wait_for("what is left", 90, || {
        let left: Vec<String> = platform.objects().difference(&before).filter(|name| !ours(name)).cloned().collect();
        (left.is_empty() || began.elapsed().as_secs() > 60).then_some(left)
    });
    assert_eq!(left, Vec::<String>::new(), "nothing but the definitions stays");
}

/// The commands of README, and what they are there to show.
fn as_readme_says(platform: &Platform) {
    let scratch = Scratch::new("readme");
    let said = on_your_cluster(&platform.cluster, scratch.path());
    let answers = said.lines().filter_map(|line| line.get(line.find('{')?..));
    let answers = answers.flat_map(|text| serde_json::Deserializer::from_str(text).into_iter::<Value>().next());
    let answer = answers.filter_map(Result::ok).next();
    check_passed(&answer.unwrap_or_else(|| panic!("no call was answered: {said}")));
    let why = |line: &&str| line.contains("/intruder ") && line.contains("CallerNotAllowed");
    assert!(said.lines().any(|line| why(&line)), "the intruder may not, and one sees why: {said}");
    platform.rolled_out("outside", "intruder");
}

/// In the operator's own namespace no pod gets a sidecar.
fn the_test_fails_where_nothing_is_injected(platform: &Platform) {
    let (chart, set) = (chart("fapi-mesh"), format!("test.namespace={HOME}"));
    platform.helm(&["upgrade", "fapi-mesh", &chart, "-n", HOME, "--reuse-values", "--set", &set, "--wait"]);
    assert!(helm(platform.kubectl(), &["test", "fapi-mesh", "-n", HOME]).is_err(), "it must not pass");
    let told = platform.kubectl().run(&["logs", "fapi-mesh-test", "-n", HOME]);
    assert!(told.contains("the pod was not injected"), "{told}");
    platform.kubectl().run(&["delete", "pod", "fapi-mesh-test", "-n", HOME]);
}

fn statuses_say_so(platform: &Platform) {
    for client in ["fapiclient/shop", "fapiclient/payments"] {
        platform.is("Ready", "bank", client);
    }
    platform.is("Ready", "bank", "fapipolicy/ledger");
    let status = platform.kubectl().get(&["fapiclient", "payments", "-n", "bank"])["status"].clone();
    assert_eq!(status["targets"][0]["senderConstraint"], "DPoP", "{status}");
    // Each pod says what became of it.
    let sidecar = |pod: &Value| pod["spec"]["initContainers"][1]["name"] == "fapi-sidecar";
    for app in ["shop", "payments", "ledger"] {
        assert!(sidecar(&platform.pod("bank", app)), "{app}");
    }
    let refused = platform.kubectl().get(&["fapiclient", "intruder", "-n", "outside"])["status"].clone();
    assert_eq!(refused["targets"][0]["reason"], "CallerNotAllowed", "{refused}");
}

/// As somebody looks who has just installed it.
fn nothing_is_amiss(platform: &Platform) {
    platform.kubectl().fapictl(&["check", "-n", "bank"]).unwrap();
    let said = platform.kubectl().fapictl(&["check"]).unwrap_err();
    let failed: Vec<&str> = said.lines().filter(|line| line.trim_start().starts_with("FAILED")).collect();
    assert!(matches!(failed[..], [one] if one.contains("outside/intruder")), "README names one thing: {said}");
    let told = platform.kubectl().fapictl(&["identity", "-n", "bank", "-o", "json"]).unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    let pods = platform.kubectl().get(&["pods", "-n", "bank"]);
    for (account, name) in [(SHOP, "shop"), ("spiffe://bank.example/ns/bank/sa/payments", "payments")] {
        let of_account = |pod: &&Value| pod["spec"]["serviceAccountName"] == name;
        let pod = pods["items"].as_array().unwrap().iter().find(of_account).unwrap();
        let says = |row: &&Value| row["podUid"] == pod["metadata"]["uid"] && row["spiffeId"] == account;
        assert!(told.as_array().unwrap().iter().any(|row| says(&row)), "{told}");
    }
}

/// From pods: one that is not in the mesh, and two of another namespace that are.
fn strangers_are_refused(platform: &Platform) {
    let kubectl = platform.kubectl();
    let meshed = json!({"fapi-mesh.dev/inject": "enabled"});
    kubectl.apply(&caller("stranger", "bank", "payments.bank", &json!({}))).unwrap();
    kubectl.apply(&caller("prowler", "outside", "payments.bank", &meshed)).unwrap();
    for (namespace, pod) in [("bank", "pod/stranger"), ("outside", "pod/prowler")] {
        platform.is("Ready", namespace, pod);
    }
    let stranger = Forward::start(kubectl, "bank", "pod/stranger", 8080);
    let said = call(stranger.address(), None);
    assert_eq!(said["status"], Value::Null, "plain HTTP: {said}");
    platform.told("payments", &[("event", "handshake"), ("reason", "plaintext_not_allowed")]);

    let prowler = Forward::start(kubectl, "outside", "pod/prowler", 8080);
    // Not before its sidecar knows where that is.
    wait_for("a neighbour without a token to be refused", 30, || ends_with(prowler.address(), 401));
    let who = ("caller", "spiffe://bank.example/ns/outside/sa/default");
    platform.told("payments", &[("outcome", "refused"), ("reason", "token_missing"), who]);

    let intruder = Forward::start(kubectl, "outside", "deployment/intruder", 8080);
    let said = call(intruder.address(), None);
    assert!(said["status"].as_u64().is_some_and(|status| status >= 400), "one that nobody grants anything: {said}");
    kubectl.run(&["delete", "pod", "prowler", "-n", "outside"]);
}

/// Somebody who may make tokens for the pods of shop and intruder has certificates of both; the token of the one is refused with
/// the certificate of the other, from a pod and from the node.
fn a_stolen_token_is_worth_nothing(platform: &Platform) {
    let scratch = Scratch::new("loot");
    let [control, issuer] = [15010, 15011].map(|port| {
        let service = platform.kubectl().get(&["service", "fapi-operator", "-n", HOME]);
        format!("{}:{port}", service["spec"]["clusterIP"].as_str().unwrap())
    });
    let shop = enrol(platform, scratch.path(), &control, ("bank", "shop"));
    let intruder = enrol(platform, scratch.path(), &control, ("outside", "intruder"));
    let url = format!("https://fapi-operator.{HOME}.svc:15011/token");
    let body = format!("grant_type=client_credentials&client_id={SHOP}&resource=https://payments.bank");
    let to = format!("fapi-operator.{HOME}.svc:15011:{issuer}");
    let answer = curl(Some(&shop), &["--connect-to", &to, "-d", &body, &url]);
    let token: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}"));
    let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());

    let pod = platform.pod("bank", "payments");
    let to = format!("payments.bank:443:{}:8080", pod["status"]["podIP"].as_str().unwrap());
    let header = format!("authorization: {bearer}");
    let steal = |identity: Option<&str>| {
        curl(identity, &["-i", "--connect-to", &to, "-H", &header, "-d", "{}", "https://payments.bank/entries"])
    };
    assert!(steal(Some(&shop)).starts_with("HTTP/1.1 200"), "it is good with its own certificate");
    let refused = steal(Some(&intruder));
    assert!(refused.starts_with("HTTP/1.1 401") && refused.contains("invalid_token"), "{refused}");
    platform.told("payments", &[("outcome", "refused"), ("reason", "binding_cert_mismatch")]);
    assert_eq!(steal(None), "", "no certificate, no answer");

    let stranger = Forward::start(platform.kubectl(), "bank", "pod/stranger", 8080);
    let said = call(stranger.address(), Some(&bearer));
    assert_eq!(said["status"], Value::Null, "without TLS a token is worth nothing: {said}");
    platform.kubectl().run(&["delete", "pod", "stranger", "-n", "bank"]);
}

/// The owner of payments lets nobody but the intruder in, and takes that back.
fn a_policy_takes_hold(platform: &Platform, shop: SocketAddr) {
    let policy = "apiVersion: fapi-mesh.dev/v1alpha1\nkind: FapiPolicy\nmetadata: {name: payments, namespace: bank}\n\
                  spec:\n  targetRefs: [{name: payments}]\n  rules: [{callers: [{serviceAccountName: somebody-else}]}]\n";
    platform.kubectl().apply(policy).unwrap();
    let began = Instant::now();
    wait_for("the policy to hold", 30, || is_refused(shop).then_some(()));
    took("policy that was accepted to refused call", began);
    platform.is("Ready", "bank", "fapipolicy/payments");
    wait_for("the status of the client to say so", 30, || {
        let client = platform.kubectl().get(&["fapiclient", "shop", "-n", "bank"]);
        (client["status"]["targets"][0]["reason"] == "CallerNotAllowed").then_some(())
    });
    platform.kubectl().run(&["delete", "fapipolicy", "payments", "-n", "bank"]);
    let began = Instant::now();
    wait_for("calls to pass again", 30, || passes(shop).then_some(()));
    took("policy that was taken back to passing call", began);
    // What cannot mean anything is not taken.
    let wrong = policy.replace("callers: [{serviceAccountName: somebody-else}]", "paths: [/a/../b]");
    assert!(platform.kubectl().apply(&wrong).is_err());
}

/// Calls go on without it, and the one that follows takes over.
fn the_operator_is_killed(platform: &Platform, shop: SocketAddr) {
    let kubectl = platform.kubectl();
    let of_operator = ["-n", HOME, "-l", "app.kubernetes.io/name=fapi-operator"];
    let began = Instant::now();
    kubectl.run(&[&["delete", "pod", "--grace-period=0", "--force"], &of_operator[..]].concat());
    let mut calls = 0;
    wait_for("an operator to be back", 90, || {
        check_passed(&call(shop, None));
        calls += 1;
        let pods = kubectl.get(&[&["pods"], &of_operator[..]].concat());
        let ready = |pod: &Value| pod["status"]["containerStatuses"][0]["ready"] == true;
        pods["items"].as_array().unwrap().iter().any(ready).then_some(())
    });
    took(&format!("an operator that was killed is back, {calls} calls passed meanwhile"), began);
    kubectl.run(&["rollout", "restart", "deployment/ledger", "-n", "bank"]);
    platform.rolled_out("bank", "ledger");
    wait_for("a new ledger to be called", 60, || passes(shop).then_some(()));
}

/// What is rendered again is what is there; what is set anew comes without a refused call and without a refused pod.
fn an_upgrade_changes_what_it_should(platform: &Platform, shop: SocketAddr) {
    let kubectl = platform.kubectl();
    let configured = || {
        let kinds = "clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations";
        let local = "deployments,services,roles,rolebindings,networkpolicies,serviceaccounts";
        let all = [
            kubectl.get(&[kinds, "-l", "app.kubernetes.io/part-of=fapi-mesh"]),
            kubectl.get(&[local, "-n", HOME, "-l", "app.kubernetes.io/part-of=fapi-mesh"]),
        ];
        let bare = |object: &Value| {
            let mut object = object.clone();
            object["metadata"]
                .as_object_mut()
                .unwrap()
                .retain(|key, _| ["name", "labels", "generation"].contains(&&**key));
            object["status"] = Value::Null;
            object
        };
        all.iter().flat_map(|list| list["items"].as_array().unwrap()).map(bare).collect::<Vec<_>>()
    };
    let before = configured();
    assert!(before.len() >= 8, "{before:?}");
    let chart = chart("fapi-mesh");
    let upgrade = |more: &[&str]| {
        let args = ["upgrade", "fapi-mesh", &chart, "-n", HOME, "--set", "trustDomain=bank.example", "--wait"];
        platform.helm(&[&args[..], more].concat());
    };
    upgrade(&[]);
    assert_eq!(configured(), before, "nothing was changed");

    std::thread::scope(|scope| {
        let upgrading = scope.spawn(|| upgrade(&["--set", "logLevel=debug"]));
        // Whoever makes a pod finds an operator, too.
        let pod = caller("made", "bank", "payments.bank", &json!({"fapi-mesh.dev/inject": "enabled"}));
        while !upgrading.is_finished() {
            check_passed(&call(shop, None));
            kubectl.with_input(&["create", "--dry-run=server", "-f", "-"], &pod).unwrap();
        }
        upgrading.join().unwrap();
    });
    let args = kubectl.get(&["deployment", "fapi-operator", "-n", HOME])["spec"]["template"]["spec"].clone();
    assert_eq!(args["containers"][0]["env"][0], json!({"name": "FAPI_LOG", "value": "debug"}));
}

/// What it takes to do nothing: told, and bounded.
fn costs(platform: &Platform) {
    let kubectl = platform.kubectl();
    // What service accounts ask that are not of the cluster itself: the operator is alone in that.
    let asked = || -> f64 {
        let metrics = kubectl.run(&["get", "--raw", "/metrics"]);
        let ours = metrics.lines().filter(|line| {
            line.starts_with("apiserver_flowcontrol_dispatched_requests_total") && line.contains("\"service-accounts\"")
        });
        ours.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    platform.nothing_ends();
    platform.is("Ready", "bank", "fapipolicy/ledger");
    let (began, first) = (Instant::now(), asked());
    wait_for("a minute to pass", 70, || (began.elapsed().as_secs() >= 60).then_some(()));
    let per_minute = asked() - first;
    eprintln!("API requests of an idle operator: {per_minute} a minute");
    assert!(per_minute < 90.0, "{per_minute} requests a minute while nothing happens");

    // Some three times what they were seen to hold, and far below the limits of the containers, at which they would be killed.
    for (program, most) in [("/fapi-operator", 150), ("/fapi-sidecar", 60)] {
        let held = resident(platform, program);
        assert!(!held.is_empty(), "no {program} runs in a pod");
        eprintln!("memory of {program}: {held:?} MiB");
        assert!(held.iter().all(|size| *size < most), "{program} holds more than {most} MiB");
    }
}

/// What each process of a program holds that runs in a pod, MiB.
fn resident(platform: &Platform, program: &str) -> Vec<u64> {
    let group = platform.cluster.folder().file_name().unwrap().to_str().unwrap();
    let mut held = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        // Gone in the meantime, or no process.
        let read = |name: &str| fs::read_to_string(process.path().join(name)).unwrap_or_default();
        if read("cmdline").split('\0').next() == Some(program) && read("cgroup").contains(group) {
            let status = read("status");
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            held.extend(
                line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map(|size| size / 1024),
            );
        }
    }
    held
}
