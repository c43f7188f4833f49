//! The set as it is kept: `revocations.json`, always replaced as a whole, with a digest of what it holds.

use fapi::Revocation;
use serde::{Deserialize, Serialize};

use super::{InForce, RevocationsError};
use crate::crypto;
use crate::files::PRIVATE;
use crate::shelf::Shelf;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    epoch: u64,
    /// Of epoch and entries. May be left out where there are no entries to protect: a person may write that.
    #[serde(default)]
    digest: String,
    entries: Vec<Revocation>,
}

pub(super) const NAME: &str = "revocations.json";

/// Replaces the document and makes the change durable.
pub(super) fn write(shelf: &Shelf, in_force: &InForce) -> Result<(), RevocationsError> {
    let damaged = |error: serde_json::Error| damaged(shelf, error.to_string());
    let (epoch, entries) = (in_force.epoch, in_force.entries.clone());
    let digest = digest(epoch, &entries).map_err(damaged)?;
    let json = serde_json::to_vec(&Document { epoch, digest, entries }).map_err(damaged)?;
    Ok(shelf.replace(NAME, &json, PRIVATE)?)
}

/// Reads the document; `None` when it is not there.
pub(super) fn read(shelf: &Shelf) -> Result<Option<InForce>, RevocationsError> {
    let Some(bytes) = shelf.read_optional(NAME)? else { return Ok(None) };
    let unreadable = |error: serde_json::Error| damaged(shelf, error.to_string());
    let document: Document = serde_json::from_slice(&bytes).map_err(unreadable)?;
    let Document { epoch, digest: recorded, entries } = document;
    let by_hand = entries.is_empty() && recorded.is_empty();
    if !by_hand && recorded != digest(epoch, &entries).map_err(unreadable)? {
        return Err(damaged(shelf, "its digest is not that of its entries".to_owned()));
    }
    Ok(Some(InForce::new(epoch.max(1), entries)))
}

fn digest(epoch: u64, entries: &[Revocation]) -> Result<String, serde_json::Error> {
    Ok(crypto::digest(&serde_json::to_vec(&(epoch, entries))?))
}

fn damaged(shelf: &Shelf, detail: String) -> RevocationsError {
    RevocationsError::Damaged { path: shelf.place(NAME), detail }
}
