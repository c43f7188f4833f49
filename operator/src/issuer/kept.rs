//! What the issuer keeps across restarts, or nothing works as before.

use std::sync::Arc;

use super::keys::{Keys, KeysError, Rotation};
use crate::clock::Clock;
use crate::shelf::Shelf;
use crate::state::{Folder, Remembered, Room};

/// The keys, and the ids that must not be forgotten. Clones share them.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) keys: Arc<Keys>,
    /// Client assertions that were used.
    pub(super) assertions: Arc<Remembered>,
}

impl Kept {
    /// Opens the issuer's shelf, making it at the first start; a lost or damaged file is never replaced silently.
    pub(crate) fn open(shelf: Shelf, rotation: Rotation, clock: &Clock) -> Result<Self, KeysError> {
        let folder = Folder::open(shelf, REMEDY, |folder| {
            Keys::create(folder, clock.now())?;
            Remembered::create(folder, ASSERTIONS)?;
            Ok::<_, KeysError>(())
        })?;
        Ok(Self {
            assertions: Remembered::open(&folder, ASSERTIONS, ASSERTION_ROOM)?,
            keys: Arc::new(Keys::open(folder, rotation, clock.clone())?),
        })
    }
}

const REMEDY: &str = "restore it from a backup, or remove the folder it is in to start with new keys \
                      (every token in use is then refused until it is fetched again)";
const ASSERTIONS: &str = "assertions.json";
/// Each is kept for at most five minutes and a little.
const ASSERTION_ROOM: Room = Room { all: 16_384, per_owner: 2048 };
