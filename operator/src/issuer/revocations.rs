//! Which tokens are revoked, as the issuer asks it and tells it: two questions, and nothing else of the issuer knows how they
//! are answered.

use std::sync::Arc;

use fapi::{IssuedToken, UnixTime};

use crate::state::{Folder, NotRemembered, Remembered, Room, StateError};

/// The revoked tokens, by client and token id, until no verifier takes them any more.
#[derive(Clone, Debug)]
pub(crate) struct Revocations(Arc<Remembered>);

impl Revocations {
    /// Writes an empty list.
    pub(super) fn create(folder: &Folder) -> Result<(), StateError> {
        Remembered::create(folder, NAME)
    }

    /// Reads the list.
    pub(super) fn open(folder: &Folder) -> Result<Self, StateError> {
        Remembered::open(folder, NAME, ROOM).map(Self)
    }

    /// Revokes a token. When it returns, that is on disk.
    pub(super) async fn revoke(&self, token: &IssuedToken, now: UnixTime) -> Result<(), NotRemembered> {
        let until = token.expires().plus(LEEWAY);
        self.0.remember(token.client_id(), token.id(), until, now).await.map(|_| ())
    }

    /// Whether a token was revoked.
    pub(super) fn is_revoked(&self, token: &IssuedToken, now: UnixTime) -> bool {
        self.0.knows(token.client_id(), token.id(), now)
    }
}

const NAME: &str = "revocations.json";
/// A client may revoke all that it was given for an hour; then it has to wait for some to end.
const ROOM: Room = Room { all: 65_536, per_owner: 8192 };
/// Sidecars take a token for five seconds after its end.
const LEEWAY: u64 = 5;
