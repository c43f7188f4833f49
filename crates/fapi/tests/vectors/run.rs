//! Reads a vector file and asks for the verdicts.

use std::path::PathBuf;

use fapi::ProvenTokens;

use crate::format::{self, World as Written};
pub(crate) use crate::{
    format::{Asked, Case, Connected, Expected, Step, VectorFile},
    world::World,
};

impl Step {
    /// The verdict in this world.
    pub(crate) fn verdict(&self, world: &World, proven: &mut ProvenTokens) -> Expected {
        world.verdict(self.clock, &self.revoked, &self.request, proven)
    }
}

impl Case {
    /// The world of its file, with what is different here.
    pub(crate) fn world_in(&self, file: &VectorFile) -> World {
        World::new(&Written::of(file, self))
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
    format::load(&folder(), name)
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
