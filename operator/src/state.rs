//! What must survive a restart: shelves of documents.
//!
//! A shelf appears with all its documents at the first start, or not at all. Each document is replaced in one step and carries
//! a digest of itself, so one that is lost, torn or changed later is named and refused, and never replaced silently.

mod remembered;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use self::remembered::{NotRemembered, Remembered, Room};
use crate::crypto;
use crate::files::{FileError, PRIVATE};
use crate::shelf::Shelf;

/// The member of a document that holds the digest of the others.
const DIGEST: &str = "sha256";

/// A shelf of documents, readable by the operator alone.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    shelf: Shelf,
    /// What to do when something of it is lost.
    remedy: &'static str,
}

/// Why a document cannot be used; the message says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// The file cannot be read or written, or is open to others.
    #[error(transparent)]
    File(#[from] FileError),
    /// This state had the document, and it is gone.
    #[error("{} is missing: {remedy}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What to do.
        remedy: &'static str,
    },
    /// The file is not what was written.
    #[error("{} cannot be used: {detail}; {remedy}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
        /// What to do.
        remedy: &'static str,
    },
}

impl StateError {
    /// True when another operator has written since it was read: read it again.
    pub(crate) fn is_changed(&self) -> bool {
        matches!(self, Self::File(error) if error.is_changed())
    }
}

impl Folder {
    /// Opens a shelf. If it is not there, `fill` writes all its documents, and it appears with them in one step.
    pub(crate) fn open<E: From<FileError>>(
        shelf: Shelf,
        remedy: &'static str,
        fill: impl FnOnce(&Self) -> Result<(), E>,
    ) -> Result<Self, E> {
        if !shelf.is_there()? {
            shelf.appear(|draft| fill(&Self { shelf: draft.clone(), remedy }))?;
        }
        Ok(Self { shelf, remedy })
    }

    /// The documents of a shelf that is there.
    pub(crate) fn of(shelf: Shelf, remedy: &'static str) -> Self {
        Self { shelf, remedy }
    }

    /// Reads a document that was there when the folder appeared.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<T, StateError> {
        let path = self.path(name);
        let bytes = match self.shelf.read_private(name) {
            Err(error) if error.is_missing() => return Err(StateError::Missing { path, remedy: self.remedy }),
            other => other?,
        };
        // A parser's message may quote what it read, and that may be a private key: only the place is told.
        let mut document: Value = serde_json::from_slice(&bytes)
            .map_err(|error| self.damaged(name, format!("line {} is not what was written", error.line())))?;
        let recorded = document.as_object_mut().and_then(|members| members.remove(DIGEST));
        if recorded.as_ref().and_then(Value::as_str) != Some(&digest(&document)) {
            return Err(self.damaged(name, "it was changed, or only a part of it is left".to_owned()));
        }
        serde_json::from_value(document).map_err(|_| self.damaged(name, "another version wrote it".to_owned()))
    }

    /// Replaces a document in one step and makes it durable. `content` serialises to an object.
    pub(crate) fn write(&self, name: &str, content: &impl Serialize) -> Result<(), StateError> {
        let unwritable = |error: serde_json::Error| self.damaged(name, error.to_string());
        let mut document = serde_json::to_value(content).map_err(unwritable)?;
        let digest = digest(&document);
        if let Some(members) = document.as_object_mut() {
            members.insert(DIGEST.to_owned(), digest.into());
        }
        let json = serde_json::to_vec_pretty(&document).map_err(unwritable)?;
        Ok(self.shelf.replace(name, &json, PRIVATE)?)
    }

    /// The error for a document whose content cannot be.
    pub(crate) fn damaged(&self, name: &str, detail: String) -> StateError {
        StateError::Damaged { path: self.path(name), detail, remedy: self.remedy }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.shelf.place(name)
    }
}

/// Of the document without its digest; members are ordered by name, so one document has one text.
fn digest(document: &Value) -> String {
    crypto::digest(document.to_string().as_bytes())
}
