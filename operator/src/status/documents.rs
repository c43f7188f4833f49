//! The status of every object of a view. Pure.

use std::collections::BTreeMap;

use control::MeshIssuer;
use crds::client::FapiClientStatus;
use crds::issuer::FapiIssuerStatus;
use crds::mesh::FapiMeshStatus;
use crds::policy::FapiPolicyStatus;
use crds::revocation::RevocationStatus;
use fapi::UnixTime;
use serde::Serialize;

use super::condition::keep_times;
use super::pods::Pods;
use super::revocation::Since;
use super::{client, issuer, mesh, policy, revocation};
use crate::audits::Counts;
use crate::model::{Key, Mesh};
use crate::rotation::Anchors;
use crate::source::{Kind, ObjectId, Revoking};
use crate::view::View;

/// Every object's status.
pub(super) type Documents = BTreeMap<ObjectId, Status>;

/// The status of one object.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Status {
    Client(FapiClientStatus),
    Issuer(FapiIssuerStatus),
    Mesh(FapiMeshStatus),
    Policy(FapiPolicyStatus),
    Revocation(RevocationStatus),
}

/// What statuses are made of.
pub(super) struct Facts<'a> {
    pub(super) view: &'a View,
    pub(super) pods: &'a Pods,
    pub(super) counts: &'a Counts,
    pub(super) issuer: &'a MeshIssuer,
    pub(super) anchors: &'a Anchors,
    pub(super) now: UnixTime,
}

/// The documents of a view. A condition that is what it was in `before` keeps its time.
pub(super) fn documents(facts: &Facts<'_>, before: &Documents) -> Documents {
    let model = facts.view.index().model();
    let mut new = Documents::new();
    let mut add = |id: Option<ObjectId>, mut status: Status| {
        // The sources take only names that can be in an id.
        let Some(id) = id else { return };
        if let Some(before) = before.get(&id) {
            status.keep_times(before);
        }
        new.insert(id, status);
    };
    if let Some(object) = &model.mesh {
        add(ObjectId::new(Kind::FapiMesh, None, Mesh::NAME), Status::Mesh(mesh::status(facts, object)));
    }
    for (name, object) in model.issuers.iter() {
        let id = ObjectId::new(Kind::FapiIssuer, None, name);
        add(id, Status::Issuer(issuer::status(facts, name, object)));
    }
    for (key, object) in model.clients.iter() {
        add(id(Kind::FapiClient, key), Status::Client(client::status(facts, key, object)));
    }
    for (key, object) in model.policies.iter() {
        add(id(Kind::FapiPolicy, key), Status::Policy(policy::status(facts, key, object)));
    }
    new
}

/// The documents of Revocations, which are no part of a view.
pub(super) fn revocations(
    objects: &BTreeMap<ObjectId, Revoking>,
    since: &Since,
    pods: &Pods,
    now: UnixTime,
    before: &Documents,
) -> Documents {
    let document = |(id, object): (&ObjectId, &Revoking)| {
        let last = before.get(id);
        let said = match last {
            Some(Status::Revocation(said)) => Some(said),
            _ => None,
        };
        let mut status = Status::Revocation(revocation::status(object, since.of(id), pods, now, said));
        if let Some(last) = last {
            status.keep_times(last);
        }
        (id.clone(), status)
    };
    objects.iter().map(document).collect()
}

fn id(kind: Kind, key: &Key) -> Option<ObjectId> {
    ObjectId::new(kind, Some(&key.namespace), &key.name)
}

impl Status {
    fn keep_times(&mut self, before: &Self) {
        match (self, before) {
            (Self::Client(new), Self::Client(old)) => keep_times(&mut new.conditions, &old.conditions),
            (Self::Issuer(new), Self::Issuer(old)) => keep_times(&mut new.conditions, &old.conditions),
            (Self::Mesh(new), Self::Mesh(old)) => keep_times(&mut new.conditions, &old.conditions),
            (Self::Revocation(new), Self::Revocation(old)) => keep_times(&mut new.conditions, &old.conditions),
            (Self::Policy(new), Self::Policy(old)) => {
                keep_times(&mut new.conditions, &old.conditions);
                for ancestor in &mut new.ancestors {
                    let same = old.ancestors.iter().find(|old| old.ancestor_ref == ancestor.ancestor_ref);
                    keep_times(&mut ancestor.conditions, same.map(|old| old.conditions.as_slice()).unwrap_or_default());
                }
            }
            _ => {}
        }
    }
}
