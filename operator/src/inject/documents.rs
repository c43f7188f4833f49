//! Injection into YAML documents, for files and pipes: pods, and whatever makes pods of a template.

use std::fmt;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value as Json, json};

use super::{INJECT, Namespace, Outcome, Refusal, Settings, inject, patch, uninject};
use crate::source::documents;

/// Documents with what became of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The documents. Those in which nothing changed are as they were, to the letter.
    pub text: String,
    /// What happened, a line for each workload, and warnings.
    pub notes: Vec<String>,
}

/// Why documents cannot be injected.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// They cannot be read.
    #[error("line {line}: this is not YAML: {detail}")]
    NotYaml {
        /// Where the document starts, from 1.
        line: u32,
        /// What the reader says.
        detail: String,
    },
    /// A document whose pods are no pods.
    #[error("{workload}: its pods cannot be read: {detail}; `kubectl apply --dry-run=server` says more")]
    NoPod {
        /// Kind, namespace and name.
        workload: String,
        /// What the reader says.
        detail: String,
    },
    /// A workload whose pods cannot have a sidecar.
    #[error("{workload}: {}", refusals.iter().map(|refusal| format!("{refusal} ({})", refusal.id())).collect::<Vec<_>>().join("; "))]
    Refused {
        /// Kind, namespace and name.
        workload: String,
        /// Every reason.
        refusals: Vec<Refusal>,
    },
}

/// Brings the sidecar into every workload of a stream of YAML documents. Whoever gives them asks for it; pods that say
/// `disabled` go without. `namespace` is that of documents that name none, `random` what [`inject`] wants for each workload.
///
/// # Errors
/// A document cannot be read, or one of its workloads cannot have a sidecar.
pub fn inject_stream(
    text: &str,
    settings: &Settings,
    namespace: &str,
    random: impl Fn() -> [u8; 16],
) -> Result<Done, StreamError> {
    each_workload(text, namespace, |workload, pod, notes| {
        let labels = [(INJECT.to_owned(), "enabled".to_owned())].into();
        let namespace = Namespace { name: workload.namespace.clone(), labels };
        match inject(pod, settings, &namespace, random()) {
            Outcome::Injected(injected) => {
                notes.push(format!("{workload}: injected"));
                notes.extend(injected.warnings.iter().map(|warning| format!("{workload}: {warning}")));
                Ok(Some(injected.pod))
            }
            Outcome::Skipped(skip) => {
                notes.push(format!("{workload}: left as it is ({})", skip.id()));
                Ok(None)
            }
            Outcome::Refused(refusals) => Err(StreamError::Refused { workload: workload.to_string(), refusals }),
        }
    })
}

/// Takes the sidecar out of every workload of a stream of YAML documents.
///
/// # Errors
/// A document cannot be read.
pub fn uninject_stream(text: &str, namespace: &str) -> Result<Done, StreamError> {
    each_workload(text, namespace, |workload, pod, notes| {
        let pod = uninject(pod);
        let became = if pod.is_some() { "the sidecar is out" } else { "left as it is (there is no sidecar in it)" };
        notes.push(format!("{workload}: {became}"));
        Ok(pod)
    })
}

/// What makes pods, for people.
struct Workload {
    kind: String,
    namespace: String,
    name: String,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// What happens to the pod of a workload; `None` if nothing does.
type Change<'a> = dyn Fn(&Workload, &Pod, &mut Vec<String>) -> Result<Option<Pod>, StreamError> + 'a;

fn each_workload(
    text: &str,
    namespace: &str,
    change: impl Fn(&Workload, &Pod, &mut Vec<String>) -> Result<Option<Pod>, StreamError>,
) -> Result<Done, StreamError> {
    let mut notes = Vec::new();
    let mut texts = Vec::new();
    for document in documents::split(text) {
        let not_yaml = |detail: String| StreamError::NotYaml { line: document.line, detail };
        let mut json: Json = serde_saphyr::from_str(document.text).map_err(|error| not_yaml(error.to_string()))?;
        if change_document(&mut json, namespace, &change, &mut notes)? {
            texts.push(serde_saphyr::to_string(&json).map_err(|error| not_yaml(error.to_string()))?);
        } else {
            texts.push(document.text.to_owned());
        }
    }
    let ended = |text: String| if text.ends_with('\n') { text } else { text + "\n" };
    let texts: Vec<_> = texts.into_iter().map(ended).collect();
    Ok(Done { text: texts.join("---\n"), notes })
}

/// Changes one document; whether anything changed.
fn change_document(
    document: &mut Json,
    namespace: &str,
    change: &Change<'_>,
    notes: &mut Vec<String>,
) -> Result<bool, StreamError> {
    let text = |json: &Json| json.as_str().unwrap_or_default().to_owned();
    let kind = text(&document["kind"]);
    if let ("List", Some(items)) = (kind.as_str(), document.get_mut("items").and_then(Json::as_array_mut)) {
        let mut changed = false;
        for item in items {
            changed |= change_document(item, namespace, change, notes)?;
        }
        return Ok(changed);
    }
    let Some(path) = template(&kind) else { return Ok(false) };
    let metadata = &document["metadata"];
    let named = metadata["namespace"].as_str().unwrap_or(namespace).to_owned();
    let workload = Workload { kind, namespace: named, name: text(&metadata["name"]) };
    let Some(template) = document.pointer_mut(path).and_then(Json::as_object_mut) else { return Ok(false) };
    change_template(template, &workload, change, notes)
}

fn change_template(
    template: &mut Map<String, Json>,
    workload: &Workload,
    change: &Change<'_>,
    notes: &mut Vec<String>,
) -> Result<bool, StreamError> {
    let unreadable = |detail: String| StreamError::NoPod { workload: workload.to_string(), detail };
    template.entry("metadata").or_insert_with(|| json!({}));
    let [metadata, spec] = ["metadata", "spec"].map(|part| template.get(part).cloned().unwrap_or_default());
    let pod = serde_json::from_value::<Pod>(json!({"metadata": metadata, "spec": spec}));
    let pod = pod.map_err(|error| unreadable(error.to_string()))?;
    let Some(changed) = change(workload, &pod, notes)? else { return Ok(false) };
    let json = |pod: &Pod| serde_json::to_value(pod).map_err(|error| unreadable(error.to_string()));
    let steps = patch::diff(&json(&pod)?, &json(&changed)?);
    if steps.is_empty() {
        return Ok(false);
    }
    let mut whole = Json::Object(std::mem::take(template));
    let applied = patch::apply(&mut whole, steps);
    if let Json::Object(whole) = whole {
        *template = whole;
    }
    applied.map(|()| true).ok_or_else(|| unreadable("a field is null that must have a value".to_owned()))
}

/// Where a kind has its pod: JSON pointer to what has `metadata` and `spec`.
fn template(kind: &str) -> Option<&'static str> {
    match kind {
        "Pod" => Some(""),
        "DaemonSet" | "Deployment" | "Job" | "ReplicaSet" | "StatefulSet" => Some("/spec/template"),
        "CronJob" => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}
