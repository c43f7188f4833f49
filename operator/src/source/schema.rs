//! Checks a document against the schema that a cluster would use, with all problems at once.
//!
//! The schema is the custom resource definition itself, so a folder and a cluster take the same documents. Only its CEL rules
//! are not run here; `object` says them again.

use std::collections::HashMap;
use std::sync::OnceLock;

use regex::Regex;
use serde_json::Value as Json;

use super::located::{Entry, Node, Value};
use super::problem::Finding;

/// A schema of a custom resource.
pub(super) struct Schema {
    root: Json,
    /// Compiled when a text first has to match; none where that fails.
    patterns: HashMap<String, OnceLock<Option<Regex>>>,
}

impl Schema {
    /// Takes `openAPIV3Schema` of a definition.
    pub(super) fn new(root: Json) -> Self {
        let mut patterns = HashMap::new();
        collect_patterns(&root, &mut patterns);
        Self { root, patterns }
    }

    /// Everything that is wrong with a document.
    pub(super) fn check(&self, node: &Node) -> Vec<Finding> {
        self.check_at(&[], node, "")
    }

    /// Whether a text is as a pattern says; nothing is as one says that is no regular expression.
    fn matches(&self, pattern: &str, text: &str) -> bool {
        let compiled = self.patterns.get(pattern).map(|compiled| compiled.get_or_init(|| Regex::new(pattern).ok()));
        compiled.and_then(Option::as_ref).is_some_and(|regex| regex.is_match(text))
    }

    /// Everything that is wrong with a value, by the schema of the field that the property names lead to.
    pub(super) fn check_at(&self, properties: &[&str], node: &Node, path: &str) -> Vec<Finding> {
        let mut findings = Findings { schema: self, found: Vec::new() };
        let schema = properties.iter().try_fold(&self.root, |schema, name| schema.get("properties")?.get(*name));
        match schema {
            Some(schema) => findings.walk(schema, node, path),
            None => findings.add(node.line, path, "this kind has no such field", "remove it"),
        }
        findings.found
    }
}

fn collect_patterns(schema: &Json, patterns: &mut HashMap<String, OnceLock<Option<Regex>>>) {
    match schema {
        Json::Object(fields) => {
            if let Some(pattern) = fields.get("pattern").and_then(Json::as_str) {
                patterns.entry(pattern.to_owned()).or_default();
            }
            fields.values().for_each(|value| collect_patterns(value, patterns));
        }
        Json::Array(items) => items.iter().for_each(|item| collect_patterns(item, patterns)),
        _ => {}
    }
}

struct Findings<'a> {
    schema: &'a Schema,
    found: Vec<Finding>,
}

impl Findings<'_> {
    fn add(&mut self, line: u32, path: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.found.push(Finding::new(line, path, message, remedy));
    }

    fn walk(&mut self, schema: &Json, node: &Node, path: &str) {
        match (schema["type"].as_str(), &node.value) {
            (Some("object"), Value::Map(entries)) => self.map(schema, entries, node.line, path),
            (Some("array"), Value::List(items)) => self.list(schema, items, node.line, path),
            (Some("string"), Value::Text(text)) => self.text(schema, text, node.line, path),
            (Some("integer"), Value::Number(number)) => self.number(schema, number, node.line, path),
            (Some("boolean"), Value::Bool(_)) => {}
            (wanted, value) => {
                let wanted = name_of_type(wanted);
                let remedy = match value {
                    Value::Null => "give it a value, or leave the field out".to_owned(),
                    Value::Number(_) | Value::Bool(_) if wanted == "a string" => "put it in quotes".to_owned(),
                    _ => format!("write {wanted}"),
                };
                self.add(node.line, path, format!("want {wanted}, found {}", value.kind()), remedy);
            }
        }
    }

    fn map(&mut self, schema: &Json, entries: &[Entry], line: u32, path: &str) {
        let properties = schema["properties"].as_object();
        for entry in entries {
            let field = join(path, &entry.key);
            match (properties.and_then(|properties| properties.get(&entry.key)), schema.get("additionalProperties")) {
                (Some(property), _) => self.walk(property, &entry.node, &field),
                (None, Some(any)) => self.walk(any, &entry.node, &field),
                (None, None) => {
                    let known = properties.into_iter().flatten().map(|(name, _)| name.as_str());
                    let known: Vec<_> = known.collect();
                    let remedy = format!("remove it or mend its name; known here: {}", known.join(", "));
                    self.add(entry.line, &field, "unknown field", remedy);
                }
            }
        }
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str);
        for name in required.filter(|name| entries.iter().all(|entry| entry.key != *name)) {
            self.add(line, &join(path, name), "required field is missing", format!("add {name}"));
        }
    }

    fn list(&mut self, schema: &Json, items: &[Node], line: u32, path: &str) {
        if let Some(min) = schema["minItems"].as_u64().filter(|min| (items.len() as u64) < *min) {
            let message = format!("the list has {} entries, fewer than {min}", items.len());
            self.add(
                line,
                path,
                message,
                "an empty list could be read as none or as all: add entries or leave the field out",
            );
        }
        if let Some(max) = schema["maxItems"].as_u64().filter(|max| items.len() as u64 > *max) {
            let message = format!("the list has {} entries, more than {max}", items.len());
            self.add(line, path, message, "spread them over several objects");
        }
        for (position, item) in items.iter().enumerate() {
            self.walk(&schema["items"], item, &format!("{path}[{position}]"));
        }
        if schema["x-kubernetes-list-type"] == "set" {
            let json: Vec<Json> = items.iter().map(Node::to_json).collect();
            for (position, item) in items.iter().enumerate() {
                if json.iter().take(position).any(|earlier| Some(earlier) == json.get(position)) {
                    self.add(item.line, &format!("{path}[{position}]"), "the same entry stands above", "remove one");
                }
            }
        }
    }

    fn text(&mut self, schema: &Json, text: &str, line: u32, path: &str) {
        if let Some(allowed) = schema["enum"].as_array() {
            let allowed: Vec<_> = allowed.iter().filter_map(Json::as_str).collect();
            if !allowed.contains(&text) {
                self.add(
                    line,
                    path,
                    format!("{text:?} is not possible here"),
                    format!("write one of {}", allowed.join(", ")),
                );
            }
        }
        let length = text.chars().count() as u64;
        if let Some(min) = schema["minLength"].as_u64().filter(|min| length < *min) {
            self.add(line, path, format!("shorter than {min} characters"), "give it a value, or leave the field out");
            return;
        }
        if let Some(max) = schema["maxLength"].as_u64().filter(|max| length > *max) {
            let remedy = if max == 0 { "leave it empty".to_owned() } else { format!("shorten it to {max}") };
            self.add(line, path, format!("longer than {max} characters"), remedy);
        }
        if let Some(pattern) = schema["pattern"].as_str() {
            let matches = self.schema.matches(pattern, text);
            if !matches {
                let message = format!("{text:?} has the wrong form");
                self.add(line, path, message, format!("write it in the form {pattern}"));
            }
        }
    }

    fn number(&mut self, schema: &Json, number: &serde_json::Number, line: u32, path: &str) {
        let Some(value) = number.as_i64() else {
            self.add(line, path, format!("{number} is no whole number"), "write a whole number");
            return;
        };
        let bound = |name: &str| schema[name].as_f64();
        let above = bound("maximum").is_some_and(|max| value as f64 > max);
        let below = bound("minimum").is_some_and(|min| (value as f64) < min);
        if above || below {
            let (min, max) = (bound("minimum").unwrap_or(f64::MIN), bound("maximum").unwrap_or(f64::MAX));
            self.add(line, path, format!("{value} is out of range"), format!("write a number from {min} to {max}"));
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn name_of_type(name: Option<&str>) -> &'static str {
    match name {
        Some("object") => "a mapping",
        Some("array") => "a list",
        Some("string") => "a string",
        Some("integer") => "a whole number",
        Some("boolean") => "true or false",
        _ => "nothing",
    }
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt;

    use super::*;
    use crate::source::located::read;

    fn findings(spec: &str) -> Vec<(u32, String, String)> {
        let schema = schema_of(&crds::FapiPolicy::crd());
        let node = read(spec, 1).unwrap();
        schema
            .check_at(&["spec"], &node, "spec")
            .into_iter()
            .map(|found| (found.line, found.field, found.message))
            .collect()
    }

    fn schema_of(
        crd: &k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    ) -> Schema {
        let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        Schema::new(serde_json::to_value(schema).unwrap())
    }

    #[test]
    fn a_good_document_has_none() {
        let found = findings(
            "targetRefs: [{name: payments, sectionName: http}]\nrules:\n- methods: [GET]\n  paths: [/a, /, /a.b/..c/]\n  scopes: ['a:b']\n",
        );
        assert_eq!(found, []);
    }

    #[test]
    fn all_problems_are_found_at_once() {
        let found = findings(
            "targetRefs: []\nmode: Audi\nsenderConstraints: [MTLS, MTLS]\nrules:\n- methods: GET\n  paths: [/a/../b, '/a*']\n- callers: [{name: x}]\nextra: 1\n",
        );
        let places: Vec<_> = found.iter().map(|(line, field, _)| (*line, field.as_str())).collect();
        assert_eq!(
            places,
            [
                (1, "spec.targetRefs"),
                (2, "spec.mode"),
                (3, "spec.senderConstraints[1]"),
                (5, "spec.rules[0].methods"),
                (6, "spec.rules[0].paths[0]"),
                (6, "spec.rules[0].paths[1]"),
                (7, "spec.rules[1].callers[0].name"),
                (8, "spec.extra"),
            ]
        );
    }

    #[test]
    fn a_missing_field_and_a_null_are_told_apart() {
        assert_eq!(findings("mode: Audit\n")[0].2, "required field is missing");
        assert_eq!(findings("targetRefs: [{name: a, sectionName: null}]\n")[0].2, "want a string, found nothing");
    }
}
