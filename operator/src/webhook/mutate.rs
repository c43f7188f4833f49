//! `/inject`: the sidecar for pods that ask for one.

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value as Json;

use super::Webhook;
use super::review::{Request, Verdict};
use crate::events::{About, Reason};
use crate::inject::{self, Namespace, Outcome};

/// Decides about a pod.
pub(super) async fn decide(webhook: &Webhook, request: &Request) -> Verdict {
    let name = name(&request.object);
    let pod = match serde_json::from_value::<Pod>(request.object.clone()) {
        Ok(pod) if !request.namespace.is_empty() => pod,
        Ok(_) => return unreadable("it has no namespace"),
        Err(error) => return unreadable(&error.to_string()),
    };
    let Some(labels) = webhook.namespaces.labels(&request.namespace).await else {
        let message =
            format!("the labels of namespace {} cannot be read now; it will be tried again", request.namespace);
        log(request, &name, "unavailable", "namespace_unknown");
        return Verdict::Unavailable { message };
    };
    let namespace = Namespace { name: request.namespace.clone(), labels };
    // A pod has neither a uid nor, often, a name yet: whoever makes it is told, where it is likely that somebody does.
    let is_told = !request.dry_run && webhook.is_of_the_mesh(&namespace);
    let owner = About::owner(&pod, &request.namespace).filter(|_| is_told);
    let tell = |reason, note: String| owner.into_iter().for_each(|owner| webhook.events.tell(owner, reason, &*note));
    let settings = webhook.settings();
    match inject::inject(&pod, &settings, &namespace, inject::random()) {
        Outcome::Injected(injected) => match patch(&pod, &injected.pod) {
            Ok(patch) => {
                log(request, &name, "injected", "");
                tell(Reason::Injected, format!("its pods get the sidecar {}", settings.image.name));
                Verdict::Allowed { patch, warnings: injected.warnings }
            }
            Err(error) => unreadable(&error.to_string()),
        },
        Outcome::Skipped(skip) => {
            log(request, &name, "skipped", skip.id());
            tell(Reason::InjectionSkipped, format!("a pod starts without a sidecar: {skip} ({})", skip.id()));
            Verdict::PASSED
        }
        Outcome::Refused(refusals) => {
            let ids: Vec<_> = refusals.iter().map(inject::Refusal::id).collect();
            log(request, &name, "refused", &ids.join(","));
            let texts: Vec<_> = refusals.iter().map(|refusal| format!("{refusal} ({})", refusal.id())).collect();
            let message = format!("no sidecar for this pod: {}", texts.join("; "));
            tell(Reason::InjectionRefused, message.clone());
            Verdict::Denied { message }
        }
    }
}

fn patch(before: &Pod, after: &Pod) -> Result<Vec<inject::Operation>, serde_json::Error> {
    Ok(inject::diff(&serde_json::to_value(before)?, &serde_json::to_value(after)?))
}

fn unreadable(detail: &str) -> Verdict {
    Verdict::Denied { message: format!("no sidecar for this pod: it cannot be read: {detail}") }
}

/// A pod of a controller has no name yet, only how it begins.
fn name(object: &Json) -> String {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().or_else(|| metadata["generateName"].as_str());
    name.unwrap_or_default().to_owned()
}

fn log(request: &Request, pod: &str, outcome: &'static str, reason: &str) {
    let (namespace, dry_run) = (&request.namespace, request.dry_run);
    tracing::info!(event = "injection", outcome, reason, namespace, pod, dry_run);
}
