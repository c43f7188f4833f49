//! How far a rotation is, as people and programs are told.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use super::Step;

/// One rotation of the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// As whoever asked for it calls it.
    pub name: String,
    /// How far it is.
    pub step: Step,
    /// When the step began, RFC 3339.
    pub since: String,
    /// How many sidecars there are.
    pub sidecars: usize,
    /// How many of them have done what the step asks of them.
    pub followed: usize,
    /// The one that is waited for longest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Oldest>,
    /// What the next step waits for, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// What was asked for last and not begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
}

/// A sidecar that has not followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Oldest {
    /// Its pod, `namespace/name`.
    pub pod: String,
    /// Since when it is waited for.
    pub since: Time,
    /// What it has not done.
    pub why: String,
}

/// A rotation that was asked for and not begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// As it was to be called.
    pub name: String,
    /// Why.
    pub why: String,
}
