//! What the issuer keeps across restarts: `issuer/` in the state folder, or nothing works as before.

use std::path::Path;
use std::sync::Arc;

use super::keys::{Keys, KeysError, Rotation};
use crate::clock::Clock;
use crate::state::Folder;

/// The keys. Clones share them.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) keys: Arc<Keys>,
}

impl Kept {
    /// Opens the folder of `state`, making it at the first start; a lost or damaged file is never replaced silently.
    pub(crate) fn open(state: &Path, rotation: Rotation, clock: &Clock) -> Result<Self, KeysError> {
        let folder = Folder::open(state.join("issuer"), REMEDY, |folder| Keys::create(folder, clock.now()))?;
        Ok(Self { keys: Arc::new(Keys::open(folder, rotation, clock.clone())?) })
    }
}

const REMEDY: &str = "restore it from a backup, or remove the folder it is in to start with new keys \
                      (every token in use is then refused until it is fetched again)";
