//! The status of a Revocation: whether it is in force, and how many pods have it.

use std::collections::BTreeMap;

use crds::conditions::{PROGRAMMED, READY, reason};
use crds::revocation::RevocationStatus;
use fapi::{Revocation, UnixTime};

use super::condition::{Conditions, is_true};
use super::pods::Pods;
use crate::revocations::InForce;
use crate::source::{ObjectId, Revoking};

/// From which epoch on what an object revokes is in force, or a later one: a new process takes the first that it sees.
#[derive(Debug, Default)]
pub(super) struct Since(BTreeMap<ObjectId, (Revocation, u64)>);

impl Since {
    /// Takes in what is in force now.
    pub(super) fn look(&mut self, objects: &BTreeMap<ObjectId, Revoking>, in_force: &InForce) {
        let says = |id: &ObjectId| objects.get(id).and_then(|object| object.spec.as_ref());
        self.0.retain(|id, (known, _)| says(id) == Some(known));
        for (id, object) in objects {
            if let Some(spec) = object.spec.as_ref().filter(|spec| !self.0.contains_key(id) && in_force.has(spec)) {
                self.0.insert(id.clone(), (spec.clone(), in_force.epoch));
            }
        }
    }

    pub(super) fn of(&self, id: &ObjectId) -> Option<u64> {
        self.0.get(id).map(|(_, epoch)| *epoch)
    }
}

/// The status of one object. `before` is what it said last.
pub(super) fn status(
    object: &Revoking,
    since: Option<u64>,
    pods: &Pods,
    now: UnixTime,
    before: Option<&RevocationStatus>,
) -> RevocationStatus {
    let conditions = Conditions { generation: object.generation, now };
    let fails = |reason, message: String| conditions.fails(PROGRAMMED, reason, message);
    let fault = object.fault.as_deref().unwrap_or_default();
    let programmed = match (&object.spec, since) {
        (None, _) => fails(reason::INVALID, format!("it revokes nothing: {fault}")),
        (Some(spec), _) if spec.expires() <= now => fails(reason::EXPIRED, "it has ended; remove it".to_owned()),
        (Some(_), None) => fails(reason::PENDING, "it is not in force yet; the operator's log says why".to_owned()),
        // Whoever comes later gets it before anything else, so this is not asked again at each pod that starts.
        (Some(_), Some(_)) if was_programmed(object, before) => conditions.holds(PROGRAMMED, EVERY_POD),
        (Some(_), Some(epoch)) => match pods.with_revocations(epoch) {
            (have, all) if have == all => conditions.holds(PROGRAMMED, EVERY_POD),
            (have, all) => {
                let reason = if have == 0 { reason::PENDING } else { reason::PARTIALLY_PROGRAMMED };
                fails(reason, format!("in force on {have} of {all} pods"))
            }
        },
    };
    let ready = match (&object.spec, &object.fault) {
        (Some(_), Some(fault)) => {
            conditions.fails(READY, reason::INVALID, format!("the last good version stays in force: {fault}"))
        }
        _ => conditions.ready([&programmed]),
    };
    RevocationStatus { conditions: vec![ready, programmed] }
}

const EVERY_POD: &str = "every pod has it in force";

fn was_programmed(object: &Revoking, before: Option<&RevocationStatus>) -> bool {
    let before = before.into_iter().flat_map(|status| &status.conditions);
    let mut programmed = before.filter(|condition| condition.type_ == PROGRAMMED && is_true(condition));
    programmed.any(|condition| condition.observed_generation == Some(object.generation))
}
