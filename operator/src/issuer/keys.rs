//! The keys that sign access tokens: kept on disk, rotated with overlap.
//!
//! Order of every change: to disk, then to everyone who verifies, then in use. A key is published for a whole
//! interval before it signs, and stays published until the last token it signed has ended.

mod delivered;
mod file;
mod ring;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fapi::{SigningError, SigningKey, UnixTime};
use serde::Serialize;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::files::{FileError, TRIES};
use crate::kubernetes::{Changes, Leadership};
use crate::state::{Folder, StateError};

pub(crate) use delivered::{Delivered, Delivery};
use ring::Ring;
pub(crate) use ring::Rotation;

/// The media type of access tokens (RFC 9068 section 2.1).
const ACCESS_TOKEN: &str = "at+jwt";
/// Timers stand still while a machine sleeps, so the clock is asked at least this often.
const CHECK: Duration = Duration::from_secs(30);

/// The issuer's keys.
pub(crate) struct Keys {
    folder: Folder,
    clock: Clock,
    rotation: Rotation,
    /// When this process began: who lost its stream with the last one needs time to come back.
    started: UnixTime,
    /// Held while keys are read, changed and written.
    writing: Mutex<()>,
    ring: Mutex<Ring>,
    published: watch::Sender<Arc<Published>>,
    delivered: Arc<Delivered>,
}

/// The public keys, as everyone gets them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Published {
    /// A JWK Set (RFC 7517 section 5).
    pub(crate) jwks: Vec<u8>,
    /// Changes exactly with `jwks`.
    pub(crate) digest: String,
}

/// Why the keys cannot be used; the message says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    /// They cannot be kept, or what was kept cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The crypto library refused.
    #[error("the issuer's keys: {0}")]
    Signing(#[from] SigningError),
}

impl From<FileError> for KeysError {
    fn from(error: FileError) -> Self {
        Self::State(error.into())
    }
}

impl Keys {
    /// Makes the first keys of a mesh.
    pub(super) fn create(folder: &Folder, now: UnixTime) -> Result<(), KeysError> {
        file::create(folder, now)
    }

    /// Takes the keys that were kept.
    pub(super) fn open(folder: Folder, rotation: Rotation, clock: Clock) -> Result<Self, KeysError> {
        let ring = file::read(&folder)?;
        let now = clock.now();
        let published = watch::Sender::new(Arc::new(Published::of(&ring)));
        let (writing, delivered) = (Mutex::default(), Arc::default());
        Ok(Self { folder, clock, rotation, started: now, writing, ring: Mutex::new(ring), published, delivered })
    }

    /// The public keys, now and after each change.
    pub(crate) fn published(&self) -> watch::Receiver<Arc<Published>> {
        self.published.subscribe()
    }

    /// Who has been sent which keys; a new key waits for all of them.
    pub(crate) fn delivered(&self) -> Arc<Delivered> {
        self.delivered.clone()
    }

    /// How long a copy of the public keys may be used without asking again.
    pub(crate) fn max_age(&self) -> Duration {
        self.rotation.lead()
    }

    /// Signs the claims of an access token that lives at most `lifetime` from now.
    pub(crate) fn sign(&self, claims: &impl Serialize, lifetime: Duration) -> Result<String, KeysError> {
        self.sign_as(ACCESS_TOKEN, claims, lifetime)
    }

    /// Signs the claims of a JWT of this type that is used for at most `lifetime` from now.
    pub(super) fn sign_as(&self, typ: &str, claims: &impl Serialize, lifetime: Duration) -> Result<String, KeysError> {
        Ok(self.signer(lifetime)?.sign_jwt(typ, claims)?)
    }

    /// The key that signs, once it is kept that a token of it lives so long.
    fn signer(&self, lifetime: Duration) -> Result<Arc<SigningKey>, KeysError> {
        let covers = |ring: &Ring| ring.covering(lifetime).is_none().then(|| ring.signer());
        if let Some(key) = covers(&self.ring()) {
            return Ok(key);
        }
        // Kept first: after a crash the key must still be published for as long as its tokens live.
        let _writing = self.writing();
        self.change(|ring| Ok(ring.covering(lifetime)))?;
        Ok(self.ring().signer())
    }

    /// Rotates until `shutdown` says true, or takes over what the leader does. What fails is logged and tried again; the keys
    /// in use go on.
    pub(crate) async fn run(
        self: Arc<Self>,
        leadership: Leadership,
        mut changes: Changes,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let mut led = leadership.holds();
        let pause = (self.rotation.interval() / 10).clamp(Duration::from_millis(100), CHECK);
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = changes.next() => {}
                _ = shutdown.wait_for(|end| *end) => return,
            }
            let (leads, keys) = (leadership.holds(), self.clone());
            // Whoever begins to lead may have missed what the one before did last.
            let step = move || keys.step(leads && led);
            let Ok(outcome) = tokio::task::spawn_blocking(step).await else {
                return tracing::error!("the issuer's keys are no longer rotated; restart the operator");
            };
            led = leads && outcome.is_ok();
            if let Err(error) = outcome {
                tracing::error!(event = "keys", %error, "cannot read or rotate the issuer's keys; those in use go on");
            }
        }
    }

    /// Takes over what is kept, and does what is due where that is for this process to do. It looks there in any case: keys that
    /// somebody has removed are to be told of while a process has them.
    fn step(&self, leads: bool) -> Result<(), KeysError> {
        self.follow()?;
        if leads { self.tick() } else { Ok(()) }
    }

    /// Does what is due: drops keys whose tokens have ended, and lets the next key sign.
    pub(crate) fn tick(&self) -> Result<(), KeysError> {
        let _writing = self.writing();
        let settled = self.clock.now() >= self.started.plus(self.rotation.lead().as_secs());
        let all_have = settled && self.delivered.everyone_has(&self.published.borrow().digest);
        if self.change(|ring| Ok(ring.step(self.clock.now(), &self.rotation, all_have)?))? {
            let ring = self.ring();
            tracing::info!(event = "keys", signer = ring.signer().kid(), published = ring.len(), "issuer keys changed");
        }
        Ok(())
    }

    /// Takes the keys that another operator keeps.
    pub(crate) fn follow(&self) -> Result<(), KeysError> {
        let _writing = self.writing();
        self.put(file::read(&self.folder)?);
        Ok(())
    }

    /// Keeps what `next` makes of the keys, and then uses it. Where another operator was faster, it begins anew with what that
    /// one keeps. False if there is nothing to change. The caller holds the lock for writing.
    fn change(&self, next: impl Fn(&Ring) -> Result<Option<Ring>, KeysError>) -> Result<bool, KeysError> {
        let mut tries = 1..=TRIES;
        loop {
            let ring = self.ring().clone();
            let Some(changed) = next(&ring)? else { return Ok(false) };
            match file::write(&self.folder, &changed) {
                Ok(()) => {
                    self.put(changed);
                    return Ok(true);
                }
                Err(KeysError::State(error)) if error.is_changed() && tries.next().is_some() => {
                    self.put(file::read(&self.folder)?);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Uses what is kept.
    fn put(&self, kept: Ring) {
        let published = Arc::new(Published::of(&kept));
        self.published.send_if_modified(|now| {
            let changed = *now != published;
            if changed {
                *now = published;
            }
            changed
        });
        *self.ring() = kept;
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // A ring is replaced as a whole, so another holder's panic leaves a good one.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Published {
    fn of(ring: &Ring) -> Self {
        let jwks = ring.jwks();
        let digest = crate::crypto::digest(&jwks);
        Self { jwks, digest }
    }
}
