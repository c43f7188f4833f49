//! The files are what `make` says, but for signatures and what hangs on them.

use std::{collections::BTreeSet, fs};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::{
    make,
    run::{Step, VectorFile, folder, load},
};

#[test]
fn vectors_are_current() {
    let made = make::all();
    if std::env::var_os("UPDATE").is_some() {
        for (name, file) in &made {
            let text = serde_json::to_string_pretty(file).unwrap() + "\n";
            fs::write(folder().join(format!("{name}.json")), text).unwrap();
        }
    }
    for (name, file) in &made {
        assert!(masked(load(name)) == masked(file.clone()), "{name}: run once with UPDATE=1");
    }
    let stored: BTreeSet<_> =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let wanted: BTreeSet<_> = made.iter().map(|(name, _)| format!("{name}.json")).collect();
    assert_eq!(stored, wanted);
}

#[test]
fn every_file_has_its_test() {
    let tests = include_str!("main.rs");
    for (name, file) in make::all() {
        assert!(tests.contains(&format!("fn {name}() {{\n    holds(\"{name}\");")), "{name}");
        let names: BTreeSet<_> = file.cases.iter().map(|case| &case.name).collect();
        assert_eq!(names.len(), file.cases.len(), "{name}: a case twice");
    }
}

/// Without what is new at each signing: signatures, and hashes of tokens.
fn masked(mut file: VectorFile) -> VectorFile {
    for case in &mut file.cases {
        for Step { request, .. } in case.before.iter_mut().chain([&mut case.last]) {
            for text in request.headers.iter_mut().map(|(_, value)| value).chain(&mut request.query) {
                *text = text.split(' ').map(masked_word).collect::<Vec<_>>().join(" ");
            }
        }
    }
    file
}

fn masked_word(word: &str) -> String {
    let part = |part: &str| {
        let decoded = URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
        match serde_json::from_slice(&decoded) {
            Ok(Value::Object(mut members)) => {
                let ath = members.get("ath").and_then(Value::as_str).map(str::len);
                if let Some(length) = ath.filter(|length| *length > 20) {
                    members.insert("ath".to_owned(), length.into());
                }
                Value::from(members).to_string()
            }
            _ if part.len() > 20 => part.len().to_string(),
            _ => part.to_owned(),
        }
    };
    word.split('.').map(part).collect::<Vec<_>>().join(".")
}
