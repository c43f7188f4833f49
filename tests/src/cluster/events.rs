//! What is told of objects.

use serde_json::Value;

use super::Kubectl;
use crate::wait_for;

/// The Events of a namespace that have this reason.
///
/// # Panics
/// If the API server does not tell.
pub fn events(kubectl: &Kubectl, namespace: &str, reason: &str) -> Vec<Value> {
    let all = kubectl.get(&["events.events.k8s.io", "-n", namespace])["items"].as_array().unwrap().clone();
    all.into_iter().filter(|event| event["reason"] == reason).collect()
}

/// Waits until something is told of an object, which is of this kind and name, and gives the Event.
///
/// # Panics
/// If nobody tells, or it is told of another object of that name.
pub fn told(kubectl: &Kubectl, namespace: &str, [kind, name]: [&str; 2], reason: &str) -> Value {
    let event = wait_for(&format!("{reason} of {kind} {name}"), 30, || {
        let of_it = |event: &Value| event["regarding"]["kind"] == kind && event["regarding"]["name"] == name;
        events(kubectl, namespace, reason).into_iter().find(of_it)
    });
    let object = kubectl.get(&[kind, name, "-n", namespace]);
    assert_eq!(event["regarding"]["uid"], object["metadata"]["uid"], "{event}");
    event
}
