//! Containers that are put into pods that run.

use super::*;

/// A pod with a sidecar before and after this container is put into it.
fn debugged(container: &Json) -> Json {
    let mut before = pod(json!({}));
    before["metadata"]["name"] = "shop".into();
    before["spec"]["initContainers"] = json!([{"name": "fapi-sidecar", "restartPolicy": "Always"}]);
    let mut after = before.clone();
    after["spec"]["ephemeralContainers"] = json!([container]);
    json!({"namespace": "bank", "operation": "UPDATE", "object": after, "oldObject": before})
}

#[tokio::test]
async fn whoever_debugs_is_told_why_not_and_how_else() {
    let server = Server::start().await;
    let harmless = json!({"name": "debugger", "image": "debug", "targetContainerName": "app"});
    assert_eq!(server.review("/ephemeral", debugged(&harmless)).await["allowed"], true);
    let mut spy = harmless.clone();
    spy["targetContainerName"] = "fapi-sidecar".into();
    spy["securityContext"] = json!({"runAsUser": 15100});
    let answer = server.review("/ephemeral", debugged(&spy)).await;
    assert_eq!(answer["allowed"], false);
    let message = answer["status"]["message"].as_str().unwrap();
    for part in ["(sidecar_target)", "(sidecar_id)", "--profile=baseline", "--target a container of the app"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    // Half of a review is no reason to let it pass.
    let half = json!({"namespace": "bank", "operation": "UPDATE", "object": pod(json!({}))});
    assert_eq!(server.review("/ephemeral", half).await["allowed"], false);
}
