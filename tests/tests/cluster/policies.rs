//! Who may call whom, on a cluster: what policies change, in status and in behaviour, and what becomes of those who try without.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod attacks;

use std::net::SocketAddr;
use std::time::Instant;

use e2e::cluster::bank::{call, caller, check_passed, ends_with, is_refused, passes};
use e2e::cluster::load::command_in;
use e2e::cluster::loot::{ask_to_enrol, curl, token_of_pod};
use e2e::cluster::platform::{HOME, Platform, took};
use e2e::cluster::{Forward, Kubectl};
use e2e::{Scratch, wait_for};
use rcgen::{CertificateParams, KeyPair, SanType};
use serde_json::{Value, json};

const INTRUDER: &str = "spiffe://bank.example/ns/outside/sa/intruder";

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn the_called_side_decides_and_says_so() {
    let platform = Platform::new("policies");
    platform.install();
    platform.open_the_bank();
    let kubectl = platform.kubectl();
    kubectl.apply(PAYMENTS).unwrap();
    let shop = Forward::start(kubectl, "bank", "deployment/shop", 8080);
    let intruder = Forward::start(kubectl, "outside", "deployment/intruder", 8080);
    let (shop, intruder) = (shop.address(), intruder.address());
    wait_for("a guarded call", 60, || passes(shop).then_some(()));

    let scenario = |name: &str, play: &dyn Fn()| {
        let began = Instant::now();
        play();
        took(name, began);
    };
    scenario("a neighbour", &|| a_neighbour_enters_when_it_is_named(&platform, shop, intruder));
    scenario("two policies", &|| the_older_of_two_policies_governs(&platform, shop));
    scenario("from Audit to Enforce", &|| what_audit_counts_is_then_refused(&platform, shop));
    scenario("settings of the mesh", &|| settings_of_the_mesh_hold_at_once(&platform, shop));
    scenario("attacks", &|| attacks::every_attack_of_the_demo_fails_from_pods(&platform));
    scenario("enrolment", &|| nobody_enrols_as_somebody_else(&platform));
    wait_for("a guarded call", 30, || passes(shop).then_some(()));
    // The last: the pod of shop does not come back from it.
    scenario("revocation", &|| attacks::whoever_is_revoked_is_refused_and_nobody_else(&platform, shop));
}

/// The status of a policy, once it speaks of the document as it is now and of its one target.
fn status(kubectl: &Kubectl, policy: &str) -> Value {
    wait_for(&format!("a status of {policy} as it is now"), 30, || {
        let object = kubectl.get(&["fapipolicy", policy, "-n", "bank"]);
        let target = object["status"]["ancestors"][0].clone();
        let conditions = target["conditions"].as_array()?;
        let of_now = |condition: &Value| condition["observedGeneration"] == object["metadata"]["generation"];
        conditions.iter().all(of_now).then_some(target)
    })
}

/// Status, reason and message of a condition.
fn condition<'a>(status: &'a Value, name: &str) -> (&'a str, &'a str, &'a str) {
    let found = status["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == name);
    let found = found.unwrap_or_else(|| panic!("no {name} in {status}"));
    let text = |field: &str| found[field].as_str().unwrap_or_default();
    (text("status"), text("reason"), text("message"))
}

/// Waits until a policy says of its one target that a condition is so.
fn says(kubectl: &Kubectl, policy: &str, name: &str, expected: (&str, &str)) -> Value {
    wait_for(&format!("{policy} to say {name}: {expected:?}"), 30, || {
        let status = status(kubectl, policy);
        let (is, reason, _) = condition(&status, name);
        ((is, reason) == expected).then_some(status)
    })
}

fn grant(kubectl: &Kubectl) -> Value {
    kubectl.get(&["fapiclient", "intruder", "-n", "outside"])["status"]["targets"][0]["reason"].clone()
}

/// A caller of another namespace gets nothing until the called side names it, and nothing again when that is taken back.
fn a_neighbour_enters_when_it_is_named(platform: &Platform, shop: SocketAddr, intruder: SocketAddr) {
    let kubectl = platform.kubectl();
    let said = call(intruder, None);
    assert!(said["status"].as_u64().is_some_and(|status| status >= 400), "{said}");
    wait_for("the client to say so", 30, || (grant(kubectl) == "CallerNotAllowed").then_some(()));

    let named =
        LEDGER.replace("{serviceAccountName: payments}", "{serviceAccountName: payments}, {namespace: outside}");
    kubectl.apply(&named).unwrap();
    let status = says(kubectl, "ledger", "Programmed", ("True", "Programmed"));
    assert_eq!((&status["pods"]["matched"], &status["pods"]["programmed"]), (&json!(1), &json!(1)), "{status}");
    wait_for("the client to be granted it", 30, || (grant(kubectl) == "Granted").then_some(()));
    let said = wait_for("a call of the neighbour", 30, || ends_with(intruder, 200));
    assert_eq!(said["answer"]["told"]["caller"], INTRUDER, "{said}");
    check_passed(&call(shop, None));

    kubectl.apply(LEDGER).unwrap();
    wait_for("the neighbour to be refused", 30, || is_refused(intruder).then_some(()));
    wait_for("the client to say so", 30, || (grant(kubectl) == "CallerNotAllowed").then_some(()));
    says(kubectl, "ledger", "Programmed", ("True", "Programmed"));
    check_passed(&call(shop, None));
}

/// Of two policies for one Service the older governs; the other says which, and governs when that one is gone.
fn the_older_of_two_policies_governs(platform: &Platform, shop: SocketAddr) {
    let kubectl = platform.kubectl();
    let younger = LEDGER.replace("name: ledger, ", "name: a-younger, ").replace("Name: payments", "Name: nobody");
    kubectl.apply(&younger).unwrap();
    let status = says(kubectl, "a-younger", "Accepted", ("False", "Conflicted"));
    let (_, _, message) = condition(&status, "Accepted");
    assert!(message.contains("bank/ledger"), "the winner is named: {message}");
    says(kubectl, "ledger", "Accepted", ("True", "Accepted"));
    check_passed(&call(shop, None));

    kubectl.run(&["delete", "fapipolicy", "ledger", "-n", "bank"]);
    says(kubectl, "a-younger", "Accepted", ("True", "Accepted"));
    wait_for("the younger policy to hold", 30, || is_refused(shop).then_some(()));
    kubectl.apply(LEDGER).unwrap();
    says(kubectl, "ledger", "Accepted", ("False", "Conflicted"));
    kubectl.run(&["delete", "fapipolicy", "a-younger", "-n", "bank"]);
    says(kubectl, "ledger", "Programmed", ("True", "Programmed"));
    wait_for("calls to pass again", 30, || passes(shop).then_some(()));
}

/// What `Audit` lets pass is counted, and told without an identity; `Enforce` refuses just that.
fn what_audit_counts_is_then_refused(platform: &Platform, shop: SocketAddr) {
    let kubectl = platform.kubectl();
    kubectl.apply(&PAYMENTS.replace("mode: Enforce", "mode: Audit")).unwrap();
    says(kubectl, "payments", "Programmed", ("True", "Programmed"));
    kubectl.apply(&caller("prowler", "outside", "payments.bank", &json!({"fapi-mesh.dev/inject": "enabled"}))).unwrap();
    platform.is("Ready", "outside", "pod/prowler");
    let prowler = Forward::start(kubectl, "outside", "pod/prowler", 8080);
    let count = || {
        let pod = platform.pod("bank", "payments");
        let url = format!("http://{}:15020/metrics", pod["status"]["podIP"].as_str().unwrap());
        let metrics = wait_for("metrics", 30, || Some(curl(None, &[&url])).filter(|metrics| !metrics.is_empty()));
        let lines = metrics.lines().filter(|line| {
            line.starts_with("fapi_requests_total{") && line.contains("would_refuse") && line.contains("token_missing")
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>()
    };
    wait_for("a first call", 30, || ends_with(prowler.address(), 200));
    let before = count();
    for _ in 0..3 {
        let said = call(prowler.address(), None);
        assert_eq!((&said["status"], &said["answer"]["told"]["caller"]), (&json!(200), &Value::Null), "{said}");
    }
    assert_eq!(count(), before + 3);
    let who = ("caller", "spiffe://bank.example/ns/outside/sa/default");
    platform.told("payments", &[("outcome", "would_refuse"), ("reason", "token_missing"), who]);
    check_passed(&call(shop, None));
    let all = before + 3;
    let counted = wait_for("the status to tell of them all", 120, || {
        let counted = status(kubectl, "payments")["wouldRefuse"].clone();
        (counted["count"] == all).then_some(counted)
    });
    assert_eq!(counted["top"], json!([{"reason": "token_missing", "caller": "outside/default", "count": all}]));
    assert!(counted["since"].as_str().is_some_and(|since| since.ends_with('Z')), "{counted}");

    kubectl.apply(PAYMENTS).unwrap();
    let status = says(kubectl, "payments", "Programmed", ("True", "Programmed"));
    assert_eq!(status["wouldRefuse"], Value::Null, "it lets nothing pass any more");
    assert_eq!(call(prowler.address(), None)["status"], 401, "a status that says so is no promise, but so");
    platform.told("payments", &[("outcome", "refused"), ("reason", "token_missing"), who]);
    assert_eq!(count(), before + 3);
    check_passed(&call(shop, None));
    kubectl.run(&["delete", "pod", "prowler", "-n", "outside", "--wait=false"]);
}

/// Calls out of the mesh end where its settings say so, and pods whose namespace may do so give their sidecar
/// numbers of its own.
fn settings_of_the_mesh_hold_at_once(platform: &Platform, shop: SocketAddr) {
    let kubectl = platform.kubectl();
    let numbered = || {
        let asks = json!({"fapi-mesh.dev/inject": "enabled", "fapi-mesh.dev/uid": "31000"});
        let mut pod: Value = serde_json::from_str(&caller("numbered", "bank", "payments", &asks)).unwrap();
        pod["spec"]["serviceAccountName"] = "shop".into();
        kubectl.apply(&pod.to_string())
    };
    let refused = numbered().unwrap_err();
    assert!(refused.contains("fapi-mesh.dev/uid") && refused.contains("Uid"), "{refused}");
    let api_server = kubectl.get(&["service", "kubernetes", "-n", "default"])["spec"]["clusterIP"].clone();
    let api_server = format!("{}:443", api_server.as_str().unwrap());
    let pod = platform.pod("bank", "shop");
    let ask = |url: &str| {
        let output = command_in(&pod, "curl").args(["-sk", "-m", "5", url]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (plain, tls) = (format!("http://{api_server}/"), format!("https://{api_server}/version"));
    assert!(ask(&plain).contains("HTTP request to an HTTPS server"), "{}", ask(&plain));
    assert!(ask(&tls).contains("gitVersion") || ask(&tls).contains("Unauthorized"), "{}", ask(&tls));

    let mesh = |settings: &Value| {
        let mesh = json!({
            "apiVersion": "fapi-mesh.dev/v1alpha1", "kind": "FapiMesh", "metadata": {"name": "default"}, "spec": settings,
        });
        kubectl.apply(&mesh.to_string()).unwrap()
    };
    let uids = json!([{"allow": ["Uid"], "namespaces": ["bank"]}]);
    mesh(&json!({"trustDomain": "bank.example", "unmeshedDestinations": "Refuse", "podAnnotations": uids}));
    wait_for("a call out of the mesh to be refused", 30, || ask(&plain).contains("destination_unmeshed").then_some(()));
    assert_eq!(ask(&tls), "");
    platform.told("shop", &[("outcome", "refused"), ("reason", "destination_unmeshed")]);
    check_passed(&call(shop, None));

    wait_for("a pod with numbers of its own", 30, || numbered().ok());
    platform.is("Ready", "bank", "pod/numbered");
    let numbers =
        kubectl.get(&["pod", "numbered", "-n", "bank"])["spec"]["initContainers"][1]["securityContext"].clone();
    assert_eq!((&numbers["runAsUser"], &numbers["runAsGroup"]), (&json!(31000), &json!(31000)), "{numbers}");
    let app = Forward::start(kubectl, "bank", "pod/numbered", 8080);
    wait_for("a call of it", 30, || passes(app.address()).then_some(()));
    kubectl.run(&["delete", "pod", "numbered", "-n", "bank", "--wait=false"]);

    // From here on no token lives long: an attack that comes later shows one that has expired.
    mesh(&json!({"trustDomain": "bank.example", "tokenLifetime": "15s"}));
    wait_for("a call out of the mesh to pass", 30, || ask(&plain).contains("HTTPS server").then_some(()));
    check_passed(&call(shop, None));
}

/// Where the operator enrols.
fn control(kubectl: &Kubectl) -> String {
    let service = kubectl.get(&["service", "fapi-operator", "-n", HOME]);
    format!("{}:15010", service["spec"]["clusterIP"].as_str().unwrap())
}

/// From a pod that is not in the mesh, with tokens that it might come by, and requests that ask for more than is theirs.
fn nobody_enrols_as_somebody_else(platform: &Platform) {
    let kubectl = platform.kubectl();
    let scratch = Scratch::new("enrol");
    let control = control(kubectl);
    let stranger = kubectl.get(&["pod", "stranger", "-n", "outside"]);
    let ask =
        |token: &str, csr: &[u8]| ask_to_enrol(command_in(&stranger, "curl"), scratch.path(), &control, token, csr);
    let pod = platform.pod("outside", "intruder");
    let audience = "--audience=fapi-mesh.dev";
    let good = token_of_pod(platform, "outside", "intruder", &pod, &[audience]);
    let request = of_key("shop", &KeyPair::generate().unwrap());

    let operator = kubectl.get(&["pods", "-n", HOME, "-l", "app.kubernetes.io/name=fapi-operator"])["items"][0].clone();
    kubectl.apply(&caller("brief", "outside", "payments.bank", &json!({"fapi-mesh.dev/inject": "enabled"}))).unwrap();
    let brief = kubectl.get(&["pod", "brief", "-n", "outside"]);
    let of_the_dead = token_of_pod(platform, "outside", "default", &brief, &[audience]);
    kubectl.run(&["delete", "pod", "brief", "-n", "outside", "--grace-period=0", "--force"]);
    let mut tampered = good.clone();
    tampered.replace_range(tampered.len() - 8..tampered.len() - 4, "AAAA");
    let tokens = [
        ("for the API server", token_of_pod(platform, "outside", "intruder", &pod, &[])),
        ("of no pod", kubectl.run(&["create", "token", "intruder", "-n", "outside", audience]).trim().to_owned()),
        ("of a pod that is not in the mesh", token_of_pod(platform, "outside", "default", &stranger, &[audience])),
        ("of the operator itself", token_of_pod(platform, HOME, "fapi-operator", &operator, &[audience])),
        ("of a pod that is gone", of_the_dead),
        ("that somebody else has signed", tampered),
        ("that is none", "e30.e30.e30".to_owned()),
    ];
    for (whose, token) in &tokens {
        let (head, body) = ask(token, &request);
        assert!(body.is_empty() && refused(&head), "a token {whose}: {head}");
    }
    let mut unsigned = request.clone();
    *unsigned.last_mut().unwrap() ^= 1;
    let other_kind = of_key("intruder", &KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap());
    let template = "-o=go-template={{index .data \"issuing.key\" | base64decode}}";
    let authority = kubectl.run(&["get", "secret", "fapi-mesh-ca", "-n", HOME, template]);
    let of_authority = of_key("intruder", &KeyPair::from_pem(&authority).unwrap());
    for (what, csr) in [
        ("signed by nobody", &unsigned),
        ("of another kind of key", &other_kind),
        ("of a key of the mesh itself", &of_authority),
        ("that is none", &vec![0x30, 0]),
    ] {
        let (head, body) = ask(&good, csr);
        assert!(body.is_empty() && refused(&head), "a request {what}: {head}");
    }
    // Whatever it asks for, it gets its own name.
    let (head, body) = ask(&good, &request);
    let text = String::from_utf8_lossy(&body).into_owned();
    assert!(text.contains(INTRUDER) && !text.contains("sa/shop"), "{head}{text}");

    for reason in ["pod_not_meshed", "csr_signature_invalid", "csr_key_type", "csr_malformed", "key_reused"] {
        wait_for(&format!("the operator to tell of {reason}"), 30, || {
            let log = platform.log(HOME, "deployment/fapi-operator", "operator");
            log.iter().any(|line| line["event"] == "enrolment" && line["reason"] == reason).then_some(())
        });
    }
}

/// A refusal of gRPC stands in the head, as nothing else comes.
fn refused(head: &str) -> bool {
    head.lines().any(|line| line.strip_prefix("grpc-status: ").is_some_and(|status| status != "0"))
}

/// A request for a certificate (PKCS#10, DER) in the name of somebody, and of an authority.
fn of_key(account: &str, key: &KeyPair) -> Vec<u8> {
    let mut params = CertificateParams::default();
    let id = format!("spiffe://bank.example/ns/bank/sa/{account}");
    params.subject_alt_names = vec![SanType::URI(id.as_str().try_into().unwrap())];
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    params.serialize_request(key).unwrap().der().to_vec()
}

/// As the demo has it: the attacks ask for these paths.
const PAYMENTS: &str = r#"
apiVersion: fapi-mesh.dev/v1alpha1
kind: FapiPolicy
metadata: {name: payments, namespace: bank}
spec:
  targetRefs: [{name: payments}]
  mode: Enforce
  rules:
  - methods: [POST]
    paths: [/transfers, /bank.Payments/Transfer]
    callers: [{serviceAccountName: shop}]
    scopes: ["transfers:write"]
  - methods: [GET]
    paths: [/ws, /balance]
    callers: [{serviceAccountName: shop}]
    scopes: ["accounts:read"]
"#;

const LEDGER: &str = r#"
apiVersion: fapi-mesh.dev/v1alpha1
kind: FapiPolicy
metadata: {name: ledger, namespace: bank}
spec:
  targetRefs: [{name: ledger}]
  senderConstraints: [DPoP]
  rules: [{callers: [{serviceAccountName: payments}]}]
"#;
