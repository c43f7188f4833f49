//! The status of the FapiMesh.

use crds::conditions::{READY, reason};
use crds::mesh::{Acknowledgements, FapiMeshStatus, TrustAnchor, WaitedFor};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::condition::{Conditions, shorten, timestamp};
use super::documents::Facts;
use crate::model::Mesh;
use crate::rotation::{Anchors, Progress};

pub(super) fn status(facts: &Facts<'_>, mesh: &Mesh) -> FapiMeshStatus {
    let conditions = Conditions { generation: mesh.generation, now: facts.now };
    let ready = match (&facts.anchors.lost, &mesh.fault) {
        (Some(why), _) => conditions.fails(READY, reason::CA_UNAVAILABLE, format!("no pod gets a certificate: {why}")),
        (None, Some(fault)) if !mesh.in_force => {
            conditions.fails(READY, reason::INVALID, format!("the mesh runs on the defaults: {fault}"))
        }
        (None, Some(fault)) => {
            conditions.fails(READY, reason::INVALID, format!("the last good version stays in force: {fault}"))
        }
        (None, None) => conditions.ready([]),
    };
    let issuer = Some(facts.issuer.issuer.clone());
    FapiMeshStatus { conditions: vec![ready], issuer, trust_anchors: trust_anchors(facts.anchors) }
}

fn trust_anchors(anchors: &Anchors) -> Vec<TrustAnchor> {
    let followed = anchors.followed();
    let one = |(at, anchor): (usize, &crate::pki::Anchor)| TrustAnchor {
        fingerprint: anchor.fingerprint.clone(),
        not_after: anchor.not_after.map(|end| Time(timestamp(end))),
        phase: anchor.phase,
        acknowledgements: followed.filter(|(followed, _)| *followed == at).map(|(_, progress)| acknowledged(progress)),
    };
    anchors.all.iter().enumerate().map(one).collect()
}

fn acknowledged(progress: &Progress) -> Acknowledgements {
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    Acknowledgements {
        pods: count(progress.sidecars),
        acknowledged: count(progress.followed),
        oldest: progress.oldest.as_ref().map(|oldest| WaitedFor {
            pod: oldest.pod.clone(),
            since: oldest.since.clone(),
            message: shorten(&oldest.why),
        }),
    }
}
