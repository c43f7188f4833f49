//! Goldens, the property that injecting twice is injecting once, and every refusal.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

mod documents;
mod ephemeral;
mod generate;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use control::pod::HEALTH_PORT;
use control::pod::probes::{PROBES_ENV, Place, Probes};
use fapi::TrustDomain;
use serde_json::{Value as Json, json};

use super::*;

pub(super) fn settings() -> Settings {
    Settings {
        image: Image { name: "registry.example/fapi-sidecar:1".to_owned(), pull_policy: "IfNotPresent".to_owned() },
        control: "fapi-operator.fapi-mesh.svc:15010".to_owned(),
        trust_domain: TrustDomain::parse("bank.example").unwrap(),
        operator_namespace: "fapi-mesh".to_owned(),
        allowed: Allowed::default(),
    }
}

/// Always with the same randomness.
fn inject(pod: &Pod, settings: &Settings, namespace: &Namespace) -> Outcome {
    super::inject(pod, settings, namespace, [7; 16])
}

fn allowing(loosening: Loosening) -> Settings {
    Settings { allowed: [(loosening, "bank".to_owned())].into_iter().collect(), ..settings() }
}

fn bank(labels: &[(&str, &str)]) -> Namespace {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Namespace { name: "bank".to_owned(), labels }
}

fn opted_in() -> Namespace {
    bank(&[(INJECT, "enabled")])
}

fn pod(metadata: Json, spec: Json) -> Pod {
    let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "app", "image": "app"}]}});
    for (part, more) in [("metadata", metadata), ("spec", spec)] {
        pod[part].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    }
    serde_json::from_value(pod).unwrap()
}

fn injected(outcome: Outcome) -> Injected {
    match outcome {
        Outcome::Injected(injected) => *injected,
        other => panic!("not injected: {other:?}"),
    }
}

fn ids(outcome: &Outcome) -> Vec<&'static str> {
    match outcome {
        Outcome::Refused(refusals) => refusals.iter().map(Refusal::id).collect(),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn goldens() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/inject");
    let mut cases: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 4, "{cases:?}");
    for case in cases {
        let text = fs::read_to_string(case.join("in.yaml")).unwrap();
        let before: Json = serde_saphyr::from_str(&text).unwrap();
        let pod: Pod = serde_json::from_value(before.clone()).unwrap();
        let after = injected(inject(&pod, &allowing(Loosening::SkipPorts), &opted_in())).pod;
        let after = serde_json::to_value(after).unwrap();
        let patch = diff(&serde_json::to_value(&pod).unwrap(), &after);
        let patched = {
            let mut document = before;
            patch::apply(&mut document, patch.clone()).unwrap();
            document
        };
        assert_eq!(patched, after, "{}: the patch makes another pod", case.display());
        for (name, made) in [
            ("out.yaml", serde_saphyr::to_string(&after).unwrap()),
            ("patch.json", serde_json::to_string_pretty(&patch).unwrap() + "\n"),
        ] {
            let file = case.join(name);
            if std::env::var_os("UPDATE").is_some() {
                fs::write(&file, &made).unwrap();
            }
            assert_eq!(fs::read_to_string(&file).unwrap(), made, "{}: run it once with UPDATE=1", file.display());
        }
    }
}

#[test]
fn injecting_twice_is_injecting_once_and_it_can_be_undone() {
    let (mut good, mut refused) = (0, BTreeSet::new());
    for seed in 0..600 {
        let before = generate::pod(seed);
        let once = match inject(&before, &settings(), &opted_in()) {
            Outcome::Injected(injected) => injected.pod,
            Outcome::Refused(refusals) => {
                refused.extend(refusals.iter().map(Refusal::id));
                continue;
            }
            Outcome::Skipped(skip) => panic!("{seed}: {skip:?}"),
        };
        good += 1;
        check_patch(&before, &once, seed);
        // Whatever the randomness: what has its secret keeps it.
        let twice = injected(super::inject(&once, &settings(), &opted_in(), [8; 16])).pod;
        assert_eq!(twice, once, "seed {seed}");
        check_shape(&before, &once, seed);
        let undone = uninject(&once).unwrap();
        assert_eq!(uninject(&undone), None);
        let again = injected(inject(&undone, &settings(), &opted_in())).pod;
        assert_eq!(again, once, "seed {seed}");
    }
    assert!(good > 150, "only {good} pods could be injected");
    assert!(refused.len() > 5, "only {refused:?} were refused");
}

/// That what the API server is told makes the one of the other.
fn check_patch(before: &Pod, after: &Pod, seed: u64) {
    let (mut document, after) = (serde_json::to_value(before).unwrap(), serde_json::to_value(after).unwrap());
    let patch = diff(&document, &after);
    patch::apply(&mut document, patch).unwrap();
    assert_eq!(document, after, "seed {seed}: the patch makes another pod");
}

/// What must hold in every pod with a sidecar.
fn check_shape(before: &Pod, after: &Pod, seed: u64) {
    let spec = after.spec.as_ref().unwrap();
    let init = spec.init_containers.as_ref().unwrap();
    let redirected = init[0].name == REDIRECT;
    let sidecar = &init[usize::from(redirected)];
    assert_eq!(sidecar.name, SIDECAR, "seed {seed}");
    assert_eq!(sidecar.restart_policy.as_deref(), Some("Always"));
    let theirs = init.len() - 1 - usize::from(redirected);
    let spec_before = before.spec.as_ref().unwrap();
    assert_eq!(theirs, spec_before.init_containers.as_ref().map_or(0, Vec::len), "seed {seed}");
    assert_eq!(spec.containers.len(), spec_before.containers.len());
    let variables = sidecar.env.iter().flatten();
    let told = variables.filter(|variable| variable.name == PROBES_ENV).find_map(|variable| variable.value.as_deref());
    let told: Probes = told.map(|text| serde_json::from_str(text).unwrap()).unwrap_or_default();
    let json = serde_json::to_value(spec).unwrap().to_string();
    for path in told.keys() {
        let place = Place::at(path).unwrap();
        assert_eq!(place.kind.is_hook(), place.secret.is_some(), "seed {seed}: anybody guesses {path}");
        assert!(json.contains(&format!("\"path\":\"{path}\"")), "seed {seed}: nobody asks for {path}");
    }
    assert!(!json.contains("\"tcpSocket\":{\"port\"") && !json.contains("\"grpc\":{\"port\""), "seed {seed}: {json}");
    assert_eq!(json.matches("/probes/").count(), 2 * told.len(), "seed {seed}: a probe goes past the sidecar");
    assert!(json.matches(&format!("\"port\":{HEALTH_PORT}")).count() >= told.len());
}

#[test]
fn only_who_asks_gets_one() {
    let disabled = json!({"annotations": {INJECT: "disabled"}});
    let plain = pod(json!({}), json!({}));
    let by_annotation = pod(json!({"annotations": {INJECT: "enabled"}}), json!({}));
    let by_label = pod(json!({"labels": {INJECT: "enabled"}}), json!({}));
    let against = pod(disabled, json!({}));
    assert_eq!(inject(&plain, &settings(), &bank(&[])), Outcome::Skipped(Skip::NotRequested));
    assert_eq!(inject(&against, &settings(), &bank(&[])), Outcome::Skipped(Skip::NotRequested));
    injected(inject(&plain, &settings(), &opted_in()));
    injected(inject(&by_annotation, &settings(), &bank(&[])));
    injected(inject(&by_label, &settings(), &bank(&[])));
    let allowing = allowing(Loosening::OptOut);
    assert_eq!(inject(&against, &allowing, &opted_in()), Outcome::Skipped(Skip::OptedOut));
    assert_eq!(ids(&inject(&against, &settings(), &opted_in())), ["annotation_not_allowed"]);
    let misspelt = pod(json!({"labels": {INJECT: "true"}}), json!({}));
    assert_eq!(ids(&inject(&misspelt, &settings(), &opted_in())), ["annotation_invalid"]);
}

#[test]
fn pods_that_cannot_be_guarded_are_refused_with_a_stable_reason() {
    let app = |more: Json| {
        let mut container = json!({"name": "app", "image": "app"});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"containers": [container]})
    };
    let context = |context: Json| app(json!({ "securityContext": context }));
    let token = json!({"serviceAccountToken": {"audience": "fapi-mesh.dev", "path": "t"}});
    let with_header = |name, value| json!({"httpGet": {"port": 80, "httpHeaders": [{"name": name, "value": value}]}});
    let cases = [
        ("host_network", json!({"hostNetwork": true})),
        ("host_pid", json!({"hostPID": true})),
        ("shared_processes", json!({"shareProcessNamespace": true})),
        ("operating_system", json!({"os": {"name": "windows"}})),
        ("privileged", context(json!({"privileged": true}))),
        ("capability", context(json!({"capabilities": {"add": ["NET_ADMIN"]}}))),
        ("capability", context(json!({"capabilities": {"add": ["cap_sys_ptrace"]}}))),
        ("capability", context(json!({"capabilities": {"add": ["ALL"]}}))),
        ("sidecar_id", context(json!({"runAsUser": 15100}))),
        ("sidecar_id", context(json!({"runAsGroup": 15100}))),
        ("sidecar_id", json!({"securityContext": {"supplementalGroups": [1, 15100]}})),
        ("sidecar_id", json!({"securityContext": {"fsGroup": 15100}})),
        ("name_taken", json!({"initContainers": [{"name": "fapi-sidecar", "image": "x"}]})),
        ("name_taken", json!({"containers": [{"name": "fapi-redirect", "image": "x"}]})),
        ("name_taken", json!({"volumes": [{"name": "fapi-mesh-token", "emptyDir": {}}]})),
        ("sidecar_token", app(json!({"volumeMounts": [{"name": "fapi-mesh-token", "mountPath": "/t"}]}))),
        ("sidecar_token", json!({"volumes": [{"name": "t", "projected": {"sources": [token]}}]})),
        ("port_taken", app(json!({"ports": [{"containerPort": 15006}]}))),
        ("probe_port", app(json!({"livenessProbe": {"httpGet": {"port": "http"}}}))),
        ("probe_port", app(json!({"livenessProbe": {"tcpSocket": {"port": 70000}}}))),
        ("probe_header", app(json!({"readinessProbe": with_header("a b", "1")}))),
        ("probe_header", app(json!({"lifecycle": {"preStop": with_header("a", "1\n2")}}))),
        ("probe_protocol", app(json!({"livenessProbe": {"httpGet": {"port": 80, "protocol": "HTTP2"}}}))),
    ];
    let by_the_kernel = ["BPF", "PERFMON", "DAC_READ_SEARCH", "SYS_MODULE", "CAP_SYS_RAWIO"];
    let by_the_kernel = by_the_kernel.map(|name| ("capability", context(json!({"capabilities": {"add": [name]}}))));
    for (id, spec) in cases.into_iter().chain(by_the_kernel) {
        assert_eq!(ids(&inject(&pod(json!({}), spec.clone()), &settings(), &opted_in())), [id], "{spec}");
    }
    let harmless = context(json!({"capabilities": {"add": ["NET_BIND_SERVICE", "CHOWN"]}}));
    injected(inject(&pod(json!({}), harmless), &settings(), &opted_in()));
    let all = json!({"hostNetwork": true, "hostPID": true});
    assert_eq!(ids(&inject(&pod(json!({}), all), &settings(), &opted_in())).len(), 2, "all at once");
}

#[test]
fn annotations_are_read_strictly() {
    for (id, annotations) in [
        ("annotation_invalid", json!({"fapi-mesh.dev/interception": "tproxy"})),
        ("annotation_invalid", json!({"fapi-mesh.dev/log-level": "loud"})),
        ("annotation_invalid", json!({"fapi-mesh.dev/cpu-request": "much"})),
        ("annotation_invalid", json!({"fapi-mesh.dev/memory-request": "2Gi", "fapi-mesh.dev/memory-limit": "1Gi"})),
        ("annotation_not_allowed", json!({"fapi-mesh.dev/skip-inbound-ports": "udp/53"})),
        ("annotation_not_allowed", json!({"fapi-mesh.dev/skip-outbound-ports": "sctp/36412"})),
        ("annotation_not_allowed", json!({"fapi-mesh.dev/uid": "20000"})),
    ] {
        let pod = pod(json!({"annotations": annotations}), json!({}));
        assert_eq!(ids(&inject(&pod, &settings(), &opted_in())), [id], "{annotations}");
    }
    let tcp = pod(json!({"annotations": {"fapi-mesh.dev/skip-inbound-ports": "tcp/80"}}), json!({}));
    assert_eq!(ids(&inject(&tcp, &allowing(Loosening::SkipPorts), &opted_in())), ["annotation_invalid"]);
    let misspelt = pod(json!({"annotations": {"fapi-mesh.dev/interceptoin": "proxy"}}), json!({}));
    let warnings = injected(inject(&misspelt, &settings(), &opted_in())).warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].ends_with("did you mean fapi-mesh.dev/interception?"), "{warnings:?}");
}

#[test]
fn a_pod_has_name_servers_of_its_own_only_where_ports_may_be_skipped() {
    let asking = |servers: Json| json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": servers}});
    let own = || pod(json!({}), asking(json!(["169.254.20.10", "10.1.2.3", "10.1.2.4"])));
    let refused = inject(&own(), &settings(), &opted_in());
    let Outcome::Refused(refusals) = &refused else { panic!("{refused:?}") };
    let text = refusals[0].to_string();
    assert_eq!(ids(&refused), ["name_server"]);
    assert!(text.contains("10.1.2.3") && text.contains("dnsPolicy") && text.contains("SkipPorts"), "{text}");
    injected(inject(&own(), &allowing(Loosening::SkipPorts), &opted_in()));
    for servers in [json!(["fd00::a"]), json!(["nobody"])] {
        assert_eq!(ids(&inject(&pod(json!({}), asking(servers)), &settings(), &opted_in())), ["name_server"]);
    }
    // The cache of the node, and searches and options alone, weaken nothing; nor is there redirection in proxy mode.
    for (annotations, spec) in [
        (json!({}), asking(json!(["169.254.20.10", "fe80::a", "127.0.0.1"]))),
        (json!({}), json!({"dnsConfig": {"searches": ["bank.example"], "options": [{"name": "ndots", "value": "2"}]}})),
        (json!({"fapi-mesh.dev/interception": "proxy"}), asking(json!(["10.1.2.3"]))),
    ] {
        injected(inject(&pod(json!({ "annotations": annotations }), spec), &settings(), &opted_in()));
    }
}

#[test]
fn a_sidecar_has_the_user_and_group_that_it_may_have() {
    let annotated = |id: &str, spec: Json| pod(json!({"annotations": {"fapi-mesh.dev/uid": id}}), spec);
    let settings = allowing(Loosening::Uid);
    for id in ["0", "-1", "+1", "01", "2147483648", "app", ""] {
        let refused = inject(&annotated(id, json!({})), &settings, &opted_in());
        assert_eq!(ids(&refused), ["annotation_invalid"], "{id}");
    }
    let other = Namespace { name: "web".to_owned(), ..opted_in() };
    assert_eq!(ids(&inject(&annotated("20000", json!({})), &settings, &other)), ["annotation_not_allowed"]);
    // Its own number belongs to the app then, and the other one to the sidecar.
    let taken = |id: i64| json!({"securityContext": {"runAsUser": 1, "fsGroup": id}});
    let refused = inject(&annotated("20000", taken(20000)), &settings, &opted_in());
    let Outcome::Refused(refusals) = &refused else { panic!("{refused:?}") };
    assert_eq!((ids(&refused), refusals[0].to_string().contains("20000")), (vec!["sidecar_id"], true));
    let once = injected(inject(&annotated("20000", taken(15100)), &settings, &opted_in())).pod;
    let init = once.spec.clone().unwrap().init_containers.unwrap();
    let env = init[0].env.as_ref().unwrap();
    assert_eq!((env[0].name.as_str(), env[0].value.as_deref()), ("FAPI_SIDECAR_ID", Some("20000")));
    let context = init[1].security_context.as_ref().unwrap();
    assert_eq!((context.run_as_user, context.run_as_group), (Some(20000), Some(20000)));
    assert_eq!(injected(inject(&once, &settings, &opted_in())).pod, once);
}

#[test]
fn pod_security_forbids_redirection_and_allows_the_proxy() {
    let proxied = || pod(json!({"annotations": {"fapi-mesh.dev/interception": "proxy"}}), json!({}));
    for level in ["baseline", "restricted", "unheard-of"] {
        let namespace = bank(&[(INJECT, "enabled"), ("pod-security.kubernetes.io/enforce", level)]);
        let refused = inject(&pod(json!({}), json!({})), &settings(), &namespace);
        assert_eq!(ids(&refused), ["pod_security"], "{level}");
        let pod = injected(inject(&proxied(), &settings(), &namespace)).pod;
        let init = pod.spec.unwrap().init_containers.unwrap();
        assert_eq!(init.len(), 1, "no init container that needs NET_ADMIN");
    }
    let own = json!({"containers": [{"name": "app", "env": [{"name": "HTTP_PROXY", "value": "http://proxy:3128"}]}]});
    let mut pod = proxied();
    pod.spec = serde_json::from_value(own).unwrap();
    assert_eq!(ids(&inject(&pod, &settings(), &opted_in())), ["proxy_variable"]);
}

#[test]
fn a_pod_can_change_its_mode() {
    let mut pod = pod(json!({"annotations": {"fapi-mesh.dev/interception": "proxy"}}), json!({}));
    let redirected = |mut pod: Pod| {
        pod.metadata.annotations.as_mut().unwrap().insert("fapi-mesh.dev/interception".into(), "redirect".into());
        pod
    };
    let changed = redirected(injected(inject(&pod, &settings(), &opted_in())).pod);
    pod = redirected(pod);
    assert_eq!(inject(&changed, &settings(), &opted_in()), inject(&pod, &settings(), &opted_in()));
}

#[test]
fn every_annotation_and_reason_is_documented() {
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/injection.md")).unwrap();
    let documented: BTreeSet<&str> = document.split('`').skip(1).step_by(2).collect();
    let reasons = include_str!("refusal.rs").split("=> \"").skip(1).map(|rest| rest.split('"').next().unwrap());
    let reasons: Vec<&str> = reasons.collect();
    assert!(reasons.len() > 15, "nothing is found in the code: has its form changed?");
    for name in reasons.into_iter().chain(ANNOTATIONS.map(|annotation| annotation.key)) {
        assert!(documented.contains(name), "docs/injection.md does not name {name}");
    }
}

#[test]
fn what_others_did_to_our_containers_is_undone() {
    let once = injected(inject(&pod(json!({}), json!({})), &settings(), &opted_in())).pod;
    let mut json = serde_json::to_value(&once).unwrap();
    json["spec"]["initContainers"][1]["image"] = "elsewhere/fapi-sidecar".into();
    json["spec"]["initContainers"][1]["env"][0]["value"] = "elsewhere:1".into();
    json["spec"]["initContainers"][1]["securityContext"]["privileged"] = true.into();
    json["spec"]["initContainers"].as_array_mut().unwrap().swap(0, 1);
    let meddled = serde_json::from_value(json).unwrap();
    assert_eq!(injected(inject(&meddled, &settings(), &opted_in())).pod, once);
    // A limit that a LimitRange added stays: the quota of the namespace may demand it.
    let mut json = serde_json::to_value(&once).unwrap();
    json["spec"]["initContainers"][0]["resources"]["limits"]["cpu"] = "1".into();
    json["spec"]["initContainers"][1]["resources"]["limits"]["cpu"] = "2".into();
    let limited: Pod = serde_json::from_value(json).unwrap();
    assert_eq!(injected(inject(&limited, &settings(), &opted_in())).pod, limited);
}

#[test]
fn what_is_asked_for_the_sidecar_holds_for_every_container_of_ours() {
    let asked = json!({
        "fapi-mesh.dev/cpu-request": "200m",
        "fapi-mesh.dev/cpu-limit": "200m",
        "fapi-mesh.dev/memory-request": "64Mi",
        "fapi-mesh.dev/memory-limit": "64Mi",
    });
    let pod = injected(inject(&pod(json!({ "annotations": asked }), json!({})), &settings(), &opted_in())).pod;
    // As a quota on limits and the class Guaranteed want it.
    let all = json!({"cpu": "200m", "memory": "64Mi"});
    let ours: Vec<_> =
        pod.spec.unwrap().init_containers.unwrap().into_iter().map(|ours| (ours.name, ours.resources)).collect();
    let expected = serde_json::from_value(json!({"requests": all, "limits": all})).unwrap();
    assert_eq!(ours, [REDIRECT, SIDECAR].map(|name| (name.to_owned(), Some(Clone::clone(&expected)))));
}

#[test]
fn the_paths_of_hooks_are_nobodys_guess() {
    let hooks = json!({"preStop": {"httpGet": {"port": 8080, "path": "/drain"}}, "postStart": {"httpGet": {"port": 8080, "path": "/warm"}}});
    let pod = pod(json!({}), json!({"containers": [{"name": "app", "image": "app", "lifecycle": hooks}]}));
    let path = |pod: &Pod, hook: &str| {
        let lifecycle = serde_json::to_value(pod).unwrap()["spec"]["containers"][0]["lifecycle"].take();
        lifecycle[hook]["httpGet"]["path"].as_str().unwrap().to_owned()
    };
    let [one, other] =
        [[1; 16], [2; 16]].map(|random| injected(super::inject(&pod, &settings(), &opted_in(), random)).pod);
    assert_eq!(path(&one, "preStop"), "/probes/app/prestop/01010101010101010101010101010101");
    assert_eq!(path(&one, "postStart"), "/probes/app/poststart/01010101010101010101010101010101");
    assert_ne!(path(&other, "preStop"), path(&one, "preStop"), "each pod has its own");

    // What an injection left that knew no secret, or somebody wrote for one, gets one now and still does what it did.
    for guessable in ["", "/", "/01"] {
        let text = serde_json::to_string(&one).unwrap().replace("/01010101010101010101010101010101", guessable);
        let mended =
            injected(super::inject(&serde_json::from_str(&text).unwrap(), &settings(), &opted_in(), [2; 16])).pod;
        assert_eq!(mended, other, "{guessable}");
    }
    // A hook that comes later, by another webhook, gets the secret that the pod has.
    let mut json = serde_json::to_value(&one).unwrap();
    json["spec"]["containers"][0]["lifecycle"]["postStart"] = hooks["postStart"].clone();
    let again = injected(super::inject(&serde_json::from_value(json).unwrap(), &settings(), &opted_in(), [2; 16])).pod;
    assert_eq!(again, one);
}
