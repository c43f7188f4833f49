//! Reads a vector file and asks for the verdicts.

use std::{fs, path::PathBuf};

use fapi::ProvenTokens;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(crate) use crate::world::{Asked, Expected, World};

/// One file: what is wrong elsewhere, the world, and requests with their verdicts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VectorFile {
    pub(crate) about: String,
    pub(crate) world: Map<String, Value>,
    pub(crate) cases: Vec<Case>,
}

/// One request and its verdict, after others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// Members of the world that are different here.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) world: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) before: Vec<Step>,
    #[serde(flatten)]
    pub(crate) last: Step,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Step {
    /// Seconds since the epoch, if not the world's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) clock: Option<u64>,
    pub(crate) request: Asked,
    pub(crate) expect: Expected,
}

impl Step {
    /// The verdict in this world.
    pub(crate) fn verdict(&self, world: &World, proven: &mut ProvenTokens) -> Expected {
        world.verdict(self.clock, &self.request, proven)
    }
}

impl Case {
    pub(crate) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.before.iter().chain([&self.last])
    }

    /// The world of its file, with what is different here.
    pub(crate) fn world_in(&self, file: &VectorFile) -> World {
        let mut members = file.world.clone();
        members.extend(self.world.clone());
        World::new(members)
    }

    /// The verdicts in a new world, on a connection that has proven these tokens.
    pub(crate) fn verdicts(&self, file: &VectorFile, proven: &mut ProvenTokens) -> Vec<Expected> {
        let world = self.world_in(file);
        self.steps().map(|step| step.verdict(&world, proven)).collect()
    }
}

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

pub(crate) fn load(name: &str) -> VectorFile {
    let file = folder().join(format!("{name}.json"));
    let text = fs::read_to_string(&file).unwrap_or_else(|_| panic!("no vectors {name}: run once with UPDATE=1"));
    serde_json::from_str(&text).unwrap()
}

/// Whether every case of a file gets its verdict.
#[track_caller]
pub(crate) fn holds(name: &str) {
    let file = load(name);
    assert!(file.cases.len() > 1, "{name}");
    for case in &file.cases {
        let wanted: Vec<_> = case.steps().map(|step| step.expect.clone()).collect();
        assert_eq!(case.verdicts(&file, &mut ProvenTokens::new()), wanted, "{name}: {}", case.name);
    }
}
