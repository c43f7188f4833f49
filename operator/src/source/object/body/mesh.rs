use std::ops::RangeInclusive;
use std::time::Duration;

use crds::FapiMeshSpec;
use crds::mesh::UnmeshedDestinations;

use super::{BodyProblem, ObjectId, all_or};
use crate::inject::Allowed;
use crate::model::Mesh;
use crate::source::located::Node;

/// What a FapiMesh says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MeshBody {
    pub(crate) trust_domain: Option<String>,
    pub(crate) certificate_lifetime: Duration,
    pub(crate) token_lifetime: Duration,
    pub(crate) unmeshed_refused: bool,
    pub(crate) allowed: Allowed,
}

const HOUR: u64 = 3600;

/// Whether a FapiMesh that is no good refuses calls out of the mesh: if it says anything but that they pass, or can hardly be read.
pub(in super::super) fn may_refuse_unmeshed(node: &Node) -> bool {
    let said = node.get("spec").map(|spec| spec.get("unmeshedDestinations"));
    said.is_none_or(|said| said.is_some_and(|said| said.text() != Some("Allow")))
}

/// Reads a FapiMesh: its name and the bounds of its lifetimes.
pub(super) fn read(id: &ObjectId, spec: FapiMeshSpec) -> Result<MeshBody, Vec<BodyProblem>> {
    let mut problems = Vec::new();
    if id.name != Mesh::NAME {
        problems.push(BodyProblem::new("metadata.name", "there is one FapiMesh", "name it default"));
    }
    let mut bounded = |field: &str, text: &str, bounds: RangeInclusive<u64>| {
        let read = crds::duration::parse(text).unwrap_or_default();
        let (from, to) = (Duration::from_secs(*bounds.start()), Duration::from_secs(*bounds.end()));
        if !(from..=to).contains(&read) {
            let remedy = format!("write a duration from {}s to {}h", bounds.start(), bounds.end() / HOUR);
            problems.push(BodyProblem::new(format!("spec.{field}"), format!("{text} is out of bounds"), remedy));
        }
        read
    };
    let certificate_lifetime = bounded("certificateLifetime", &spec.certificate_lifetime, 10..=168 * HOUR);
    let token_lifetime = bounded("tokenLifetime", &spec.token_lifetime, 5..=12 * HOUR);
    let pairs = spec.pod_annotations.iter().flat_map(|entry| {
        let allow = entry.allow.iter().copied();
        allow.flat_map(|loosening| entry.namespaces.iter().map(move |namespace| (loosening, namespace.clone())))
    });
    let body = MeshBody {
        trust_domain: spec.trust_domain,
        certificate_lifetime,
        token_lifetime,
        unmeshed_refused: spec.unmeshed_destinations == UnmeshedDestinations::Refuse,
        allowed: pairs.collect(),
    };
    all_or(body, problems)
}
