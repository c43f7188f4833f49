//! Whether the API server reaches the webhook that injects: a pod that asks for a sidecar is made, without being made.

use k8s_openapi::api::core::v1::Pod;
use kube::Error;
use kube::api::{Api, PostParams};
use operator::inject::Interception;
use operator::{inject, names};
use serde_json::json;

use super::finding::{Check, Finding};
use crate::cluster::{Cluster, Scope, Seen, Unseen, Workloads, ask};

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The pod has a sidecar of this version.
    Injected(String),
    /// The pod has none.
    Untouched,
    /// The pod was refused.
    Refused(String),
    /// It has a sidecar only by proxy. The namespace does not say that redirection is forbidden there, so nobody who asks for a sidecar
    /// is told before his pod is refused.
    NotRedirected(String),
    /// The API server cannot ask the webhook.
    Unreachable(String),
}

/// An attempt, and where it was made.
pub(super) struct Attempt {
    pub(super) namespace: String,
    pub(super) answer: Seen<Answer>,
}

impl Attempt {
    /// Makes one, as a dry run.
    pub(super) async fn make(cluster: &Cluster, scope: &Scope, workloads: &Workloads) -> Self {
        let namespace = match scope {
            Scope::Namespace(name) => name.clone(),
            Scope::All => workloads.opted_in().first().map_or_else(|| "default".to_owned(), ToString::to_string),
        };
        let pods: Api<Pod> = Api::namespaced(cluster.client(), &namespace);
        let answer = match attempt(&pods, Interception::Proxy).await {
            Ok(Answer::Injected(version)) => match attempt(&pods, Interception::Redirect).await {
                Ok(Answer::Refused(why)) if why.contains("violates PodSecurity") => Ok(Answer::NotRedirected(why)),
                _ => Ok(Answer::Injected(version)),
            },
            other => other,
        };
        Self { answer, namespace }
    }

    /// What it means.
    pub(super) fn judge(&self) -> Finding {
        let Self { namespace, answer } = self;
        let answer = match answer {
            Ok(answer) => answer,
            Err(unseen) => {
                let found = unseen.said(&format!("no pod could be tried in namespace {namespace}"));
                return Finding::warning(
                    Check::WebhookAnswers,
                    found,
                    "name a namespace with workloads by --namespace",
                );
            }
        };
        match answer {
            Answer::Injected(version) => {
                let found = format!("a pod that asks in namespace {namespace} gets a sidecar, version {version}");
                Finding::ok(Check::WebhookAnswers, found)
            }
            Answer::Untouched => Finding::failed(
                Check::WebhookAnswers,
                format!("a pod that asks in namespace {namespace} gets no sidecar: nobody was asked about it"),
                "mend the injection webhook first; nothing is injected in kube-system and where the operator runs",
            ),
            Answer::Unreachable(why) => Finding::failed(
                Check::WebhookAnswers,
                format!("pods that ask for a sidecar cannot start: {why}"),
                format!(
                    "see that pods of Deployment {0} are ready, that Service {0} leads to them, and that the API server may \
                     reach them through NetworkPolicies and firewalls",
                    names::OPERATOR
                ),
            ),
            Answer::NotRedirected(why) => Finding::warning(
                Check::WebhookAnswers,
                format!(
                    "a pod that asks in namespace {namespace} gets a sidecar by proxy alone, else it is refused: {why}"
                ),
                format!(
                    "annotate pods there with fapi-mesh.dev/interception: proxy, or let them redirect: kubectl label namespace \
                     {namespace} pod-security.kubernetes.io/enforce=privileged"
                ),
            ),
            Answer::Refused(why) => Finding::warning(
                Check::WebhookAnswers,
                format!("a pod could not be tried in namespace {namespace}: {why}"),
                "name a namespace where you may make pods by --namespace",
            ),
        }
    }
}

async fn attempt(pods: &Api<Pod>, interception: Interception) -> Seen<Answer> {
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let Ok(pod) = serde_json::from_value(pod(interception)) else {
        return Err(Unseen::Failed("the pod cannot be written".to_owned()));
    };
    let answer = ask(async {
        match pods.create(&dry_run, &pod).await {
            Ok(pod) => Ok(injected(&pod)),
            Err(Error::Api(status)) if status.message.contains("failed calling webhook") => {
                Ok(Answer::Unreachable(status.message.clone()))
            }
            Err(Error::Api(status)) if status.code != 404 => Ok(Answer::Refused(status.message.clone())),
            Err(error) => Err(error),
        }
    });
    answer.await
}

/// A pod that every level of Pod Security takes; by proxy, also with a sidecar.
fn pod(interception: Interception) -> serde_json::Value {
    let rights = json!({
        "allowPrivilegeEscalation": false, "runAsNonRoot": true, "runAsUser": 65532,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    });
    let small = json!({"cpu": "1m", "memory": "1Mi"});
    json!({
        "metadata": {
            "generateName": "fapictl-check-",
            "annotations": {(inject::INJECT): "enabled", (inject::INTERCEPTION): interception.name()},
        },
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{"name": "app", "image": "never-pulled", "securityContext": rights,
                "resources": {"requests": small, "limits": small}}],
        },
    })
}

fn injected(pod: &Pod) -> Answer {
    let version = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(inject::STATUS));
    match version.filter(|_| pod.spec.as_ref().is_some_and(inject::has_sidecar)) {
        Some(version) => Answer::Injected(version.clone()),
        None => Answer::Untouched,
    }
}
