//! A bank in a cluster, in which everything is in order.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use k8s_openapi::api::core::v1::Pod;
use kube::api::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use super::{Custom, Workloads};

/// An object of Kubernetes.
pub(crate) fn object<T: DeserializeOwned>(json: Json) -> T {
    serde_json::from_value(json).unwrap()
}

/// An object of ours.
pub(crate) fn custom(json: Json) -> Custom {
    object::<DynamicObject>(json).into()
}

/// A running pod of an app.
pub(crate) fn pod(namespace: &str, name: &str, app: &str, meshed: bool) -> Pod {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": app}, "annotations": {}},
        "spec": {"containers": [{"name": "app"}]},
        "status": {"phase": "Running"},
    });
    if meshed {
        pod["metadata"]["annotations"]["fapi-mesh.dev/status"] = control::VERSION.into();
        pod["spec"]["initContainers"] = json!([{"name": "fapi-sidecar", "restartPolicy": "Always"}]);
    }
    object(pod)
}

/// A condition of generation 1.
pub(crate) fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Json {
    json!({"type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

/// A policy for a Service, all of whose pods run it.
pub(crate) fn policy(name: &str) -> Json {
    json!({
        "apiVersion": "fapi-mesh.dev/v1alpha1", "kind": "FapiPolicy",
        "metadata": {"name": name, "namespace": "bank", "generation": 1},
        "spec": {"targetRefs": [{"kind": "Service", "name": name}], "mode": "Enforce"},
        "status": {
            "conditions": [condition("Ready", "True", "Ready", "")],
            "ancestors": [{
                "ancestorRef": {"kind": "Service", "name": name}, "controllerName": "fapi-mesh.dev/operator",
                "conditions": [
                    condition("Accepted", "True", "Accepted", ""),
                    condition("ResolvedRefs", "True", "ResolvedRefs", ""),
                    condition("Programmed", "True", "Programmed", "1 of 1 pods run 3f2a"),
                ],
                "pods": {"matched": 1, "programmed": 1, "rejected": 0, "withoutSidecar": 0},
            }],
        },
    })
}

/// A client with one target, which is granted.
pub(crate) fn client(name: &str) -> Json {
    json!({
        "apiVersion": "fapi-mesh.dev/v1alpha1", "kind": "FapiClient",
        "metadata": {"name": name, "namespace": "bank", "generation": 1},
        "spec": {"serviceAccountName": name, "targets": [{"serviceName": "ledger"}]},
        "status": {
            "conditions": [condition("Ready", "True", "Ready", "")],
            "targets": [{"serviceName": "ledger", "namespace": "bank", "audience": "https://ledger.bank",
                "reason": "Granted"}],
        },
    })
}

/// The namespace `bank`, which asks for sidecars, with a shop that calls a ledger; an operator of this version.
pub(crate) fn bank() -> Workloads {
    let service = json!({"metadata": {"name": "ledger", "namespace": "bank"}, "spec": {"selector": {"app": "ledger"}}});
    let deployment = json!({
        "metadata": {"name": "fapi-operator", "namespace": "fapi-mesh", "generation": 1,
            "labels": {"app.kubernetes.io/version": control::VERSION}},
        "spec": {"replicas": 2, "selector": {}, "template": {}},
        "status": {"observedGeneration": 1, "readyReplicas": 2, "updatedReplicas": 2, "replicas": 2},
    });
    let bank = json!({"metadata": {"name": "bank", "labels": {"fapi-mesh.dev/inject": "enabled"}}});
    Workloads {
        operator_namespace: "fapi-mesh".to_owned(),
        operator: Ok(object(deployment)),
        rotation: Ok(None),
        namespaces: Ok(vec![object(bank), object(json!({"metadata": {"name": "web"}}))]),
        pods: Ok(vec![pod("bank", "shop-1", "shop", true), pod("bank", "ledger-1", "ledger", true)]),
        services: Ok(vec![object(service)]),
        meshes: Ok(Vec::new()),
        issuers: Ok(Vec::new()),
        policies: Ok(vec![custom(policy("ledger"))]),
        clients: Ok(vec![custom(client("shop"))]),
    }
}
