//! A cluster and a mesh in which everything is in order; then one defect after the other, each named with its remedy.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::time::Duration;

use fapi::UnixTime;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionStatus,
};
use serde_json::{Value as Json, json};

use super::before::Before;
use super::finding::{Check, Finding, Outcome};
use super::installed::Installed;
use super::probe::{Answer, Attempt};
use super::{passes, render, rights};
use crate::args::Output;
use crate::cluster::testing::{bank, client, condition, custom, object, pod, policy};
use crate::cluster::{Unseen, Version};

fn version(minor: u32) -> Version {
    Version { major: 1, minor, name: format!("v1.{minor}.1") }
}

fn established(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let conditions = Some(vec![object(json!({"type": "Established", "status": "True"}))]);
    definition.status = Some(CustomResourceDefinitionStatus { conditions, ..Default::default() });
    definition
}

fn definitions() -> super::definitions::Definitions {
    crds::all().into_iter().map(|ours| (ours.clone(), Ok(established(ours)))).collect()
}

fn node(name: &str, system: &str, kubelet: &str) -> Node {
    let info = json!({"operatingSystem": system, "kubeletVersion": kubelet, "architecture": "amd64", "bootID": "",
        "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "", "machineID": "", "osImage": "",
        "systemUUID": ""});
    object(json!({"metadata": {"name": name}, "status": {"nodeInfo": info}}))
}

fn before() -> Before {
    let kinds = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"];
    Before {
        version: version(37),
        nodes: Ok(vec![node("one", "linux", "v1.37.1")]),
        admission: Ok(kinds.map(str::to_owned).into()),
        rights: rights::RIGHTS.map(|right| (right, Ok(true))).into(),
        definitions: crds::all().into_iter().map(|ours| (ours, Err(Unseen::Absent))).collect(),
        injecting: Ok(Vec::new()),
        home: Err(Unseen::Absent),
        joining: Ok(Vec::new()),
        operator_namespace: "fapi-mesh".to_owned(),
    }
}

fn pem() -> String {
    rcgen::generate_simple_self_signed(["fapi-operator".to_owned()]).unwrap().cert.pem()
}

fn entries(names: &[&str], bundle: &str) -> Json {
    let service = json!({"name": "fapi-operator", "namespace": "fapi-mesh"});
    let bundle = k8s_openapi::ByteString(bundle.as_bytes().to_vec());
    let one = |name: &&str| {
        json!({"name": name, "failurePolicy": "Fail", "clientConfig": {"service": service, "caBundle": bundle},
            "admissionReviewVersions": ["v1"], "sideEffects": "None"})
    };
    json!({"metadata": {"name": "fapi-operator"}, "webhooks": names.iter().map(one).collect::<Vec<_>>()})
}

fn injecting(change: impl FnOnce(&mut Json)) -> Json {
    let mut configuration = entries(&operator::names::INJECTORS, &pem());
    change(&mut configuration);
    configuration
}

fn bundle(namespace: &str, pem: &str) -> ConfigMap {
    object(json!({"metadata": {"name": "fapi-mesh-trust-bundle", "namespace": namespace}, "data": {"root.pem": pem}}))
}

fn installed() -> Installed {
    Installed {
        version: version(33),
        now: NOW,
        definitions: definitions(),
        injecting: Ok(object(injecting(|_| {}))),
        validating: Ok(object(entries(&operator::names::VALIDATORS, &pem()))),
        attempt: Attempt { namespace: "bank".to_owned(), answer: Ok(Answer::Injected(control::VERSION.to_owned())) },
        images: Ok(object(json!({"spec": {"failurePolicy": "Fail"}}))),
        images_bound: Ok(object(json!({"spec": {"validationActions": ["Deny"]}}))),
        bundles: Ok(vec![bundle("bank", &pem())]),
        workloads: bank(),
    }
}

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// An authority that ends so many days and a minute after that.
fn lasting(days: u64) -> String {
    let mut params = rcgen::CertificateParams::default();
    let end = Duration::from_secs(NOW.as_secs() + days * 24 * 3600 + 60);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + end;
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
}

/// The findings that are not in order.
fn wrong(findings: Vec<Finding>) -> Vec<Finding> {
    findings.into_iter().filter(|finding| finding.outcome != Outcome::Ok).collect()
}

/// Exactly one finding is not in order, and says this.
fn one(findings: Vec<Finding>, check: Check, outcome: Outcome, says: &str) {
    let wrong = wrong(findings);
    assert!(wrong.len() == 1, "{check:?}: {wrong:#?}");
    let finding = &wrong[0];
    assert_eq!((finding.check, finding.outcome), (check, outcome), "{finding:?}");
    assert!(finding.found.contains(says), "{finding:?}");
    assert!(finding.remedy.as_ref().is_some_and(|remedy| !remedy.is_empty()), "{finding:?}");
}

#[test]
fn where_everything_is_in_order_nothing_is_wrong() {
    assert_eq!(wrong(before().judge()), []);
    assert_eq!(wrong(installed().judge()), []);
}

type Defect<T> = (fn(&mut T), Check, Outcome, &'static str);

#[test]
fn each_defect_of_a_cluster_is_named() {
    let defects: [Defect<Before>; 14] = [
        (|it| it.version = version(32), Check::ApiServer, Outcome::Failed, "v1.32.1 is older than 1.33"),
        (|it| it.version = version(38), Check::ApiServer, Outcome::Warning, "newer than 1.37"),
        (|it| it.admission = Ok(Vec::new()), Check::AdmissionApi, Outcome::Failed, "mutatingwebhookconfigurations"),
        (
            |it| it.nodes = Ok(vec![node("one", "linux", "v1.33.0"), node("w", "windows", "v1.33.0")]),
            Check::Nodes,
            Outcome::Warning,
            "not Linux: w",
        ),
        (|it| it.nodes = Ok(Vec::new()), Check::Nodes, Outcome::Failed, "no node"),
        (
            |it| it.nodes = Ok(vec![node("one", "linux", "v1.33.0"), node("two", "linux", "v1.32.9")]),
            Check::NativeSidecars,
            Outcome::Failed,
            "on two",
        ),
        (|it| it.rights[1].1 = Ok(false), Check::Rights, Outcome::Failed, "clusterroles.rbac.authorization.k8s.io"),
        (
            |it| it.rights[1].1 = Err(Unseen::Failed("no answer".to_owned())),
            Check::Rights,
            Outcome::Failed,
            "no answer",
        ),
        (
            |it| {
                let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
                it.joining = Ok(vec![object(json!({"metadata": {"name": "bank", "labels": labels}}))]);
            },
            Check::PodSecurity,
            Outcome::Warning,
            "bank (restricted)",
        ),
        (
            |it| it.home = Err(Unseen::Forbidden("you may not".to_owned())),
            Check::PodSecurity,
            Outcome::Warning,
            "you may not",
        ),
        (
            |it| {
                let elsewhere =
                    injecting(|it| it["webhooks"][0]["clientConfig"]["service"]["namespace"] = "old".into());
                it.injecting = Ok(vec![object(elsewhere)]);
            },
            Check::OtherWebhooks,
            Outcome::Failed,
            "namespace old",
        ),
        (
            |it| {
                let mut istio = entries(&["rev.namespace.sidecar-injector.istio.io"], "");
                istio["metadata"]["name"] = "istio-sidecar-injector".into();
                it.injecting = Ok(vec![object(istio)]);
            },
            Check::OtherWebhooks,
            Outcome::Warning,
            "istio-sidecar-injector",
        ),
        (
            |it| {
                it.definitions = definitions();
                let old = it.definitions[0].1.as_mut().unwrap();
                let schema = old.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
                let spec = schema.properties.as_mut().unwrap().get_mut("spec").unwrap();
                spec.properties.as_mut().unwrap().remove("authentication").unwrap();
            },
            Check::Definitions,
            Outcome::Warning,
            "fapiclients.fapi-mesh.dev is not of version",
        ),
        (
            |it| it.injecting = Err(Unseen::Forbidden("you may not list".to_owned())),
            Check::OtherWebhooks,
            Outcome::Warning,
            "you may not list",
        ),
    ];
    for (plant, check, outcome, says) in defects {
        let mut facts = before();
        plant(&mut facts);
        one(facts.judge(), check, outcome, says);
    }
}

#[test]
fn each_defect_of_the_control_plane_is_named() {
    let defects: [Defect<Installed>; 22] = [
        (|it| it.definitions[3].1 = Err(Unseen::Absent), Check::Definitions, Outcome::Failed, "fapipolicies"),
        (
            |it| it.definitions[3].1.as_mut().unwrap().status = None,
            Check::Definitions,
            Outcome::Failed,
            "fapipolicies.fapi-mesh.dev is not established",
        ),
        (
            |it| it.definitions[3].1.as_mut().unwrap().spec.versions[0].served = false,
            Check::Definitions,
            Outcome::Failed,
            "not of version",
        ),
        (
            |it| it.workloads.operator.as_mut().unwrap().status.as_mut().unwrap().ready_replicas = None,
            Check::Operator,
            Outcome::Failed,
            "0 of 2 replicas",
        ),
        (
            |it| it.workloads.operator.as_mut().unwrap().status.as_mut().unwrap().ready_replicas = Some(1),
            Check::Operator,
            Outcome::Warning,
            "1 of 2 replicas",
        ),
        (
            |it| it.injecting = Err(Unseen::Absent),
            Check::InjectionWebhook,
            Outcome::Failed,
            "MutatingWebhookConfiguration fapi-operator",
        ),
        (
            |it| it.injecting = Ok(object(injecting(|it| it["webhooks"][1]["failurePolicy"] = "Ignore".into()))),
            Check::InjectionWebhook,
            Outcome::Failed,
            "label.inject.fapi-mesh.dev",
        ),
        (
            |it| it.injecting = Ok(object(injecting(|it| it["webhooks"][2]["clientConfig"]["caBundle"] = "".into()))),
            Check::InjectionWebhook,
            Outcome::Failed,
            "annotation.inject.fapi-mesh.dev",
        ),
        (
            |it| {
                it.injecting =
                    Ok(object(injecting(|it| it["webhooks"] = json!([it["webhooks"][0], it["webhooks"][1]]))));
            },
            Check::InjectionWebhook,
            Outcome::Failed,
            "has no entry annotation",
        ),
        (|it| it.images = Err(Unseen::Absent), Check::ImagePolicy, Outcome::Failed, "images.fapi-mesh.dev"),
        (
            |it| it.images = Ok(object(json!({"spec": {"failurePolicy": "Ignore"}}))),
            Check::ImagePolicy,
            Outcome::Failed,
            "failurePolicy is not Fail",
        ),
        (
            |it| it.images_bound = Ok(object(json!({"spec": {"validationActions": ["Audit"]}}))),
            Check::ImagePolicy,
            Outcome::Failed,
            "does not deny",
        ),
        (
            |it| it.validating = Ok(object(entries(&operator::names::VALIDATORS, ""))),
            Check::ValidationWebhook,
            Outcome::Failed,
            "caBundle",
        ),
        (
            |it| it.validating = Ok(object(entries(&operator::names::VALIDATORS, &lasting(89)))),
            Check::WebhookCertificate,
            Outcome::Warning,
            "ends in 89 days",
        ),
        (
            |it| it.validating = Ok(object(entries(&operator::names::VALIDATORS, &lasting(0)))),
            Check::WebhookCertificate,
            Outcome::Failed,
            "has ended, or does so today",
        ),
        (
            |it| {
                let ended = entries(&operator::names::INJECTORS, &lasting(1));
                (it.injecting, it.now) = (Ok(object(ended)), NOW.plus(100 * 24 * 3600));
            },
            Check::WebhookCertificate,
            Outcome::Failed,
            "has ended, or does so today",
        ),
        (
            |it| it.attempt.answer = Ok(Answer::Unreachable("failed calling webhook".to_owned())),
            Check::WebhookAnswers,
            Outcome::Failed,
            "cannot start",
        ),
        (|it| it.attempt.answer = Ok(Answer::Untouched), Check::WebhookAnswers, Outcome::Failed, "gets no sidecar"),
        (
            |it| it.attempt.answer = Ok(Answer::Refused("exceeded quota".to_owned())),
            Check::WebhookAnswers,
            Outcome::Warning,
            "exceeded quota",
        ),
        (
            |it| it.attempt.answer = Ok(Answer::NotRedirected("violates PodSecurity".to_owned())),
            Check::WebhookAnswers,
            Outcome::Warning,
            "by proxy alone, else it is refused: violates PodSecurity",
        ),
        (|it| it.bundles = Ok(vec![bundle("web", &pem())]), Check::TrustBundle, Outcome::Failed, "in bank"),
        (|it| it.bundles = Ok(vec![bundle("bank", "")]), Check::TrustBundle, Outcome::Failed, "in bank"),
    ];
    for (plant, check, outcome, says) in defects {
        let mut facts = installed();
        plant(&mut facts);
        one(facts.judge(), check, outcome, says);
    }
}

#[test]
fn the_days_that_are_left_are_told_of_the_certificate_that_ends_last_in_the_entry_that_ends_first() {
    let mut facts = installed();
    facts.injecting = Ok(object(injecting(|it| {
        let both = k8s_openapi::ByteString((lasting(2) + &lasting(200)).into_bytes());
        it["webhooks"][1]["clientConfig"]["caBundle"] = json!(both);
    })));
    let findings = facts.judge();
    let said = findings.iter().find(|finding| finding.check == Check::WebhookCertificate).unwrap();
    assert_eq!((said.outcome, &*said.found), (Outcome::Ok, "the authority in each caBundle lasts 200 days"));
    // Nothing is said of what is not there; that is another line.
    facts.injecting = Err(Unseen::Absent);
    facts.validating = Ok(object(entries(&operator::names::VALIDATORS, "")));
    assert!(!facts.judge().iter().any(|finding| finding.check == Check::WebhookCertificate));
}

#[test]
fn each_defect_of_objects_and_pods_is_named() {
    let defects: [Defect<Installed>; 9] = [
        (
            |it| {
                let mut policy = policy("ledger");
                policy["metadata"]["generation"] = 2.into();
                it.workloads.policies = Ok(vec![custom(policy)]);
            },
            Check::Policies,
            Outcome::Failed,
            "FapiPolicy bank/ledger: the operator has not said anything",
        ),
        (
            |it| {
                let mut policy = policy("ledger");
                policy["status"]["conditions"][0] = condition("Ready", "False", "Rejected", "x");
                let words = "0 of 1 pods run 3f2a; bank/ledger-1: unknown feature";
                policy["status"]["ancestors"][0]["conditions"][2] = condition("Programmed", "False", "Rejected", words);
                it.workloads.policies = Ok(vec![custom(policy)]);
            },
            Check::Policies,
            Outcome::Failed,
            "at ledger: Programmed is not true (Rejected): 0 of 1 pods run 3f2a; bank/ledger-1: unknown feature",
        ),
        (
            |it| {
                let mut policy = policy("ledger");
                policy["status"]["conditions"][0] = condition("Ready", "False", "NoPods", "");
                policy["status"]["ancestors"][0]["conditions"][2] = condition("Programmed", "False", "NoPods", "");
                it.workloads.policies = Ok(vec![custom(policy)]);
            },
            Check::Policies,
            Outcome::Warning,
            "NoPods",
        ),
        (
            |it| {
                let mut policy = policy("ledger");
                let most = json!({"reason": "token_missing", "caller": "web/checkout", "count": 9});
                policy["status"]["ancestors"][0]["wouldRefuse"] =
                    json!({"since": "2026-11-28T16:00:00Z", "count": 12, "top": [most]});
                it.workloads.policies = Ok(vec![custom(policy)]);
            },
            Check::Policies,
            Outcome::Warning,
            "at ledger: calls that it would refuse: 12 since 2026-11-28T16:00:00Z, most: token_missing from web/checkout (9)",
        ),
        (
            |it| {
                let mut client = client("shop");
                client["status"]["conditions"][0] = condition("Ready", "False", "CallerNotAllowed", "ledger");
                it.workloads.clients = Ok(vec![custom(client)]);
            },
            Check::Clients,
            Outcome::Failed,
            "FapiClient bank/shop: Ready is not true (CallerNotAllowed): ledger",
        ),
        (
            |it| it.workloads.pods.as_mut().unwrap().push(pod("bank", "shop-2", "shop", false)),
            Check::Sidecars,
            Outcome::Failed,
            "run without: bank/shop-2",
        ),
        (
            |it| it.workloads.pods.as_mut().unwrap().push(pod("bank", "ledger-2", "ledger", false)),
            Check::Sidecars,
            Outcome::Failed,
            "bank/ledger-2 (bank/ledger)",
        ),
        (
            |it| {
                let annotations = it.workloads.pods.as_mut().unwrap()[0].metadata.annotations.as_mut().unwrap();
                annotations.insert("fapi-mesh.dev/status".to_owned(), "0.9.0".to_owned());
            },
            Check::SidecarVersions,
            Outcome::Failed,
            "\"0.9.0\" does not go with operator",
        ),
        (
            |it| it.workloads.clients = Err(Unseen::Forbidden("you may not list".to_owned())),
            Check::Clients,
            Outcome::Warning,
            "FapiClient: you may not list",
        ),
    ];
    for (plant, check, outcome, says) in defects {
        let mut facts = installed();
        plant(&mut facts);
        one(facts.judge(), check, outcome, says);
    }
}

#[test]
fn what_is_not_installed_is_named_once_and_nothing_that_follows_from_it() {
    let mut facts = installed();
    facts.definitions = crds::all().into_iter().map(|ours| (ours, Err(Unseen::Absent))).collect();
    let workloads = &mut facts.workloads;
    for objects in [&mut workloads.meshes, &mut workloads.issuers, &mut workloads.policies, &mut workloads.clients] {
        *objects = Err(Unseen::Absent);
    }
    one(facts.judge(), Check::Definitions, Outcome::Failed, "not there: fapiclients.fapi-mesh.dev");
    let mut facts = installed();
    facts.workloads.operator = Err(Unseen::Absent);
    one(facts.judge(), Check::Operator, Outcome::Failed, "fapi-mesh/fapi-operator is not there");
}

#[test]
fn what_fails_decides_the_exit_code_and_what_may_be_looked_at_does_not() {
    let ok = Finding::ok(Check::Nodes, "1 with Linux");
    let warning = Finding::warning(Check::ApiServer, "newer", "look");
    let failed = Finding::failed(Check::Rights, "you may not", "ask");
    assert!(passes(&[ok.clone(), warning.clone()]));
    assert!(!passes(&[ok.clone(), failed.clone()]));

    let findings = [warning, ok, failed];
    let text = render::render(&findings, Output::Text);
    let expected = "kubernetes\n  warning  api-server          newer\n                               to do: look\n  \
                    ok       nodes               1 with Linux\ninstall\n  FAILED   rights              you may not\n";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.ends_with("to do: ask\n\nTo be mended: 1; to look at: 1.\n"), "{text}");

    let document: Json = serde_json::from_str(&render::render(&findings, Output::Json)).unwrap();
    assert_eq!(document["passes"], false);
    let third = json!({"category": "install", "check": "rights", "outcome": "failed", "found": "you may not",
        "remedy": "ask"});
    assert_eq!(document["findings"][2], third);
}

#[test]
fn every_check_is_explained() {
    let document = include_str!("../../../../docs/fapictl.md");
    for findings in [before().judge(), installed().judge()] {
        for finding in findings {
            let (_, id) = finding.check.names();
            assert!(document.contains(&format!("| `{id}` |")), "docs/fapictl.md does not explain {id}");
        }
    }
}
