//! What was revoked, durable before anyone is told, and read by every server of this process.
//!
//! An entry leaves at its own end and in no other way: neither a restart nor the removal of its document takes it back.

mod file;
pub(crate) mod given_up;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fapi::{IssuedToken, Peer, Revocation, UnixTime};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use self::given_up::{Change, GivenUp, Ledger};
use crate::clock::Clock;
use crate::crypto;
use crate::files::{FileError, TRIES};
use crate::kubernetes::Changes;
use crate::model::Pod;
use crate::shelf::Shelf;
use crate::source::Desired;
use crate::view::View;

/// The set travels in one message of the control stream, of which a sidecar takes 4 MiB: some 25,000 entries.
const MAX_BYTES: usize = 3 * 1024 * 1024;
/// What is kept beside the entries.
const FRAME: usize = 4096;
/// A disk that is full is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// A watch may die without a word: what others revoke is looked for at least this often.
const LOOK: Duration = Duration::from_secs(30);

/// Why something could not be revoked, or what was revoked cannot be read; the message says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RevocationsError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A state that has published before has had the file.
    #[error(
        "{} is missing: without it, what was revoked would count again; restore it from a backup, or, if nothing needs \
         to stay revoked, write {{\"epoch\":0,\"entries\":[]}} into it",
        .0.display()
    )]
    Missing(PathBuf),
    /// The file holds something else than was written.
    #[error(
        "{} is damaged ({detail}): restore it from a backup, or, if there is none, write {{\"epoch\":0,\"entries\":[]}} \
         into it and revoke again what must stay revoked",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The set has a bound.
    #[error(
        "there is no room for more revocations; they leave at their ends, so revoke the client or its identity instead \
         of single tokens, or give shorter ends"
    )]
    Full,
    /// A client has used its share, and what it gives up is too new to be taken together.
    #[error("the client has given up too many tokens at once; try again in a second")]
    TooMany,
}

/// The revocations of this mesh.
pub(crate) struct Revocations {
    shelf: Shelf,
    clock: Clock,
    /// Held while the file is written, so that files and epochs have one order.
    writing: Mutex<Ledger>,
    in_force: watch::Sender<Arc<InForce>>,
    /// How often it is looked for what others revoke.
    look: Duration,
}

/// The set as everyone reads it.
#[derive(Debug)]
pub(crate) struct InForce {
    /// Grows with every change, also across restarts and a lost file.
    pub(crate) epoch: u64,
    /// Of the document.
    pub(crate) digest: String,
    /// A list of [`Revocation`], JSON; all streams share it.
    pub(crate) document: Bytes,
    /// The same, for questions.
    pub(crate) set: fapi::Revocations,
    entries: Vec<Revocation>,
}

/// What is left to a caller that is shut out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShutOut {
    /// Its certificate was revoked; another one would be taken.
    Certificate,
    /// Its pod or identity was revoked; no certificate helps.
    Workload,
}

impl Revocations {
    /// Opens `revocations.json` on a shelf. A first start, and a shelf of its own that was never there, make it.
    ///
    /// # Errors
    /// It is missing later, or not what was written.
    pub(crate) fn open(shelf: Shelf, first_start: bool, clock: Clock) -> Result<Self, RevocationsError> {
        // Never 0, which is what a sidecar has that knows of none.
        let first = || InForce::new(clock.now().as_secs().max(1), Vec::new());
        if !shelf.is_there()? {
            shelf.appear(|draft| file::write(draft, &first()))?;
        }
        let in_force = match file::read(&shelf)? {
            Some(kept) => kept,
            None if first_start => {
                let first = first();
                file::write(&shelf, &first)?;
                first
            }
            None => return Err(RevocationsError::Missing(shelf.place(file::NAME))),
        };
        let in_force = watch::Sender::new(Arc::new(in_force));
        Ok(Self { shelf, clock, writing: Mutex::default(), in_force, look: LOOK })
    }

    /// What is revoked now.
    pub(crate) fn in_force(&self) -> Arc<InForce> {
        self.in_force.borrow().clone()
    }

    /// Tells of every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<InForce>> {
        self.in_force.subscribe()
    }

    /// Revokes. When it returns, the entries are on disk and in force in this process, and on their way to the sidecars.
    /// It waits for the disk: call it where a thread may wait. Entries that are there already, or over, change nothing.
    ///
    /// # Errors
    /// They cannot be made durable, or there is no room; then none of them is in force.
    pub(crate) fn revoke(&self, entries: impl IntoIterator<Item = Revocation>) -> Result<(), RevocationsError> {
        let change = Change { add: entries.into_iter().collect(), instead: Vec::new(), by_client: false };
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.make(&change)
    }

    /// Revokes a token for its client, as [`Revocations::revoke`] does. One that has used its share loses, with this token, all
    /// that it was issued before this second.
    ///
    /// # Errors
    /// As there; or the token is too new for that, and the client asks again in a second. The token is in force then.
    pub(crate) fn give_up(&self, token: GivenUp) -> Result<(), RevocationsError> {
        let mut ledger = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let change = ledger.plan(&token, self.clock.now())?;
        self.make(&change)?;
        ledger.done(token, change);
        Ok(())
    }

    /// Whether a token that its client gives up counts for nothing already, up to its end.
    pub(crate) fn has_given_up(&self, token: &GivenUp, issued: &IssuedToken) -> bool {
        self.in_force().set.hit_token(issued, token.last())
    }

    /// Makes a change durable, on top of what others have written meanwhile.
    fn make(&self, change: &Change) -> Result<(), RevocationsError> {
        let mut outcome = self.add(change);
        for _ in 1..TRIES {
            match &outcome {
                Err(RevocationsError::File(error)) if error.is_changed() => {
                    self.take_over()?;
                    outcome = self.add(change);
                }
                _ => break,
            }
        }
        outcome
    }

    /// Puts in force what another operator has revoked. It waits for the shelf.
    pub(crate) fn refresh(&self) -> Result<(), RevocationsError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.take_over()
    }

    fn take_over(&self) -> Result<(), RevocationsError> {
        let kept = file::read(&self.shelf)?.ok_or_else(|| RevocationsError::Missing(self.shelf.place(file::NAME)))?;
        self.in_force.send_if_modified(|in_force| {
            let newer = kept.epoch > in_force.epoch;
            if newer {
                tracing::info!(event = "revocation", outcome = "taken_over", epoch = kept.epoch);
                *in_force = Arc::new(kept);
            }
            newer
        });
        Ok(())
    }

    fn add(&self, change: &Change) -> Result<(), RevocationsError> {
        let (before, now) = (self.in_force(), self.clock.now());
        let stays = |entry: &&Revocation| now < entry.expires() && !change.instead.contains(entry);
        let mut all: Vec<Revocation> = before.entries.iter().filter(stays).cloned().collect();
        let known = all.len();
        for entry in &change.add {
            if now < entry.expires() && !all.contains(entry) {
                all.push(entry.clone());
            }
        }
        let Some(added) = all.get(known..).filter(|added| !added.is_empty()) else { return Ok(()) };
        let added = added.to_vec();
        // The epoch follows the clock, so that one which a lost file has taken away does not come again.
        let next = InForce::new(now.as_secs().max(before.epoch + 1), all);
        let most = MAX_BYTES.min(self.shelf.room() - FRAME);
        // The last quarter is for people.
        if next.document.len() > if change.by_client { most / 4 * 3 } else { most } {
            return Err(RevocationsError::Full);
        }
        file::write(&self.shelf, &next)?;
        for entry in &added {
            let (entry, epoch) = (serde_json::to_string(entry).unwrap_or_default(), next.epoch);
            tracing::info!(event = "revocation", outcome = "in_force", epoch, entry);
        }
        self.in_force.send_replace(Arc::new(next));
        Ok(())
    }

    /// Revokes whatever the source says, and takes over what other operators revoke, until `shutdown` says true.
    pub(crate) async fn follow(
        self: Arc<Self>,
        mut desired: watch::Receiver<Arc<Desired>>,
        mut changes: Changes,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let mut by_others = false;
        let (is_shared, mut look) = (self.shelf.is_shared(), Instant::now() + self.look);
        loop {
            if by_others {
                look = Instant::now() + self.look;
            }
            let (revocations, wanted) = (self.clone(), desired.borrow_and_update().clone());
            let step = tokio::task::spawn_blocking(move || {
                if by_others {
                    revocations.refresh()?;
                }
                revocations.revoke(wanted.to_revoke())
            });
            let step = step.await;
            let failed = match step {
                Ok(Ok(())) => {
                    by_others = false;
                    false
                }
                Ok(Err(error)) => {
                    tracing::error!(%error, "a revocation cannot be put in force; it is tried again");
                    true
                }
                Err(error) => {
                    tracing::error!(%error, "a revocation was not put in force; it is tried again");
                    true
                }
            };
            tokio::select! {
                () = sleep(RETRY), if failed => {}
                changed = desired.changed() => if changed.is_err() { return },
                () = changes.next() => by_others = true,
                () = sleep_until(look), if is_shared => by_others = true,
                _ = shutdown.wait_for(|end| *end) => return,
            }
        }
    }
}

impl InForce {
    pub(crate) fn new(epoch: u64, entries: Vec<Revocation>) -> Self {
        // A list of plain values can always be written.
        let document = Bytes::from(serde_json::to_vec(&entries).unwrap_or_default());
        let (digest, set) = (crypto::digest(&document), entries.iter().cloned().collect());
        Self { epoch, digest, document, set, entries }
    }

    /// Whether exactly this was entered.
    pub(crate) fn has(&self, revocation: &Revocation) -> bool {
        self.entries.contains(revocation)
    }

    /// Whether a pod is revoked by itself or by its identity at `now`, with what was issued at `issued`.
    pub(crate) fn revokes(&self, view: &View, pod: &Pod, issued: UnixTime, now: UnixTime) -> bool {
        // Making the identity of every pod is dearer than the question.
        !self.set.is_empty()
            && view.index().identity(pod).is_some_and(|id| self.set.hit_workload(&id, Some(&pod.uid), issued, now))
    }

    /// Whether the holder of a certificate is shut out now, and what is left to it.
    pub(crate) fn shuts_out(&self, peer: &Peer, now: UnixTime) -> Option<ShutOut> {
        if self.set.hit_workload(&peer.spiffe_id, peer.pod_uid.as_deref(), now, now) {
            Some(ShutOut::Workload)
        } else {
            self.set.hit_peer(peer, now).then_some(ShutOut::Certificate)
        }
    }
}
