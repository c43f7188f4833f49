//! `/validate`: objects of ours are read as the operator will read them, so what is taken compiles.

use fapi::TrustDomain;
use serde_json::{Value as Json, json};

use super::Webhook;
use super::review::{Request, Verdict};
use crate::events::{About, Reason};
use crate::source::{self, Kind, ObjectId};

/// Decides about a FapiClient, FapiIssuer, FapiMesh, FapiPolicy or Revocation.
pub(super) fn decide(webhook: &Webhook, trust_domain: &TrustDomain, request: &Request) -> Verdict {
    let object = &request.object;
    // What is wrong already, or on its way out, can still be relabelled and let go.
    if !object["metadata"]["deletionTimestamp"].is_null() || object["spec"] == request.old_object["spec"] {
        return Verdict::PASSED;
    }
    let problems = source::problems(&webhook.schemas, trust_domain, &document(object));
    if problems.is_empty() {
        return Verdict::PASSED;
    }
    let (kind, namespace, name) = (&object["kind"], &request.namespace, &object["metadata"]["name"]);
    tracing::info!(event = "validation", outcome = "refused", %kind, namespace, %name, problems = problems.len());
    let message = problems.join("; ");
    // One that is not there yet has no place to be told; who wanted to make it is told by the answer. That one was there is not
    // believed of the review alone.
    let is_told = !request.dry_run && id(&request.old_object).is_some_and(|id| webhook.knows(&id));
    if let Some(about) = About::object(&request.old_object).filter(|_| is_told) {
        webhook.events.tell(about, Reason::ChangeRefused, &*message);
    }
    Verdict::Denied { message }
}

fn id(object: &Json) -> Option<ObjectId> {
    let metadata = &object["metadata"];
    let kind = Kind::from_name(object["kind"].as_str()?)?;
    ObjectId::new(kind, metadata["namespace"].as_str(), metadata["name"].as_str()?)
}

/// The object as its author could have written it: what the API server adds is no field of ours.
fn document(object: &Json) -> Json {
    let metadata = &object["metadata"];
    // One whose name is still to be made has the beginning of it.
    let begun = metadata["generateName"].as_str().map(|begun| json!(format!("{begun}x")));
    let mut names =
        json!({"name": begun.filter(|_| metadata["name"].is_null()).unwrap_or_else(|| metadata["name"].clone())});
    if let Some(namespace) = metadata.get("namespace") {
        names["namespace"] = namespace.clone();
    }
    json!({
        "apiVersion": object["apiVersion"],
        "kind": object["kind"],
        "metadata": names,
        "spec": object["spec"],
    })
}
