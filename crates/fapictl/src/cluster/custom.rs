//! Objects of ours, read so loosely that those of a newer mesh are read too.

use crds::conditions::READY;
use crds::policy::{AncestorStatus, Mode, TargetKind, WouldRefuse};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value as Json;

use super::{Cluster, Scope, Seen, list};

/// The kinds of `fapi-mesh.dev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Client,
    Issuer,
    Mesh,
    Policy,
}

impl Kind {
    /// As it stands in a document.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Client => "FapiClient",
            Self::Issuer => "FapiIssuer",
            Self::Mesh => "FapiMesh",
            Self::Policy => "FapiPolicy",
        }
    }

    const fn namespaced(self) -> bool {
        matches!(self, Self::Client | Self::Policy)
    }

    fn resource(self) -> ApiResource {
        let gvk = GroupVersionKind::gvk(crds::GROUP, crds::VERSION, self.name());
        let crds = crds::all();
        let names = crds.iter().map(|crd| &crd.spec.names).find(|names| names.kind == self.name());
        names
            .map_or_else(|| ApiResource::from_gvk(&gvk), |names| ApiResource::from_gvk_with_plural(&gvk, &names.plural))
    }
}

/// One object of ours.
#[derive(Clone, Debug)]
pub(crate) struct Custom {
    /// Empty for kinds without.
    pub(crate) namespace: String,
    pub(crate) name: String,
    generation: i64,
    pub(crate) spec: Json,
    status: Json,
}

impl Custom {
    /// Those of a kind.
    pub(super) async fn list(cluster: &Cluster, kind: Kind, scope: &Scope) -> Seen<Vec<Self>> {
        let (client, resource) = (cluster.client(), kind.resource());
        let api: Api<DynamicObject> = match scope {
            Scope::Namespace(namespace) if kind.namespaced() => Api::namespaced_with(client, namespace, &resource),
            _ => Api::all_with(client, &resource),
        };
        Ok(list(&api, &ListParams::default()).await?.into_iter().map(Self::from).collect())
    }

    /// `namespace/name`, or the name alone.
    pub(crate) fn key(&self) -> String {
        if self.namespace.is_empty() { self.name.clone() } else { format!("{}/{}", self.namespace, self.name) }
    }

    /// Its conditions; those of an older spec than the one that stands there say nothing about it and are left out.
    pub(crate) fn conditions(&self) -> Vec<Condition> {
        let conditions: Vec<Condition> = read(&self.status["conditions"]).unwrap_or_default();
        conditions.into_iter().filter(|condition| self.is_current(condition)).collect()
    }

    /// The summary: `None` if the operator has not looked at the object as it is now.
    pub(crate) fn ready(&self) -> Option<Condition> {
        self.conditions().into_iter().find(|condition| condition.type_ == READY)
    }

    /// The targets of a policy, each with what became of the policy there.
    pub(crate) fn ancestors(&self) -> Vec<AncestorStatus> {
        let mut ancestors: Vec<AncestorStatus> = read(&self.status["ancestors"]).unwrap_or_default();
        for ancestor in &mut ancestors {
            ancestor.conditions.retain(|condition| self.is_current(condition));
        }
        ancestors
    }

    /// The targets of a policy as it names them: kind and name.
    pub(crate) fn target_refs(&self) -> Vec<(TargetKind, String)> {
        let targets = self.spec["targetRefs"].as_array().into_iter().flatten();
        let read = |target: &Json| {
            // Filled in by the schema.
            let kind = read(&target["kind"]).unwrap_or(TargetKind::Service);
            Some((kind, target["name"].as_str()?.to_owned()))
        };
        targets.filter_map(read).collect()
    }

    /// What becomes of calls that a policy refuses.
    pub(crate) fn mode(&self) -> Mode {
        read(&self.spec["mode"]).unwrap_or(Mode::Enforce)
    }

    /// What a policy lets pass without certificate and token, one text for each entry.
    pub(crate) fn exempt(&self) -> Vec<String> {
        let all = self.spec["exempt"].as_array().into_iter().flatten();
        let texts = |list: &Json| {
            let texts: Vec<&str> = list.as_array().into_iter().flatten().filter_map(Json::as_str).collect();
            texts.join(", ")
        };
        all.map(|one| format!("GET {} at port {} from {}", texts(&one["paths"]), one["port"], texts(&one["sources"])))
            .collect()
    }

    /// The status of a client's targets: how many, and how many of them are granted.
    pub(crate) fn targets_granted(&self) -> (usize, usize) {
        let all = self.spec["targets"].as_array().map_or(0, Vec::len);
        let told = self.status["targets"].as_array().into_iter().flatten();
        (all, told.filter(|target| target["reason"] == crds::conditions::reason::GRANTED).count())
    }

    fn is_current(&self, condition: &Condition) -> bool {
        condition.observed_generation.is_none_or(|observed| observed >= self.generation)
    }
}

impl From<DynamicObject> for Custom {
    fn from(mut object: DynamicObject) -> Self {
        Self {
            namespace: object.metadata.namespace.unwrap_or_default(),
            name: object.metadata.name.unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or_default(),
            spec: object.data["spec"].take(),
            status: object.data["status"].take(),
        }
    }
}

/// What a policy in `Audit` has let pass at one target that it would refuse, for people; `None`: nothing.
pub(crate) fn would_refuse(at: &AncestorStatus) -> Option<String> {
    let WouldRefuse { since, count, top } = at.would_refuse.as_ref()?;
    let most = top.first().map(|most| format!(", most: {} from {} ({})", most.reason, most.caller, most.count));
    Some(format!("{count} since {}{}", since.0, most.unwrap_or_default()))
}

/// Whether a condition is true.
pub(crate) fn is_true(condition: &Condition) -> bool {
    condition.status == "True"
}

fn read<T: serde::de::DeserializeOwned>(value: &Json) -> Option<T> {
    serde_json::from_value(value.clone()).ok()
}
