//! What the issuer keeps across restarts, or nothing works as before.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::keys::{Keys, KeysError, Rotation};
use crate::clock::Clock;
use crate::crypto;
use crate::shelf::Shelf;
use crate::state::{Folder, Remembered, Room};

/// The keys, and the ids that must not be forgotten. Clones share them, and so do the operators of a cluster.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) keys: Arc<Keys>,
    /// Client assertions that were used.
    pub(super) assertions: Arc<Remembered>,
    /// What nonces for proofs are made with (RFC 9449 section 8).
    pub(super) nonces: [u8; 32],
}

/// The secret of nonces: those of one operator count at every other of the same cluster.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nonces {
    secret: [u8; 32],
}

impl Kept {
    /// Opens the issuer's shelf, making it at the first start; a lost or damaged file is never replaced silently.
    pub(crate) fn open(shelf: Shelf, rotation: Rotation, clock: &Clock) -> Result<Self, KeysError> {
        let is_shared = shelf.is_shared();
        let folder = Folder::open(shelf, REMEDY, |folder| {
            tracing::info!("the issuer begins with new keys: no token of before counts");
            Keys::create(folder, clock.now())?;
            Remembered::create(folder, ASSERTIONS)?;
            if is_shared {
                folder.write(NONCES, &Nonces { secret: crypto::random() })?;
            }
            Ok::<_, KeysError>(())
        })?;
        // Whoever is alone makes another at each start, so proofs from before it do not count.
        let nonces = if is_shared { folder.read::<Nonces>(NONCES)?.secret } else { crypto::random() };
        Ok(Self {
            nonces,
            assertions: Remembered::open(&folder, ASSERTIONS, ASSERTION_ROOM)?,
            keys: Arc::new(Keys::open(folder, rotation, clock.clone())?),
        })
    }
}

const REMEDY: &str = "restore it from a backup, or remove the folder it is in to start with new keys \
                      (every token in use is then refused until it is fetched again)";
const ASSERTIONS: &str = "assertions.json";
const NONCES: &str = "nonces.json";
/// Each is kept for at most five minutes and a little. All of them fit a Secret.
const ASSERTION_ROOM: Room = Room { all: 8192, per_owner: 2048 };
