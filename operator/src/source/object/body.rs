//! What an object says, in the terms of the neutral model. Here stands what the schema's CEL rules say in a cluster.

mod client;
mod issuer;
mod mesh;
mod policy;
mod revocation;
mod workload;

use fapi::{Revocation, TrustDomain};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

pub(crate) use self::mesh::MeshBody;
pub(super) use self::mesh::may_refuse_unmeshed;
pub(crate) use self::policy::PolicyBody;
pub(super) use self::policy::targets as policy_targets;
pub(crate) use self::workload::WorkloadBody;
use super::id::{Kind, ObjectId};
use crate::model::{ClientSpec, IssuerSpec};
use crate::source::located::Node;
use crate::source::problem::Finding;

/// What an object says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Body {
    Client(ClientSpec),
    Issuer(IssuerSpec),
    Mesh(MeshBody),
    Policy(PolicyBody),
    Revocation(Revocation),
    Workload(WorkloadBody),
}

/// A problem whose line is not known yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BodyProblem {
    field: String,
    message: String,
    remedy: String,
}

impl BodyProblem {
    fn new(field: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into(), remedy: remedy.into() }
    }

    pub(super) fn locate(self, node: &Node) -> Finding {
        Finding { line: node.line_at(&self.field), field: self.field, message: self.message, remedy: self.remedy }
    }
}

/// Reads a document that has passed its schema.
pub(super) fn read(id: &ObjectId, document: &Json, trust_domain: &TrustDomain) -> Result<Body, Vec<BodyProblem>> {
    let spec = &document["spec"];
    match id.kind {
        Kind::FapiClient => client::read(id, typed(spec)?).map(Body::Client),
        Kind::FapiIssuer => issuer::read(id, typed(spec)?, trust_domain).map(Body::Issuer),
        Kind::FapiMesh => mesh::read(id, typed(spec)?).map(Body::Mesh),
        Kind::FapiPolicy => policy::read(id, typed(spec)?, trust_domain).map(Body::Policy),
        Kind::Revocation => revocation::read(typed(spec)?).map(Body::Revocation),
        Kind::Workload => workload::read(id, typed(spec)?, &document["metadata"]["labels"]).map(Body::Workload),
    }
}

fn typed<T: DeserializeOwned>(spec: &Json) -> Result<T, Vec<BodyProblem>> {
    // The schema was made from the type, so what passed it can be read.
    serde_json::from_value(spec.clone())
        .map_err(|error| vec![BodyProblem::new("spec", error.to_string(), "write what the schema of the kind says")])
}

fn all_or<T>(value: T, problems: Vec<BodyProblem>) -> Result<T, Vec<BodyProblem>> {
    if problems.is_empty() { Ok(value) } else { Err(problems) }
}
