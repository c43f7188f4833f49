//! The statuses in a cluster: written into the objects by server-side apply, and only where they say something else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use tokio::time::timeout;

use super::documents::{Documents, Status};
use crate::kubernetes::Leadership;
use crate::source::{Kind, ObjectId, Watched};

/// Who owns the fields of a status.
const MANAGER: &str = "fapi-mesh/status";
/// One question.
const ANSWER: Duration = Duration::from_secs(5);

/// The statuses of a cluster.
pub(crate) struct StatusObjects {
    client: Client,
    leadership: Leadership,
    /// What was written last, and what stood there before: it takes a moment until we hear of it.
    written: BTreeMap<ObjectId, (Status, Arc<Json>)>,
}

/// What objects say, as it was heard.
type Heard = BTreeMap<ObjectId, Arc<Json>>;

impl StatusObjects {
    /// Writes by way of this client, and only as the leader.
    pub(crate) fn new(client: Client, leadership: Leadership) -> Self {
        Self { client, leadership, written: BTreeMap::new() }
    }

    pub(super) fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// What stands in the objects, as far as it is what we would write: as it was heard, or as it was written since.
    pub(super) fn known(&self, heard: &Heard) -> Documents {
        let nothing = Arc::new(Json::Null);
        let as_heard = heard.iter().filter_map(|(id, stands)| Some((id.clone(), read(id.kind, stands)?)));
        let unheard = self.written.iter().filter(|(id, (_, before))| heard.get(*id).unwrap_or(&nothing) == before);
        as_heard.chain(unheard.map(|(id, (status, _))| (id.clone(), status.clone()))).collect()
    }

    /// Writes what says something else than what was heard. True if that failed anywhere.
    pub(super) async fn write(&mut self, documents: &Documents, heard: &Heard) -> bool {
        self.written.retain(|id, _| documents.contains_key(id));
        let nothing = Arc::new(Json::Null);
        let mut failed = false;
        for (id, status) in documents {
            let stands = heard.get(id).unwrap_or(&nothing);
            let is_known = self.written.get(id).is_some_and(|(last, before)| last == status && before == stands);
            if is_known || read(id.kind, stands).as_ref() == Some(status) {
                continue;
            }
            if !self.leadership.holds() {
                return false;
            }
            match self.apply(id, status).await {
                Ok(()) => drop(self.written.insert(id.clone(), (status.clone(), stands.clone()))),
                Err(error) => {
                    tracing::warn!(event = "status", object = %id, error, "cannot write a status; it is tried again");
                    failed = true;
                }
            }
        }
        failed
    }

    async fn apply(&self, id: &ObjectId, status: &Status) -> Result<(), String> {
        let Some(watched) = Watched::of(id.kind) else { return Ok(()) };
        let resource = watched.resource();
        let api: Api<DynamicObject> = match &id.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        // Every field that we own, every time: one that is left out is one that we give up.
        let object = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": id.name},
            "status": status,
        });
        let params = PatchParams::apply(MANAGER).force();
        match timeout(ANSWER, api.patch_status(&id.name, &params, &Patch::Apply(object))).await {
            // It is gone, and its status with it.
            Ok(Err(kube::Error::Api(answer))) if answer.code == 404 => Ok(()),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer".to_owned()),
        }
    }
}

fn read(kind: Kind, stands: &Json) -> Option<Status> {
    match kind {
        Kind::FapiClient => typed(stands).map(Status::Client),
        Kind::FapiIssuer => typed(stands).map(Status::Issuer),
        Kind::FapiMesh => typed(stands).map(Status::Mesh),
        Kind::FapiPolicy => typed(stands).map(Status::Policy),
        Kind::Revocation => typed(stands).map(Status::Revocation),
        Kind::Workload => None,
    }
}

fn typed<T: DeserializeOwned>(stands: &Json) -> Option<T> {
    serde_json::from_value(stands.clone()).ok()
}
