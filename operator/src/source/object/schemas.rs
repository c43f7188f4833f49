//! The schema of every kind, and of what all kinds have in common.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value as Json, json};

use super::body::policy_targets;
use super::id::{Kind, ObjectId};
use crate::model::PolicyTarget;
use crate::source::located::{Node, Value};
use crate::source::problem::Finding;
use crate::source::schema::Schema;
use crate::source::workload::Workload;

/// The schemas: make them once.
pub(crate) struct Schemas {
    kinds: Vec<(Kind, Schema)>,
}

impl Schemas {
    pub(crate) fn new() -> Self {
        let of = |kind: Kind| {
            let crd = match kind {
                Kind::FapiClient => crds::FapiClient::crd(),
                Kind::FapiIssuer => crds::FapiIssuer::crd(),
                Kind::FapiMesh => crds::FapiMesh::crd(),
                Kind::FapiPolicy => crds::FapiPolicy::crd(),
                Kind::Revocation => crds::Revocation::crd(),
                Kind::Workload => Workload::crd(),
            };
            (kind, Schema::new(document(kind, &spec(&crd))))
        };
        Self { kinds: Kind::ALL.into_iter().map(of).collect() }
    }

    /// Everything that the schema finds wrong with a document.
    pub(super) fn check(&self, node: &Node) -> Vec<Finding> {
        if !matches!(node.value, Value::Map(_)) {
            let message = format!("want an object, found {}", node.value.kind());
            return vec![Finding::new(node.line, "", message, "write apiVersion, kind, metadata and spec")];
        }
        let kind = node.get("kind").and_then(Node::text).unwrap_or_default();
        let known = Kind::from_name(kind).and_then(|kind| self.of(kind));
        match known {
            Some(schema) => schema.check(node),
            None => {
                let names = Kind::ALL.map(Kind::name).join(", ");
                let message =
                    if kind.is_empty() { "no kind is given".into() } else { format!("unknown kind {kind:?}") };
                vec![Finding::new(
                    node.line_at("kind"),
                    "kind",
                    message,
                    format!("write one of {names}, or move it elsewhere"),
                )]
            }
        }
    }

    /// What a broken policy targets, if this part of it is in order.
    pub(super) fn readable_targets(&self, id: &ObjectId, node: &Node) -> Option<Vec<PolicyTarget>> {
        let refs = node.get("spec")?.get("targetRefs")?;
        let findings = self.of(Kind::FapiPolicy)?.check_at(&["spec", "targetRefs"], refs, "");
        let refs = serde_json::from_value(refs.to_json()).ok().filter(|_| findings.is_empty())?;
        policy_targets(id, refs).ok()
    }

    fn of(&self, kind: Kind) -> Option<&Schema> {
        self.kinds.iter().find(|(known, _)| *known == kind).map(|(_, schema)| schema)
    }
}

fn spec(crd: &CustomResourceDefinition) -> Json {
    let version = crd.spec.versions.first();
    let schema = version.and_then(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
    // Without a schema nothing matches, so every document is refused.
    let json = schema.and_then(|schema| serde_json::to_value(schema).ok()).unwrap_or_default();
    json["properties"]["spec"].clone()
}

/// The schema of a whole document: what an API server says of every object, and the kind's own part.
fn document(kind: Kind, spec: &Json) -> Json {
    let label =
        json!({"type": "string", "minLength": 1, "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"});
    let name = json!({
        "type": "string", "minLength": 1, "maxLength": 253,
        "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    });
    let texts = json!({"type": "object", "additionalProperties": {"type": "string", "maxLength": 4096}});
    let mut metadata = json!({
        "type": "object", "required": ["name"],
        "properties": {"name": name, "labels": texts, "annotations": texts},
    });
    if kind.is_namespaced() {
        metadata["required"] = json!(["name", "namespace"]);
        metadata["properties"]["namespace"] = label;
    }
    json!({
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"type": "string", "enum": [format!("{}/{}", crds::GROUP, crds::VERSION)]},
            "kind": {"type": "string", "enum": [kind.name()]},
            "metadata": metadata,
            "spec": spec,
        },
    })
}
