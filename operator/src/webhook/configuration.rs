//! How an API server is told of the webhooks.
//!
//! What has not opted in never depends on the operator: selectors and a condition are judged by the API server itself, and the
//! three ways of asking for a sidecar are three entries, of which at most one matches a pod.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference,
    ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};
use serde_json::{Value as Json, json};

use super::PATIENCE;
use crate::inject;
use crate::names::{INJECTORS, SYSTEM_NAMESPACE, VALIDATORS};

/// The path of the webhook that injects.
pub(super) const INJECT: &str = "/inject";
/// The path of the webhook that validates.
pub(super) const VALIDATE: &str = "/validate";
/// The path of the webhook that looks at what is put into pods that run.
pub(super) const EPHEMERAL: &str = "/ephemeral";

/// The label with its name that every namespace has.
const NAME: &str = "kubernetes.io/metadata.name";
const FAIL: &str = "Fail";
/// Events.
const SIDE_EFFECTS: &str = "NoneOnDryRun";

/// The Service before the operator.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// Its name, and that of both configurations.
    pub(crate) name: String,
    /// Its namespace, in which nothing is ever injected.
    pub(crate) namespace: String,
}

/// The injection. Without the operator, pods that ask for a sidecar wait; no others do.
pub(crate) fn mutating(service: &Service) -> MutatingWebhookConfiguration {
    let namespaces = |more: Option<LabelSelectorRequirement>| {
        selector([Some(elsewhere(service)), more].into_iter().flatten().collect())
    };
    let asks = |operator: &str| requirement(inject::INJECT, operator, vec![inject::ENABLED.to_owned()]);
    let entry = |name: &str, namespaces: LabelSelector, objects: Option<LabelSelector>| MutatingWebhook {
        name: name.to_owned(),
        admission_review_versions: vec!["v1".to_owned()],
        client_config: client(service, INJECT),
        failure_policy: Some(FAIL.to_owned()),
        match_policy: Some("Equivalent".to_owned()),
        namespace_selector: Some(namespaces),
        object_selector: objects,
        reinvocation_policy: Some("IfNeeded".to_owned()),
        rules: Some(vec![rule(&["CREATE"], "", "v1", &["pods"], "Namespaced")]),
        side_effects: SIDE_EFFECTS.to_owned(),
        timeout_seconds: seconds(),
        ..MutatingWebhook::default()
    };
    let others = || namespaces(Some(asks("NotIn")));
    let [namespace, label, annotation] = INJECTORS;
    let mut by_annotation = entry(annotation, others(), Some(selector(vec![asks("NotIn")])));
    by_annotation.match_conditions = Some(vec![asks_by_annotation()]);
    MutatingWebhookConfiguration {
        metadata: named(service),
        webhooks: Some(vec![
            entry(namespace, namespaces(Some(asks("In"))), None),
            entry(label, others(), Some(selector(vec![asks("In")]))),
            by_annotation,
        ]),
    }
}

/// The validation. As it stands in the chart, that of our objects has no rules, so nothing is asked: the first objects of a mesh may
/// come before its operator. It fails closed, and that is said there: what a chart says and an operator changes is changed back by
/// the next upgrade. That of ephemeral containers is asked from the start, about pods that have a sidecar and no others.
pub(crate) fn validating(service: &Service) -> ValidatingWebhookConfiguration {
    let entry = |name: &str, path: &str| ValidatingWebhook {
        name: name.to_owned(),
        admission_review_versions: vec!["v1".to_owned()],
        client_config: client(service, path),
        failure_policy: Some(FAIL.to_owned()),
        match_policy: Some("Equivalent".to_owned()),
        side_effects: SIDE_EFFECTS.to_owned(),
        timeout_seconds: seconds(),
        ..ValidatingWebhook::default()
    };
    let [objects, ephemeral] = VALIDATORS;
    let mut beside_sidecars = entry(ephemeral, EPHEMERAL);
    beside_sidecars.namespace_selector = Some(selector(vec![elsewhere(service)]));
    beside_sidecars.match_conditions = Some(vec![has_a_sidecar()]);
    beside_sidecars.rules = Some(vec![rule(&["UPDATE"], "", "v1", &["pods/ephemeralcontainers"], "Namespaced")]);
    ValidatingWebhookConfiguration {
        metadata: named(service),
        webhooks: Some(vec![entry(objects, VALIDATE), beside_sidecars]),
    }
}

/// What the operator says about both once it serves, for server-side apply: whom to trust, and, if it `asks_about_objects`, what it
/// is to be asked about from now on. `bundle` is the PEM of its authority.
///
/// Each entry is valid by itself: of one that an earlier chart lacks, a rollback leaves what the operator said, which asks about nothing.
pub(crate) fn with_authority(service: &Service, bundle: &str, asks_about_objects: bool) -> [Json; 2] {
    let told = |name: String| {
        json!({
            "name": name,
            "admissionReviewVersions": ["v1"],
            "clientConfig": {
                "caBundle": ByteString(bundle.as_bytes().to_vec()),
                "service": {"name": service.name, "namespace": service.namespace},
            },
            "sideEffects": SIDE_EFFECTS,
        })
    };
    let part = |kind: &str, webhooks: Json| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": service.name},
            "webhooks": webhooks,
        })
    };
    let injecting = mutating(service).webhooks.into_iter().flatten().map(|webhook| told(webhook.name)).collect();
    let resources = ["fapiclients", "fapiissuers", "fapimeshes", "fapipolicies", "revocations"];
    let rules = [rule(&["CREATE", "UPDATE"], crds::GROUP, crds::VERSION, &resources, "*")];
    let checking = validating(service).webhooks.into_iter().flatten().map(|webhook| {
        let mut entry = told(webhook.name);
        if webhook.rules.is_none() && asks_about_objects {
            entry["failurePolicy"] = json!(FAIL);
            entry["rules"] = json!(rules);
        }
        entry
    });
    let checking = checking.collect();
    [part("MutatingWebhookConfiguration", injecting), part("ValidatingWebhookConfiguration", checking)]
}

/// An error in it would refuse the pod, hence the guards.
fn asks_by_annotation() -> MatchCondition {
    let (key, annotations) = (inject::INJECT, "object.metadata.annotations");
    MatchCondition {
        name: "asks-by-annotation".to_owned(),
        expression: format!(
            "has({annotations}) && '{key}' in {annotations} && {annotations}['{key}'] == '{}'",
            inject::ENABLED
        ),
    }
}

/// Not whether it asks for one: labels and annotations can be taken away while the sidecar is there.
fn has_a_sidecar() -> MatchCondition {
    let (sidecar, containers) = (inject::SIDECAR, "object.spec.initContainers");
    MatchCondition {
        name: "has-a-sidecar".to_owned(),
        expression: format!("has({containers}) && {containers}.exists(container, container.name == '{sidecar}')"),
    }
}

/// Not in what the cluster or the operator need to start.
fn elsewhere(service: &Service) -> LabelSelectorRequirement {
    requirement(NAME, "NotIn", vec![SYSTEM_NAMESPACE.to_owned(), service.namespace.clone()])
}

fn named(service: &Service) -> ObjectMeta {
    ObjectMeta { name: Some(service.name.clone()), ..ObjectMeta::default() }
}

fn client(service: &Service, path: &str) -> WebhookClientConfig {
    let service = ServiceReference {
        name: service.name.clone(),
        namespace: service.namespace.clone(),
        path: Some(path.to_owned()),
        port: Some(443),
    };
    WebhookClientConfig { service: Some(service), ..WebhookClientConfig::default() }
}

fn rule(operations: &[&str], group: &str, version: &str, resources: &[&str], scope: &str) -> RuleWithOperations {
    let owned = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect());
    RuleWithOperations {
        operations: owned(operations),
        api_groups: owned(&[group]),
        api_versions: owned(&[version]),
        resources: owned(resources),
        scope: Some(scope.to_owned()),
    }
}

fn selector(requirements: Vec<LabelSelectorRequirement>) -> LabelSelector {
    LabelSelector { match_expressions: Some(requirements), match_labels: None }
}

fn requirement(key: &str, operator: &str, values: Vec<String>) -> LabelSelectorRequirement {
    LabelSelectorRequirement { key: key.to_owned(), operator: operator.to_owned(), values: Some(values) }
}

fn seconds() -> Option<i32> {
    i32::try_from(PATIENCE.as_secs()).ok()
}
