//! A file of custom resources: lines are those of the file, and what is read is what a reader without lines reads.
#![no_main]

#[path = "../../operator/src/source/documents.rs"]
mod documents;
#[allow(dead_code, reason = "the operator uses more of it")]
#[path = "../../operator/src/source/located.rs"]
mod located;
#[allow(dead_code, reason = "the operator uses more of it")]
#[path = "../../operator/src/source/problem.rs"]
mod problem;

libfuzzer_sys::fuzz_target!(|file: &str| judge(file));

fn judge(file: &str) {
    // A carriage return alone ends a line too (YAML 5.4).
    let lines = u32::try_from(file.split(['\n', '\r']).count()).unwrap();
    for document in documents::split(file) {
        assert!(document.line >= 1 && document.line <= lines && file.contains(document.text));
        match located::read(document.text, document.line) {
            Ok(node) => {
                within(&node, document.line, lines);
                // Printed as JSON, which is YAML too, it is read as the same.
                let json = node.to_json();
                assert_eq!(located::Node::from_json(&json, 1).to_json(), json);
                let again = located::read(&json.to_string(), 1).expect("JSON is YAML").to_json();
                assert_eq!(again, json);
            }
            Err(problem) => assert!(problem.line >= document.line, "{problem:?}"),
        }
    }
}

fn within(node: &located::Node, first: u32, last: u32) {
    assert!((first..=last).contains(&node.line), "{node:?}");
    match &node.value {
        located::Value::List(items) => items.iter().for_each(|item| within(item, first, last)),
        located::Value::Map(entries) => {
            let mut names: Vec<_> = entries.iter().map(|entry| &entry.key).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), entries.len(), "a member twice");
            entries.iter().for_each(|entry| within(&entry.node, first, last));
        }
        _ => {}
    }
}
