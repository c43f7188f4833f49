//! Workload: what Pod and Service say in a cluster, for the folder only. It never becomes a custom resource.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// One instance of a workload. Workloads with the same `serviceName` are replicas of one Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(group = "fapi-mesh.dev", version = "v1alpha1", kind = "Workload", namespaced)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WorkloadSpec {
    /// The service account that it runs as.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub(crate) service_account_name: String,

    /// The Service that it answers for; without it, it only calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub(crate) service_name: Option<String>,

    /// Its ports; exactly if it answers for a Service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    pub(crate) ports: Vec<WorkloadPort>,
}

/// A port of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WorkloadPort {
    /// Its name, for `sectionName`.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub(crate) name: String,

    /// The number that callers dial.
    #[schemars(range(min = 1, max = 65535))]
    pub(crate) port: u16,

    /// Where the sidecar listens, `host:port`.
    #[schemars(length(min = 1, max = 64))]
    pub(crate) address: String,

    /// Where the app listens, `host:port`.
    #[schemars(length(min = 1, max = 64))]
    pub(crate) app_address: String,
}
