//! What may be put into a pod that runs.

use super::*;

/// A pod with a sidecar, and these ephemeral containers.
fn with(ephemeral: Json) -> Pod {
    let mut pod = injected(inject(&pod(json!({}), json!({})), &settings(), &opted_in())).pod;
    let containers = serde_json::from_value(ephemeral).unwrap();
    pod.spec.as_mut().unwrap().ephemeral_containers = Some(containers);
    pod
}

fn debugger(more: Json) -> Json {
    let mut debugger = json!({"name": "debugger", "image": "debug"});
    debugger.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    debugger
}

fn refused(before: Json, after: Json) -> Vec<&'static str> {
    refuse_ephemeral(&with(before), &with(after)).iter().map(Refusal::id).collect()
}

#[test]
fn a_container_that_could_be_the_sidecar_or_read_it_is_refused() {
    for (more, id) in [
        (json!({"targetContainerName": "fapi-sidecar"}), "sidecar_target"),
        (json!({"targetContainerName": "fapi-redirect"}), "sidecar_target"),
        (json!({"securityContext": {"runAsUser": 15100}}), "sidecar_id"),
        (json!({"securityContext": {"runAsGroup": 15100}}), "sidecar_id"),
        (json!({"securityContext": {"privileged": true}}), "privileged"),
        (json!({"securityContext": {"capabilities": {"add": ["cap_sys_ptrace"]}}}), "capability"),
        (json!({"volumeMounts": [{"name": "fapi-mesh-token", "mountPath": "/t"}]}), "sidecar_token"),
    ] {
        assert_eq!(refused(json!([]), json!([debugger(more.clone())])), [id], "{more}");
    }
    let all = json!({
        "targetContainerName": "fapi-sidecar",
        "securityContext": {"runAsUser": 15100, "runAsGroup": 15100},
    });
    assert_eq!(refused(json!([]), json!([debugger(all)])), ["sidecar_target", "sidecar_id", "sidecar_id"]);
}

#[test]
fn others_pass_and_what_is_there_is_not_judged_again() {
    let harmless = debugger(json!({
        "targetContainerName": "app",
        "securityContext": {"runAsUser": 0, "capabilities": {"add": ["NET_BIND_SERVICE"]}},
    }));
    assert_eq!(refused(json!([]), json!([harmless])), [""; 0]);
    let mut old = debugger(json!({"targetContainerName": "fapi-sidecar"}));
    old["name"] = "old".into();
    assert_eq!(refused(json!([old]), json!([old, harmless])), [""; 0]);
    let mut new = old.clone();
    new["name"] = "new".into();
    assert_eq!(refused(json!([old]), json!([old, new])), ["sidecar_target"]);
}

#[test]
fn a_pod_without_a_sidecar_takes_whatever_it_is_given() {
    let plain = |containers: Json| pod(json!({}), json!({"ephemeralContainers": containers}));
    let after = plain(json!([debugger(json!({"securityContext": {"privileged": true, "runAsUser": 15100}}))]));
    assert_eq!(refuse_ephemeral(&plain(json!([])), &after), []);
}
