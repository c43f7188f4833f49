use super::*;
use crate::inject::{StreamError, uninject_stream};

fn inject_stream(text: &str, settings: &Settings, namespace: &str) -> Result<Done, StreamError> {
    crate::inject::inject_stream(text, settings, namespace, || [7; 16])
}

const STREAM: &str = "# the bank
apiVersion: v1
kind: Service
metadata: {name: payments}   # stays as it is
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: payments, namespace: bank}
spec:
  selector: {matchLabels: {app: payments}}
  template:
    metadata: {labels: {app: payments}}
    spec:
      containers:
      - name: app
        image: app
        ports: [{name: http, containerPort: 8080}]
        livenessProbe: {httpGet: {port: http, path: /healthz}}
        fieldOfTheFuture: {kept: true}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: '0 3 * * *'
  jobTemplate:
    spec:
      template:
        metadata: {annotations: {fapi-mesh.dev/inject: disabled}}
        spec: {restartPolicy: Never, containers: [{name: job, image: job}]}
";

fn documents(text: &str) -> Vec<Json> {
    text.split("---\n").map(|text| serde_saphyr::from_str(text).unwrap()).collect()
}

#[test]
fn a_stream_is_injected_and_the_rest_of_it_stays() {
    let done = inject_stream(STREAM, &settings(), "default");
    assert!(matches!(done, Err(StreamError::Refused { .. })), "opting out is not allowed by itself: {done:?}");
    let allowed: Allowed = [(Loosening::OptOut, "default".to_owned())].into_iter().collect();
    let settings = Settings { allowed, ..settings() };
    let done = inject_stream(STREAM, &settings, "default").unwrap();
    let (first, rest) = done.text.split_once("---\n").unwrap();
    assert!(STREAM.starts_with(first), "untouched documents stay to the letter");
    assert!(STREAM.ends_with(rest.split_once("---\n").unwrap().1));
    assert_eq!(
        done.notes,
        ["Deployment bank/payments: injected", "CronJob default/nightly: left as it is (opted_out)"]
    );
    let deployment = &documents(&done.text)[1];
    let template = &deployment["spec"]["template"];
    assert_eq!(template["spec"]["initContainers"][0]["name"], REDIRECT);
    assert_eq!(template["spec"]["containers"][0]["livenessProbe"]["httpGet"]["port"], HEALTH_PORT);
    assert_eq!(template["spec"]["containers"][0]["fieldOfTheFuture"]["kept"], true);
    assert_eq!(template["metadata"]["labels"]["app"], "payments");

    assert_eq!(inject_stream(&done.text, &settings, "default").unwrap().text, done.text);
    let undone = uninject_stream(&done.text, "default").unwrap();
    let mut expected = documents(STREAM);
    // A port by its number now; whether the mode was asked for is not remembered.
    expected[1]["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["httpGet"] =
        json!({"port": 8080, "path": "/healthz", "scheme": "HTTP"});
    expected[1]["spec"]["template"]["metadata"]["annotations"] = json!({"fapi-mesh.dev/interception": "redirect"});
    assert_eq!(documents(&undone.text), expected);
}

#[test]
fn lists_hold_workloads_too() {
    let list =
        "kind: List\nitems:\n- {kind: Pod, metadata: {name: a}, spec: {containers: [{name: app}]}}\n- {kind: Secret}\n";
    let done = inject_stream(list, &settings(), "bank").unwrap();
    assert_eq!(done.notes, ["Pod bank/a: injected"]);
    assert_eq!(documents(&done.text)[0]["items"][0]["spec"]["initContainers"][1]["name"], SIDECAR);
}

#[test]
fn what_cannot_be_injected_is_named() {
    let refused = "kind: Pod\nmetadata: {name: a}\nspec: {hostNetwork: true, containers: [{name: app}]}\n";
    let error = inject_stream(refused, &settings(), "bank").unwrap_err().to_string();
    assert!(error.starts_with("Pod bank/a: spec.hostNetwork") && error.ends_with("(host_network)"), "{error}");
    let broken = inject_stream("a: 1\n---\nb: [\n", &settings(), "bank").unwrap_err();
    assert!(matches!(broken, StreamError::NotYaml { line: 3, .. }), "{broken:?}");
    let no_pod = inject_stream("kind: Pod\nmetadata: {name: a}\nspec: {containers: 7}\n", &settings(), "bank");
    assert!(matches!(no_pod, Err(StreamError::NoPod { .. })), "{no_pod:?}");
}
