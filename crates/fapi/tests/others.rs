//! Tokens, proofs and certificates that others made: `make vectors` writes them, with the libraries named in each file.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "vectors/format.rs"]
#[allow(dead_code, reason = "these files have a form of their own")]
mod format;
#[path = "vectors/world.rs"]
mod world;

use std::{fs, path::Path};

use fapi::{CertThumbprint, ProvenTokens};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use format::Asked;
use world::World;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VectorFile {
    about: String,
    world: Map<String, Value>,
    /// Certificates in hex, with the thumbprints that their maker computed.
    #[serde(default)]
    certificates: Vec<Certificate>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    request: Asked,
    /// `verdict`, and the reason of a refusal.
    expect: Value,
}

/// Whether it is a good leaf is asked in `control`.
#[derive(Deserialize)]
struct Certificate {
    der: String,
    thumbprint: String,
}

fn load(name: &str) -> VectorFile {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors").join(format!("{name}.json"));
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

#[track_caller]
fn holds(name: &str) {
    let file = load(name);
    let mut admitted = 0;
    for case in &file.cases {
        // In a world of its own: a proof id may be used by several cases.
        let world = World::new(&serde_json::from_value(file.world.clone().into()).unwrap());
        let verdict = world.verdict(None, &[], &case.request, &mut ProvenTokens::new());
        let mut told = serde_json::to_value(verdict).unwrap();
        told.as_object_mut().unwrap().retain(|name, _| name == "verdict" || name == "reason");
        assert_eq!(told, case.expect, "{}: {}", file.about, case.name);
        admitted += usize::from(case.expect == json!({"verdict": "admitted"}));
    }
    assert!(admitted > 2 && file.cases.len() > 2 * admitted, "{name}: {admitted} of {} admitted", file.cases.len());
}

#[test]
fn jose_and_dpop_of_javascript() {
    holds("node");
}

#[test]
fn joserfc_and_pyjwt_of_python() {
    holds("python");
}

#[test]
fn nimbus_of_java() {
    holds("java");
}

#[test]
fn openssl_alone() {
    holds("openssl");
    let certificates = load("openssl").certificates;
    assert!(certificates.len() > 2);
    for Certificate { der, thumbprint } in certificates {
        let bytes: Vec<u8> =
            (0..der.len()).step_by(2).map(|at| u8::from_str_radix(&der[at..at + 2], 16).unwrap()).collect();
        assert_eq!(CertThumbprint::of_der(&bytes), CertThumbprint::parse(&thumbprint).unwrap());
    }
}
