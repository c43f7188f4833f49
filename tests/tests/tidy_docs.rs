//! What the documents name is there, and what is there is documented.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text of every Rust file under a folder.
fn sources(folder: &Path) -> String {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap());
    let read = entries.map(|entry| match entry.path() {
        path if path.is_dir() => sources(&path),
        path if path.extension().is_some_and(|ending| ending == "rs") => read(path),
        _ => String::new(),
    });
    read.collect()
}

/// The part of a document under a heading, up to the next one of the same depth.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let (_, rest) = document.split_once(&format!("## {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    rest.split("\n## ").next().unwrap()
}

/// What stands between backticks.
fn backticked(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn agree(documented: &BTreeSet<String>, there: &BTreeSet<String>, document: &str) {
    assert!(!there.is_empty(), "nothing is found in the code: has its form changed?");
    let gone: Vec<_> = documented.difference(there).collect();
    assert!(gone.is_empty(), "{document} names what the code does not have: remove or rename {gone:?}");
    let new: Vec<_> = there.difference(documented).collect();
    assert!(new.is_empty(), "{document} does not name {new:?}: say there what it is");
}

#[test]
fn every_metric_is_documented_and_every_documented_metric_exists() {
    // The library of the operator adds the ending of counters by itself.
    let bare = |name: &str| name.strip_suffix("_total").unwrap_or(name).to_owned();
    let is_name = |text: &&str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let names = |texts: &mut dyn Iterator<Item = &str>| -> BTreeSet<String> {
        texts.filter(|text| text.starts_with("fapi_")).filter(is_name).map(bare).collect()
    };
    let code = sources(Path::new("operator/src")) + &sources(Path::new("sidecar/src"));
    let document = read("docs/operating.md");
    agree(&names(&mut backticked(&document)), &names(&mut code.split('"')), "docs/operating.md");
}

#[test]
fn every_flag_is_documented_and_every_documented_flag_exists() {
    let document = read("docs/operating.md");
    for (heading, args) in [("The operator", "operator/src/args.rs"), ("The sidecar", "sidecar/src/args.rs")] {
        let variables = read(args);
        let variables =
            variables.split("#[arg(long, env = \"FAPI_").skip(1).map(|rest| rest.split('"').next().unwrap());
        let there = variables.map(|name| format!("--{}", name.to_lowercase().replace('_', "-"))).collect();
        let words = section(&document, heading).split(|c: char| !c.is_ascii_lowercase() && c != '-');
        let documented = words.filter(|word| word.len() > 2 && word.starts_with("--") && !word.ends_with('-'));
        agree(&documented.map(str::to_owned).collect(), &there, &format!("docs/operating.md, {heading}"));
    }
}

/// The cells of each row of the tables whose first column has this head.
fn rows<'a>(document: &'a str, head: &str) -> Vec<Vec<&'a str>> {
    let (mut inside, mut rows) = (false, Vec::new());
    for line in document.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if !line.starts_with('|') {
            inside = false;
        } else if inside && !line.starts_with("|---") {
            rows.push(cells);
        } else {
            inside |= cells.first() == Some(&head);
        }
    }
    rows
}

/// What is wrong with rows that end with where something is kept and the tests that show it.
fn problems(rows: &[Vec<&str>], columns: usize) -> Vec<String> {
    let mut problems = Vec::new();
    for cells in rows {
        let [id, .., kept, shown] = cells.as_slice() else { panic!("{cells:?}") };
        if cells.len() == columns {
            let found = kept_problem(kept).into_iter().chain(shown_problem(shown));
            problems.extend(found.map(|problem| format!("{id}: {problem}")));
        } else {
            problems.push(format!("{id}: want {columns} columns"));
        }
    }
    problems
}

#[test]
fn every_rule_names_tests_that_exist_or_says_why_it_has_none() {
    let document = read("docs/conformance.md");
    let rows = rows(&document, "id");
    assert!(rows.len() > 100, "only {} rows are found: has the form of the table changed?", rows.len());
    let problems = problems(&rows, 5);
    assert!(problems.is_empty(), "docs/conformance.md\n{}", problems.join("\n"));
}

#[test]
fn every_threat_names_the_code_and_the_tests_that_stop_it() {
    let document = read("docs/threat-model.md");
    let rows = rows(&document, "threat");
    assert!(rows.len() > 40, "only {} rows are found: has the form of the tables changed?", rows.len());
    let mut problems = problems(&rows, 4);
    let stopped =
        |cells: &&Vec<&str>| cells.last().is_some_and(|shown| shown.starts_with('`')) && cells[2] != "nowhere";
    let open = rows.iter().filter(|cells| !stopped(cells));
    problems.extend(open.map(|cells| format!("{}: what nothing stops belongs to the last section", cells[0])));
    assert!(problems.is_empty(), "docs/threat-model.md\n{}", problems.join("\n"));
    assert!(section(&document, "What is not covered").lines().filter(|line| line.starts_with("- ")).count() > 5);
}

/// What is wrong with the column that says where a rule is kept.
fn kept_problem(kept: &str) -> Option<String> {
    let places = kept.split(", ").filter_map(|place| place.split(' ').next());
    let gone: Vec<_> = places.filter(|place| *place != "nowhere" && !root().join(place).exists()).collect();
    (!gone.is_empty()).then(|| format!("{gone:?} is no file: name the one that keeps the rule, or write nowhere"))
}

/// What is wrong with the column of tests.
fn shown_problem(shown: &str) -> Option<String> {
    let named: Vec<&str> = backticked(shown).filter(|text| text.contains("::")).collect();
    let gone = named.iter().find(|name| !is_test(name));
    if let Some(gone) = gone {
        return Some(format!("there is no test {gone}: name one that shows the rule, as `path/file.rs::test`"));
    }
    let reason = ["waits:", "not applicable:"].iter().find_map(|word| shown.strip_prefix(word));
    match reason {
        Some(reason) if reason.trim().is_empty() => Some("say what it waits for, or why it does not apply".to_owned()),
        None if named.is_empty() => {
            Some("name a test as `path/file.rs::test`, or write `waits: ...` or `not applicable: ...`".to_owned())
        }
        _ => None,
    }
}

/// Whether `path/file.rs::name` is a function of that file with a test attribute above it.
fn is_test(name: &str) -> bool {
    let Some((file, function)) = name.split_once("::") else { return false };
    let Ok(text) = fs::read_to_string(root().join(file)) else { return false };
    has_test(&text, &format!("fn {function}("))
}

/// Whether a text has a function whose head begins so, with a test attribute above it.
fn has_test(text: &str, head: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let at = lines.iter().position(|line| line.strip_prefix("async ").unwrap_or(line).starts_with(head));
    let above = at.map(|at| lines.iter().take(at).rev().take_while(|line| !line.is_empty() && !line.ends_with('}')));
    above.is_some_and(|mut above| above.any(|line| line.starts_with("#[") && line.contains("test")))
}

#[test]
fn every_known_mistake_has_a_test_of_its_number() {
    let code: String = ["crates", "operator", "sidecar"].iter().map(|folder| sources(Path::new(folder))).collect();
    let document = read("docs/conformance.md");
    for number in 1..=50 {
        let head = format!("fn n{number}_");
        assert!(has_test(&code, &head), "N{number}: there is no test n{number}_...");
        assert!(document.contains(&format!("::n{number}_")), "N{number}: docs/conformance.md does not name its test");
    }
}
