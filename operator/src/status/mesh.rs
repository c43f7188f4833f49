//! The status of the FapiMesh.

use crds::conditions::{READY, reason};
use crds::mesh::FapiMeshStatus;

use super::condition::Conditions;
use super::documents::Facts;
use crate::model::Mesh;

pub(super) fn status(facts: &Facts<'_>, mesh: &Mesh) -> FapiMeshStatus {
    let conditions = Conditions { generation: mesh.generation, now: facts.now };
    let ready = match &mesh.fault {
        Some(fault) if !mesh.in_force => {
            conditions.fails(READY, reason::INVALID, format!("the mesh runs on the defaults: {fault}"))
        }
        Some(fault) => {
            conditions.fails(READY, reason::INVALID, format!("the last good version stays in force: {fault}"))
        }
        None => conditions.ready([]),
    };
    FapiMeshStatus { conditions: vec![ready], issuer: Some(facts.issuer.issuer.clone()) }
}
