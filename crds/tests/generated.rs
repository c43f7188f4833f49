//! The chart holds exactly what the types say. `UPDATE=1` rewrites it.

use std::path::Path;

use serde_json::Value;

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/fapi-mesh-crds/templates")
}

#[test]
fn the_chart_is_what_the_types_say() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut names = Vec::new();
    for crd in crds::all() {
        let name = format!("{}.yaml", crd.spec.names.plural);
        let path = folder().join(&name);
        let text = crds::render(&crd).unwrap();
        if update {
            std::fs::write(&path, &text).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(there == text, "{} is out of date: run `UPDATE=1 cargo test -p crds`", path.display());
        names.push(name);
    }
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(names.contains(&name), "{name} is no custom resource of ours: remove it");
    }
}

#[test]
fn every_definition_survives_an_uninstall() {
    for crd in crds::all() {
        let annotations = crd.metadata.annotations.unwrap();
        assert_eq!(annotations.get("helm.sh/resource-policy").map(String::as_str), Some("keep"));
    }
}

#[test]
fn every_field_is_described_and_bounded() {
    for crd in crds::all() {
        for version in &crd.spec.versions {
            let schema = serde_json::to_value(&version.schema).unwrap();
            check(&schema["openAPIV3Schema"], &crd.spec.names.kind);
        }
    }
}

/// Walks a schema: descriptions are there and no template, strings and lists have an end, nothing is nullable.
fn check(schema: &Value, path: &str) {
    let bounded = |key| schema.get(key).is_some();
    match schema["type"].as_str() {
        Some("string") => assert!(bounded("maxLength") || bounded("enum") || bounded("format"), "{path} has no bound"),
        Some("array") => assert!(bounded("maxItems"), "{path} has no bound"),
        _ => {}
    }
    let is_root_status = path.matches('.').count() == 1 && path.ends_with(".status");
    assert!(is_root_status || schema.get("nullable").is_none(), "{path} can be null, which would be read as absent");
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let inner = format!("{path}.{name}");
        if name != "metadata" {
            let description = property["description"].as_str().unwrap_or_default();
            assert!(!description.is_empty(), "{inner} has no description");
            assert!(!description.contains("{{"), "{inner}: Helm would read this as a template");
        }
        // The types of Kubernetes itself are not ours to bound.
        if !["metadata", "apiVersion", "kind", "conditions"].contains(&name.as_str()) {
            check(property, &inner);
        }
    }
    if let Some(items) = schema.get("items") {
        check(items, &format!("{path}[]"));
    }
}

/// API servers write a default into every object. An operator from before the field refuses an object that has it, so nobody could
/// roll back: a new field gets no default in the schema (`skip_serializing_if` in the type), and this list does not grow.
#[test]
fn no_field_is_newer_than_the_first_release_and_has_a_default() {
    let mut found = Vec::new();
    for crd in crds::all() {
        for version in &crd.spec.versions {
            let schema = serde_json::to_value(&version.schema).unwrap();
            defaults(&schema["openAPIV3Schema"], &crd.spec.names.kind, &mut found);
        }
    }
    found.sort();
    let first = [
        "FapiClient.spec.authentication.method",
        "FapiClient.spec.issuerName",
        "FapiIssuer.spec.clientIdClaim",
        "FapiIssuer.spec.maxTokenAge",
        "FapiIssuer.spec.tokenFormat",
        "FapiIssuer.spec.typ",
        "FapiMesh.spec.certificateLifetime",
        "FapiMesh.spec.tokenLifetime",
        "FapiPolicy.spec.issuers",
        "FapiPolicy.spec.mode",
        "FapiPolicy.spec.protocol",
        "FapiPolicy.spec.rules",
        "FapiPolicy.spec.rules[].actors.max",
        "FapiPolicy.spec.rules[].actors.min",
        "FapiPolicy.spec.senderConstraints",
        "FapiPolicy.spec.targetRefs[].group",
        "FapiPolicy.spec.targetRefs[].kind",
    ];
    assert_eq!(found, first);
}

fn defaults(schema: &Value, path: &str, found: &mut Vec<String>) {
    if schema.get("default").is_some() {
        found.push(path.to_owned());
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        defaults(property, &format!("{path}.{name}"), found);
    }
    if let Some(items) = schema.get("items") {
        defaults(items, &format!("{path}[]"), found);
    }
}
