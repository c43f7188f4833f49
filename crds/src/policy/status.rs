//! The status of a FapiPolicy.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::TargetKind;

/// What became of the policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FapiPolicyStatus {
    /// The summary over all targets: `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// Each target by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub ancestors: Vec<AncestorStatus>,

    /// The holes in it: what passes without certificate and token, as it is in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub exempt: Vec<ExemptionStatus>,
}

/// A hole in the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExemptionStatus {
    /// The port.
    #[schemars(with = "i32", range(min = 1, max = 65535))]
    pub port: u16,

    /// What may be got there.
    #[schemars(length(max = 8), inner(length(max = 1024)))]
    pub paths: Vec<String>,

    /// From where.
    #[schemars(length(max = 8), inner(length(max = 43)))]
    pub sources: Vec<String>,

    /// The pods that have such a port, governed by this policy; 0: it opens nothing.
    #[schemars(range(min = 0))]
    pub pods: i32,
}

/// What became of the policy at one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AncestorStatus {
    /// The target.
    pub ancestor_ref: AncestorRef,

    /// Who says so.
    #[schemars(length(max = 253))]
    pub controller_name: String,

    /// `Accepted`, `ResolvedRefs`, `Programmed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The pods that it governs.
    pub pods: PodCounts,

    /// What `Audit` let pass that `Enforce` would refuse; absent in `Enforce`, and where nothing was. It is the sum of what the
    /// sidecars of these pods tell, and lags by up to two minutes. A sidecar counts all ports that the policy governs at its pod,
    /// and begins anew when it starts and when what the policy says there changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "WouldRefuse")]
    pub would_refuse: Option<WouldRefuse>,
}

/// Calls, and connections that are not HTTP, that would be refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WouldRefuse {
    /// When the first of the sidecars that counted any began to count.
    pub since: Time,

    /// How many.
    #[schemars(range(min = 0))]
    pub count: i64,

    /// The most frequent reasons and callers.
    #[schemars(length(max = 5))]
    pub top: Vec<RefusedCaller>,
}

/// What one caller would be refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefusedCaller {
    /// The id of the reason, as in the decision log.
    #[schemars(length(max = 64))]
    pub reason: String,

    /// `namespace/service-account`, as the certificate of the caller says; `other` for all that a sidecar did not tell apart.
    #[schemars(length(max = 317))]
    pub caller: String,

    /// How many.
    #[schemars(range(min = 0))]
    pub count: i64,
}

/// A target, as the policy names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AncestorRef {
    /// `Service` or `Namespace`.
    pub kind: TargetKind,

    /// Its name.
    #[schemars(length(max = 63))]
    pub name: String,

    /// One port of the Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 63))]
    pub section_name: Option<String>,
}

/// How far a policy got. No pod counts twice for being behind several ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodCounts {
    /// Pods with a port that this policy governs.
    #[schemars(range(min = 0))]
    pub matched: i32,

    /// Those whose sidecar runs it.
    #[schemars(range(min = 0))]
    pub programmed: i32,

    /// Those whose sidecar refused it.
    #[schemars(range(min = 0))]
    pub rejected: i32,

    /// Those that run no sidecar.
    #[schemars(range(min = 0))]
    pub without_sidecar: i32,
}
