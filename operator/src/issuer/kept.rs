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
/// Each is kept for at most five minutes and a little. All of them fit a Secret. Whoever makes service accounts makes them in a
/// namespace of its own, so no number of them takes more than an eighth from the others.
const ASSERTION_ROOM: Room = Room { all: 8192, per_group: 1024, per_owner: 512, group: namespace };

/// The SPIFFE ID of a client up to the name of its service account, which is all that others of its namespace do not share.
fn namespace(client: &str) -> &str {
    let end = client.rfind('/').map_or(client.len(), |slash| slash + 1);
    client.get(..end).unwrap_or(client)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::NotRemembered;
    use crate::testing::{NOW, TempDir, id};

    /// How many of so many assertions of a client are taken.
    async fn taken(kept: &Kept, client: &str, tries: usize) -> usize {
        let mut asking = tokio::task::JoinSet::new();
        for number in 0..tries {
            let (assertions, client) = (kept.assertions.clone(), client.to_owned());
            asking.spawn(async move { assertions.remember(&client, &number.to_string(), NOW.plus(300), NOW).await });
        }
        let outcomes = asking.join_all().await;
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(true) | Err(NotRemembered::Full))), "{outcomes:?}");
        outcomes.iter().filter(|outcome| outcome.is_ok()).count()
    }

    #[tokio::test]
    async fn no_number_of_clients_of_a_namespace_takes_the_room_of_another() {
        let dir = TempDir::new();
        let shelf = Shelf::Folder(dir.path().join("issuer"));
        let kept = Kept::open(shelf, Rotation::every(Rotation::DEFAULT), &Clock::manual(NOW)).unwrap();
        for (account, good) in [("a", 512), ("b", 512), ("c", 0), ("d", 0)] {
            assert_eq!(taken(&kept, id(account).as_str(), 600).await, good, "{account}");
        }
        let other = id("shop").as_str().replace("/ns/bank/", "/ns/bank2/");
        assert_eq!(taken(&kept, &other, 10).await, 10);
    }
}
