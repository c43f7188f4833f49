//! Objects of ours that are in the cluster and not in force: the webhook was not asked about them, or knew less than it does now.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::{About, Events, Reason};
use crate::source::{Desired, Fault, ObjectId};

/// Tells of those that come to be so, until `shutdown` says true.
pub(crate) async fn watch_documents(
    events: Events,
    mut desired: watch::Receiver<Arc<Desired>>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut told = BTreeMap::new();
    loop {
        let faults = desired.borrow_and_update().faults.clone();
        for (id, fault) in faults.iter().filter(|(id, fault)| told.get(*id) != Some(*fault)) {
            events.tell(about(id, fault), Reason::NotInForce, &*fault.text);
        }
        told = faults;
        tokio::select! {
            changed = desired.changed() => if changed.is_err() { return },
            _ = shutdown.wait_for(|end| *end) => return,
        }
    }
}

fn about(id: &ObjectId, fault: &Fault) -> About {
    About {
        api_version: format!("{}/{}", crds::GROUP, crds::VERSION),
        kind: id.kind.name().to_owned(),
        namespace: id.namespace.clone().unwrap_or_default(),
        name: id.name.clone(),
        uid: fault.uid.clone(),
    }
}
