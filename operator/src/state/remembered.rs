//! Ids that are remembered until a time, on disk before anyone is told: used assertions, revoked tokens.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fapi::UnixTime;
use serde::{Deserialize, Serialize};

use super::{Folder, StateError};
use crate::crypto;
use crate::files::{FileError, TRIES};

/// The ids of one document, by owner.
///
/// Full means refuse: nothing is forgotten before its time to make room. Many callers at once share one write. Where other
/// operators remember ids in the same document, an id is new for one of them.
#[derive(Debug)]
pub(crate) struct Remembered {
    folder: Folder,
    name: &'static str,
    room: Room,
    entries: Mutex<Entries>,
    /// The number of the last change that is on disk. Held while writing.
    written: Arc<tokio::sync::Mutex<u64>>,
}

/// How many ids are remembered at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) all: usize,
    pub(crate) per_group: usize,
    pub(crate) per_owner: usize,
    /// The beginning of an owner's name that is the same for all of its group.
    pub(crate) group: fn(&str) -> &str,
}

/// Why an id was not remembered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRemembered {
    /// There is no room, or none for this owner or its group.
    #[error("there is no room for another id; some are forgotten with time")]
    Full,
    /// It is not on disk, so nothing may depend on it.
    #[error(transparent)]
    State(#[from] StateError),
}

#[derive(Debug, Default)]
struct Entries {
    /// Owner, hash of the id, and the second from which it is forgotten.
    ids: Ids,
    held: usize,
    /// Those that are not on disk yet.
    unkept: BTreeSet<(String, String)>,
    /// Of these, those that another operator has kept meanwhile.
    elsewhere: BTreeSet<(String, String)>,
    /// Up to when everything that has ended was forgotten.
    swept: UnixTime,
    /// Counts what was ever remembered.
    changes: u64,
}

type Ids = BTreeMap<String, BTreeMap<String, u64>>;

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    ids: Ids,
}

impl Remembered {
    /// Writes an empty document.
    pub(crate) fn create(folder: &Folder, name: &'static str) -> Result<(), StateError> {
        folder.write(name, &Document::default())
    }

    /// Reads what was remembered.
    pub(crate) fn open(folder: &Folder, name: &'static str, room: Room) -> Result<Arc<Self>, StateError> {
        let Document { ids } = folder.read(name)?;
        let held = ids.values().map(BTreeMap::len).sum();
        let entries = Mutex::new(Entries { ids, held, ..Entries::default() });
        Ok(Arc::new(Self { folder: folder.clone(), name, room, entries, written: Arc::default() }))
    }

    /// Remembers an id of `owner` before `until`, and says whether it is new. When it returns, the id is on disk.
    pub(crate) async fn remember(
        self: &Arc<Self>,
        owner: &str,
        id: &str,
        until: UnixTime,
        now: UnixTime,
    ) -> Result<bool, NotRemembered> {
        let (new, change) = self.entries().take(owner, id, until, now, self.room).ok_or(NotRemembered::Full)?;
        let mut written = self.written.clone().lock_owned().await;
        // Somebody who came later has written this change along with his own.
        if *written >= change {
            return Ok(new && !self.entries().is_elsewhere(owner, id));
        }
        // A thread that may block goes on when the caller hangs up, and holds the lock until it is done.
        let this = self.clone();
        let writing = tokio::task::spawn_blocking(move || {
            *written = this.write()?;
            Ok::<_, StateError>(())
        });
        writing.await.unwrap_or_else(|error| {
            let path = self.folder.path(self.name);
            Err(FileError::io("write", &path)(std::io::Error::other(error)).into())
        })?;
        Ok(new && !self.entries().is_elsewhere(owner, id))
    }

    /// Whether an id of `owner` is remembered.
    #[cfg(test)]
    pub(crate) fn knows(&self, owner: &str, id: &str, now: UnixTime) -> bool {
        self.entries().until(owner, &hash(id)).is_some_and(|until| now < until)
    }

    /// Writes everything, and says up to which change that is.
    fn write(&self) -> Result<u64, StateError> {
        let mut tries = 1..=TRIES;
        loop {
            let (latest, document, unkept) = {
                let entries = self.entries();
                (entries.changes, Document { ids: entries.ids.clone() }, entries.unkept.clone())
            };
            match self.folder.write(self.name, &document) {
                Ok(()) => {
                    self.entries().unkept.retain(|id| !unkept.contains(id));
                    return Ok(latest);
                }
                Err(error) if error.is_changed() && tries.next().is_some() => {
                    let Document { ids } = self.folder.read(self.name)?;
                    self.entries().merge(ids);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // Changed in one step, after all checks, so another holder's panic leaves them good.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// Whether the id is new, and the change that must be on disk; `None` if there is no room.
    fn take(&mut self, owner: &str, id: &str, until: UnixTime, now: UnixTime, room: Room) -> Option<(bool, u64)> {
        self.forget(now);
        let id = hash(id);
        if self.until(owner, &id).is_some() {
            return Some((false, self.changes));
        }
        let of_owner = self.ids.get(owner).map_or(0, BTreeMap::len);
        if self.held >= room.all || of_owner >= room.per_owner || self.of_group((room.group)(owner)) >= room.per_group {
            return None;
        }
        self.unkept.insert((owner.to_owned(), id.clone()));
        self.ids.entry(owner.to_owned()).or_default().insert(id, until.as_secs());
        self.held += 1;
        self.changes += 1;
        Some((true, self.changes))
    }

    fn of_group(&self, group: &str) -> usize {
        let from = self.ids.range::<str, _>((Bound::Included(group), Bound::Unbounded));
        from.take_while(|(owner, _)| owner.starts_with(group)).map(|(_, ids)| ids.len()).sum()
    }

    /// Takes in what another operator has kept.
    fn merge(&mut self, kept: Ids) {
        for (owner, ids) in kept {
            for (id, until) in ids {
                let key = (owner.clone(), id);
                if self.unkept.remove(&key) {
                    self.elsewhere.insert(key);
                } else if self.ids.entry(key.0).or_default().insert(key.1, until).is_none() {
                    self.held += 1;
                }
            }
        }
    }

    /// Whether another operator was the first with this id, which was new here.
    fn is_elsewhere(&self, owner: &str, id: &str) -> bool {
        !self.elsewhere.is_empty() && self.elsewhere.contains(&(owner.to_owned(), hash(id)))
    }

    fn until(&self, owner: &str, id: &str) -> Option<UnixTime> {
        self.ids.get(owner)?.get(id).map(|until| UnixTime::from_secs(*until))
    }

    fn forget(&mut self, now: UnixTime) {
        if now <= self.swept {
            return;
        }
        self.ids.retain(|_, ids| {
            ids.retain(|_, until| now.as_secs() < *until);
            !ids.is_empty()
        });
        self.held = self.ids.values().map(BTreeMap::len).sum();
        let ids = &self.ids;
        self.elsewhere.retain(|(owner, id)| ids.get(owner).is_some_and(|ids| ids.contains_key(id)));
        self.swept = now;
    }
}

/// Ids are chosen by strangers: all are kept in one length.
fn hash(id: &str) -> String {
    crypto::digest(id.as_bytes())
}
