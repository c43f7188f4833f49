//! The rules of the repository that no compiler knows. `UPDATE=1` rewrites what is generated here.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use fapi::Rejection;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Every file that git knows or would take, under `root`, with this ending.
fn files(ending: &str) -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).unwrap();
    let files: Vec<_> = names.split('\0').filter(|name| name.ends_with(ending)).map(|name| root().join(name)).collect();
    assert!(!files.is_empty(), "git lists no {ending}");
    files.into_iter().filter(|file| file.exists()).collect()
}

fn is_test(file: &Path) -> bool {
    let inside = file.strip_prefix(root()).unwrap();
    inside.ends_with("tests.rs")
        || inside.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "testing" | "testing.rs")))
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Name of each package of the workspace, and the names of its direct, normal dependencies.
fn workspace_dependencies(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let packages = metadata["packages"].as_array().unwrap().iter().filter(|package| package["source"].is_null());
    packages
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let normal = dependencies.filter(|dependency| dependency["kind"].is_null());
            let names = normal.map(|dependency| dependency["name"].as_str().unwrap().to_owned());
            (package["name"].as_str().unwrap().to_owned(), names.collect())
        })
        .collect()
}

#[test]
fn dependencies_point_one_way() {
    let dependencies = workspace_dependencies(&metadata());
    let ours: BTreeSet<&String> = dependencies.keys().collect();
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("fapi", &[] as &[&str]),
        ("crds", &[]),
        ("bench", &["fapi"]),
        ("control", &["fapi"]),
        ("operator", &["control", "crds", "fapi"]),
        ("sidecar", &["control", "fapi"]),
    ]);
    for (package, names) in &dependencies {
        let Some(allowed) = allowed.get(package.as_str()) else { continue };
        for name in names.iter().filter(|name| ours.contains(name)) {
            assert!(allowed.contains(&name.as_str()), "{package} must not depend on {name}");
        }
    }
    for (package, names) in &dependencies {
        let kube = names.iter().any(|name| name == "kube" || name == "k8s-openapi");
        let may = ["crds", "operator", "fapictl", "e2e"].contains(&package.as_str());
        assert!(may || !kube, "{package} must not know Kubernetes");
    }
}

#[test]
fn the_decision_reaches_no_runtime() {
    let metadata = metadata();
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| (node["id"].as_str().unwrap(), node))
        .collect();
    let start = nodes.keys().find(|id| id.contains("crates/fapi#")).unwrap();
    let (mut queue, mut seen) = (vec![*start], BTreeSet::new());
    while let Some(id) = queue.pop() {
        if !seen.insert(id) {
            continue;
        }
        for dependency in nodes[id]["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                queue.push(dependency["pkg"].as_str().unwrap());
            }
        }
    }
    for id in seen {
        let name = id.rsplit(['/', '#']).next().unwrap().split('@').next().unwrap();
        assert!(!["tokio", "hyper", "kube", "tonic", "rustls"].contains(&name), "fapi reaches {id}");
    }
}

#[test]
fn files_stay_small() {
    for file in files(".rs") {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        let generated = file.to_string_lossy().contains("/src/pb/");
        assert!(generated || is_test(&file) || lines <= 400, "{} has {lines} lines", file.display());
        assert!(file.file_name().unwrap() != "mod.rs", "{}: a module is x.rs beside x/", file.display());
    }
}

#[test]
fn a_sidecar_writes_no_file() {
    for file in files(".rs") {
        if is_test(&file) || !file.starts_with(root().join("sidecar/src")) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        for way in ["fs::write", "fs::copy", "fs::rename", "fs::hard_link", "fs::create", "File::", "OpenOptions"] {
            assert!(!text.contains(way), "{}: {way}: keys and tokens stay in memory", file.display());
        }
    }
}

#[test]
fn each_crate_names_the_crypto_library_in_one_file() {
    let mut naming: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    for file in files(".rs") {
        if is_test(&file) || file.starts_with(root().join("bench")) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        if text.lines().any(|line| line.contains("aws_lc_rs") && !line.trim_start().starts_with("//")) {
            let package = file.ancestors().find(|folder| folder.join("Cargo.toml").exists()).unwrap();
            naming.entry(package.to_path_buf()).or_default().insert(file.clone());
        }
    }
    for (package, files) in naming {
        assert!(files.len() == 1, "{} names aws_lc_rs in {files:?}", package.display());
    }
}

#[test]
fn every_reason_is_documented() {
    let file = root().join("docs/reasons.md");
    let mut text = String::from(
        "# Reasons\n\nEvery refusal has one of these ids, in the decision log, in metrics and in statuses. The caller sees only\nwhat the RFC says it may see: the status, an RFC error code and a challenge. `Audit` says whether a policy in\n`mode: Audit` lets such a call pass. Generated from `crates/fapi/src/rejection.rs`.\n\nA head that HTTP/1.1 cannot read is `request_malformed` or, if it is too large, `header_too_large`; its line in the log\nsays no more than who sent it, and a target of more than 64 KiB is answered with 414. What HTTP/2 refuses below\nrequests, such as a list of fields of more than 64 KiB (431) or a frame out of place, is in no log.\n\n| id | source | answer | Audit | what to do |\n|---|---|---|---|---|\n",
    );
    for rejection in Rejection::ALL {
        let status = rejection.status().map_or_else(|| "none: before HTTP".to_owned(), |status| status.to_string());
        let audit = if rejection.waivable_in_audit() { "passes" } else { "refused" };
        let (id, source, hint) = (rejection.id(), rejection.source(), rejection.hint());
        writeln!(text, "| `{id}` | {source} | {status} | {audit} | {hint} |").unwrap();
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &text).unwrap();
    }
    assert_eq!(fs::read_to_string(file).unwrap(), text, "run it once with UPDATE=1");
}
