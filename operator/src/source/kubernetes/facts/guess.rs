//! What is certain of an object that cannot be read, such as one of a Kubernetes that is newer than we are: its addresses. An
//! address that nobody has is outside the mesh and is called in plaintext, and what stands at this one nobody knows.

use k8s_openapi::api::core::v1::{Pod, PodIP, PodSpec, PodStatus, Service, ServiceSpec};
use kube::core::DynamicObject;
use serde_json::Value as Json;

use super::{ENABLED, INJECT};

/// A pod that asks for a sidecar and has none: nobody calls it in plaintext, and it gets nothing.
pub(super) fn pod(object: DynamicObject) -> Pod {
    let DynamicObject { mut metadata, data, .. } = object;
    for words in [&mut metadata.labels, &mut metadata.annotations] {
        words.get_or_insert_default().insert(INJECT.to_owned(), ENABLED.to_owned());
    }
    let (spec, status) = (&data["spec"], &data["status"]);
    let listed = status["podIPs"].as_array().into_iter().flatten().map(|one| &one["ip"]);
    let addresses = texts(listed.chain([&status["podIP"]])).map(|ip| PodIP { ip });
    let status = PodStatus {
        phase: texts([&status["phase"]]).next(),
        pod_ips: Some(addresses.collect()),
        ..PodStatus::default()
    };
    let spec = PodSpec { host_network: spec["hostNetwork"].as_bool(), ..PodSpec::default() };
    Pod { metadata, spec: Some(spec), status: Some(status) }
}

/// A Service without ports: whatever is called there, nothing is known of it.
pub(super) fn service(object: DynamicObject) -> Service {
    let DynamicObject { metadata, data, .. } = object;
    let listed = data["spec"]["clusterIPs"].as_array().into_iter().flatten();
    let addresses = texts(listed.chain([&data["spec"]["clusterIP"]]));
    let spec = ServiceSpec { cluster_ips: Some(addresses.collect()), ..ServiceSpec::default() };
    Service { metadata, spec: Some(spec), ..Service::default() }
}

fn texts<'a>(values: impl IntoIterator<Item = &'a Json>) -> impl Iterator<Item = String> {
    values.into_iter().filter_map(|value| value.as_str().map(str::to_owned))
}
