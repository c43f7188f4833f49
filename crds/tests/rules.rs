//! The rules in CEL, without a cluster: each refuses what it is there for, and lets the examples pass. On a real API server the
//! same objects are tried by `tests/tests/cluster_resources.rs`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kube_cel::Validator;
use serde::Deserialize;
use serde_json::Value;

/// An object that a cluster refuses, of `data/refused.yaml`.
#[derive(Deserialize)]
struct Refused {
    says: String,
    was: Option<Value>,
    object: Value,
}

fn refused() -> Vec<Refused> {
    serde_saphyr::from_str(include_str!("data/refused.yaml")).unwrap()
}

/// The schema of a kind; `None` if a cluster does not know it.
fn schema(kind: &Value) -> Option<Value> {
    let crd = crds::all().into_iter().find(|crd| kind == crd.spec.names.kind.as_str())?;
    let schema = crd.spec.versions[0].schema.clone()?.open_api_v3_schema;
    Some(serde_json::to_value(schema).unwrap())
}

/// The messages of all rules of a schema.
fn messages(schema: &Value, found: &mut BTreeSet<String>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let message = rule["message"].as_str().unwrap_or_default();
        assert!(!message.is_empty(), "{rule} has no message");
        found.insert(message.to_owned());
    }
    match schema {
        Value::Object(fields) => fields.values().for_each(|value| messages(value, found)),
        Value::Array(items) => items.iter().for_each(|value| messages(value, found)),
        _ => {}
    }
}

/// What the rules say about an object, and about its change if it was something else before.
fn judge(object: &Value, before: Option<&Value>) -> Vec<String> {
    let schema = schema(&object["kind"]).unwrap();
    let errors = Validator::new().validate_with_defaults(&schema, object, before);
    errors.err().into_iter().flat_map(kube_cel::ValidationErrors::into_vec).map(|error| error.message).collect()
}

#[test]
fn every_rule_refuses_an_object_that_breaks_it() {
    let mut rules = BTreeSet::new();
    crds::all().iter().for_each(|crd| messages(&serde_json::to_value(&crd.spec).unwrap(), &mut rules));
    let mut shown = BTreeSet::new();
    for case in refused().into_iter().filter(|case| rules.contains(&case.says)) {
        let before = case.was.map(|spec| {
            let mut before = case.object.clone();
            before["spec"] = spec;
            before
        });
        let found = judge(&case.object, before.as_ref());
        assert!(found.contains(&case.says), "{}: want {:?}, found {found:?}", case.object, case.says);
        shown.insert(case.says);
    }
    let unshown: Vec<_> = rules.difference(&shown).collect();
    assert!(unshown.is_empty(), "add objects to tests/data/refused.yaml that break {unshown:?}");
}

#[test]
fn the_examples_pass() {
    let mut count = 0;
    for file in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")) {
        let text = std::fs::read_to_string(&file).unwrap();
        for object in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            if schema(&object["kind"]).is_some() {
                assert_eq!(judge(&object, None), Vec::<String>::new(), "{}: {object}", file.display());
                // A change of nothing breaks no rule about changes.
                assert_eq!(judge(&object, Some(&object)), Vec::<String>::new(), "{}: {object}", file.display());
                count += 1;
            }
        }
    }
    assert!(count >= 7, "only {count} objects are found: have the examples moved?");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
