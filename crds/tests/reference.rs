//! `docs/reference` is what the schemas say, a page per kind. `UPDATE=1` rewrites it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

#[test]
fn the_reference_is_what_the_schemas_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference");
    let mut names = Vec::new();
    for crd in crds::all() {
        let name = format!("{}.md", crd.spec.names.singular.clone().unwrap());
        let (path, text) = (folder.join(&name), page(&crd));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(there == text, "{} is out of date: run `UPDATE=1 cargo test -p crds`", path.display());
        names.push(name);
    }
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(names.contains(&name), "{name} is about no kind of ours: remove it");
    }
}

fn page(crd: &CustomResourceDefinition) -> String {
    let names = &crd.spec.names;
    let version = &crd.spec.versions[0];
    let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    let schema = serde_json::to_value(schema).unwrap();
    let (kind, short) = (&names.kind, &names.short_names.as_ref().unwrap()[0]);
    let scope = if crd.spec.scope == "Namespaced" { "in a namespace" } else { "for the whole cluster" };
    let mut text = format!(
        "# {kind}\n\n{}\n\n`apiVersion: {}/{}`, {scope}; `kubectl get {short}`, or `fapi-mesh` for all kinds. Generated from `crds/src`.\n",
        schema["description"].as_str().unwrap(),
        crd.spec.group,
        version.name,
    );
    for rule in rules(&schema) {
        write!(text, "\nRule: {rule}.\n").unwrap();
    }
    for part in ["spec", "status"] {
        let schema = &schema["properties"][part];
        write!(text, "\n## {part}\n\n").unwrap();
        for rule in rules(schema) {
            write!(text, "Rule: {rule}.\n\n").unwrap();
        }
        text.push_str("| field | | |\n|---|---|---|\n");
        rows(schema, "", &mut text);
    }
    text
}

/// A row for each field, what has to be there first, and below a field its own fields.
fn rows(schema: &Value, path: &str, text: &mut String) {
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut properties: Vec<_> = schema["properties"].as_object().into_iter().flatten().collect();
    properties.sort_by_key(|(name, _)| !required.contains(&name.as_str()));
    for (name, property) in properties {
        let field = format!("{path}{name}");
        let mut form = form(property);
        if required.contains(&name.as_str()) {
            form.push_str(", required");
        }
        if let Some(default) = property.get("default") {
            write!(form, "; default `{default}`").unwrap();
        }
        let inner = if property["type"] == "array" { &property["items"] } else { property };
        let mut description = property["description"].as_str().unwrap_or_default().replace('\n', " ");
        for rule in rules(property).into_iter().chain(rules(inner).into_iter().filter(|_| property["type"] == "array"))
        {
            write!(description, " Rule: {rule}.").unwrap();
        }
        writeln!(text, "| `{field}` | {} | {} |", cell(&form), cell(&description)).unwrap();
        // These are conditions of Kubernetes, as everywhere.
        if name != "conditions" {
            rows(inner, &format!("{field}{}.", if property["type"] == "array" { "[]" } else { "" }), text);
        }
    }
}

/// What a value looks like.
fn form(schema: &Value) -> String {
    let number = |name: &str| schema[name].as_f64();
    let bounds = |before: &str, min: &str, max: &str, after: &str| match (number(min), number(max)) {
        (Some(min), Some(max)) => format!("{before}{min} to {max}{after}"),
        (None, Some(max)) => format!("{before}up to {max}{after}"),
        _ => String::new(),
    };
    match schema["type"].as_str().unwrap_or_default() {
        "array" => {
            let unique = if schema["x-kubernetes-list-type"] == "set" { ", each once" } else { "" };
            format!("list{}{unique}: {}", bounds(" of ", "minItems", "maxItems", ""), form(&schema["items"]))
        }
        "integer" => format!("whole number{}", bounds(", ", "minimum", "maximum", "")),
        "string" => match schema["enum"].as_array() {
            Some(values) => {
                values.iter().filter_map(Value::as_str).map(|v| format!("`{v}`")).collect::<Vec<_>>().join(" or ")
            }
            None => format!("string{}", bounds(", ", "minLength", "maxLength", " characters")),
        },
        other => other.to_owned(),
    }
}

fn rules(schema: &Value) -> Vec<String> {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    rules.filter_map(|rule| rule["message"].as_str().map(str::to_owned)).collect()
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
