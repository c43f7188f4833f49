//! What is kept of an object of a cluster: little, so that 10,000 pods fit, and read in one place, so that an object that
//! cannot be read is a fact like any other.

mod guess;
mod pod;
mod service;
mod slice;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

pub(super) use self::pod::PodFact;
pub(super) use self::service::{ServiceFact, ServicePortFact, TargetPort};
pub(super) use self::slice::SliceFact;
use super::watched::Watched;
use crate::model::Key;
use crate::names::TRUST_BUNDLE_KEY;
use crate::source::Bundle;

/// The label and annotation by which a namespace or a pod asks for sidecars.
const INJECT: &str = "fapi-mesh.dev/inject";
const ENABLED: &str = "enabled";
const DISABLED: &str = "disabled";

/// What is known of one object.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fact {
    /// One of ours.
    Custom(CustomFact),
    /// A namespace; whether it asks for sidecars, and whether it is being deleted.
    Namespace {
        asks: bool,
        ends: bool,
    },
    Pod(PodFact),
    Service(ServiceFact),
    Slice(SliceFact),
    /// The roots in a ConfigMap, whatever they are.
    Bundle(Bundle),
    /// It is of no account: a pod that has ended.
    Nothing,
    /// It cannot be read, and why, and what it counts as.
    Unreadable(String, Box<Fact>),
}

/// An object of ours as it was written, without what only the API server needs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CustomFact {
    /// Another one under the same name has another.
    pub(super) uid: String,
    pub(super) generation: i64,
    /// Seconds since 1970.
    pub(super) created: u64,
    /// `apiVersion`, `kind`, names and `spec`.
    pub(super) document: Json,
    /// What it says became of it; null if nothing does.
    pub(super) status: Json,
}

/// Namespace and name; the namespace is empty for what has none.
pub(super) fn key(object: &DynamicObject) -> Key {
    let metadata = &object.metadata;
    Key::new(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

/// Reads an object.
pub(super) fn read(watched: Watched, object: DynamicObject) -> Fact {
    match watched {
        Watched::Client | Watched::Issuer | Watched::Mesh | Watched::Policy | Watched::Revocation => {
            Fact::Custom(custom(watched, object))
        }
        Watched::Namespace => {
            let labels = object.metadata.labels.unwrap_or_default();
            let asks = labels.get(INJECT).is_some_and(|value| value == ENABLED);
            Fact::Namespace { asks, ends: object.metadata.deletion_timestamp.is_some() }
        }
        Watched::Pod => {
            let read = |pod: Pod| PodFact::read(pod).map_or(Fact::Nothing, Fact::Pod);
            typed(object, read, |object| read(guess::pod(object)))
        }
        Watched::Service => {
            let read = |service: Service| Fact::Service(ServiceFact::read(service));
            typed(object, read, |object| read(guess::service(object)))
        }
        Watched::EndpointSlice => {
            typed(object, |slice: EndpointSlice| Fact::Slice(SliceFact::read(slice)), |_| Fact::Nothing)
        }
        Watched::TrustBundle => {
            let roots = object.data["data"][TRUST_BUNDLE_KEY].as_str().unwrap_or_default().into();
            Fact::Bundle(Bundle { roots, immutable: object.data["immutable"] == true })
        }
    }
}

/// Reads an object as what it should be, or else as `guessed`.
fn typed<T: DeserializeOwned>(
    object: DynamicObject,
    read: impl FnOnce(T) -> Fact,
    guessed: impl FnOnce(DynamicObject) -> Fact,
) -> Fact {
    match serde_json::to_value(&object).and_then(serde_json::from_value) {
        Ok(parsed) => read(parsed),
        Err(error) => Fact::Unreadable(error.to_string(), Box::new(guessed(object))),
    }
}

fn custom(watched: Watched, object: DynamicObject) -> CustomFact {
    let DynamicObject { metadata, mut data, .. } = object;
    let mut names = json!({ "name": metadata.name });
    if let Some(namespace) = metadata.namespace {
        names["namespace"] = namespace.into();
    }
    let document = json!({
        "apiVersion": format!("{}/{}", crds::GROUP, crds::VERSION),
        "kind": watched.name(),
        "metadata": names,
        "spec": data["spec"].take(),
    });
    let created = metadata.creation_timestamp.map(|time| time.0.as_second());
    CustomFact {
        uid: metadata.uid.unwrap_or_default(),
        generation: metadata.generation.unwrap_or_default(),
        created: created.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default(),
        document,
        status: data["status"].take(),
    }
}
