//! `/ephemeral`: containers that are put into a pod that runs, as `kubectl debug` does.

use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;

use super::review::{Request, Verdict};
use crate::inject::{self, Refusal};

/// Decides about a pod that has a sidecar, before and after.
pub(super) fn decide(request: &Request) -> Verdict {
    let (before, after) = match (Pod::deserialize(&request.old_object), Pod::deserialize(&request.object)) {
        (Ok(before), Ok(after)) => (before, after),
        (Err(error), _) | (_, Err(error)) => {
            return Verdict::Denied { message: format!("no ephemeral container: the pod cannot be read: {error}") };
        }
    };
    let refusals = inject::refuse_ephemeral(&before, &after);
    if refusals.is_empty() {
        return Verdict::PASSED;
    }
    let (namespace, dry_run) = (&request.namespace, request.dry_run);
    let pod = after.metadata.name.unwrap_or_default();
    let reason = refusals.iter().map(Refusal::id).collect::<Vec<_>>().join(",");
    tracing::info!(event = "ephemeral", outcome = "refused", reason, namespace, pod, dry_run);
    let texts: Vec<_> = refusals.iter().map(|refusal| format!("{refusal} ({})", refusal.id())).collect();
    let message = format!(
        "no such container beside a sidecar: {}. With kubectl debug: --profile=baseline or restricted, --target a container of the app",
        texts.join("; ")
    );
    Verdict::Denied { message }
}
