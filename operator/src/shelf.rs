//! Where documents are kept: a folder of files, or a Secret of a cluster.
//!
//! A shelf appears with all its documents, or not at all; later each document is replaced in one step. What it holds is for
//! the operator alone.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::files::{self, FileError};
use crate::kubernetes::Secret;

/// A place of documents by name.
#[derive(Clone, Debug)]
pub(crate) enum Shelf {
    /// A folder of its own.
    Folder(PathBuf),
    /// A Secret of its own.
    Secret(Secret),
    /// One that has not appeared yet.
    Draft(Draft),
}

/// What will be in a Secret.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draft(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Shelf {
    /// Whether it is there.
    ///
    /// # Errors
    /// It cannot be read, or it was there and is lost.
    pub(crate) fn is_there(&self) -> Result<bool, FileError> {
        match self {
            Self::Folder(path) if path.exists() => files::refuse_open(path).map(|()| true),
            Self::Folder(_) => Ok(false),
            Self::Secret(secret) => secret.is_there(),
            Self::Draft(_) => Ok(false),
        }
    }

    /// Makes it, with all that `fill` writes, in one step. Where somebody was faster, what he made stays.
    pub(crate) fn appear<E: From<FileError>>(&self, fill: impl FnOnce(&Self) -> Result<(), E>) -> Result<(), E> {
        match self {
            Self::Folder(path) => files::appear(path, |beside| fill(&Self::Folder(beside.to_owned()))),
            Self::Secret(secret) => {
                let draft = Draft::default();
                fill(&Self::Draft(draft.clone()))?;
                let documents = std::mem::take(&mut *draft.documents());
                Ok(secret.create(documents)?)
            }
            Self::Draft(_) => fill(self),
        }
    }

    /// Reads a document that only the operator may know.
    pub(crate) fn read_private(&self, name: &str) -> Result<Vec<u8>, FileError> {
        match self {
            Self::Folder(path) => files::read_private(&path.join(name)),
            _ => self.read_optional(name)?.ok_or_else(|| {
                let path = self.place(name);
                FileError::io("read", &path)(io::ErrorKind::NotFound.into())
            }),
        }
    }

    /// Reads a document that is no secret; `None` when it is not there.
    pub(crate) fn read_optional(&self, name: &str) -> Result<Option<Vec<u8>>, FileError> {
        match self {
            Self::Folder(path) => files::read_optional(&path.join(name)),
            Self::Secret(secret) => secret.read(name),
            Self::Draft(draft) => Ok(draft.documents().get(name).cloned()),
        }
    }

    /// Replaces a document in one step and makes it durable. The mode is for files.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), FileError> {
        match self {
            Self::Folder(path) => files::replace(&path.join(name), bytes, mode),
            Self::Secret(secret) => secret.replace(name, bytes),
            Self::Draft(draft) => {
                draft.documents().insert(name.to_owned(), bytes.to_vec());
                Ok(())
            }
        }
    }

    /// Removes a document; one that is gone already is fine.
    pub(crate) fn remove(&self, name: &str) -> Result<(), FileError> {
        match self {
            Self::Folder(path) => files::remove_if_there(&path.join(name)),
            Self::Secret(secret) => secret.remove(name),
            Self::Draft(draft) => {
                draft.documents().remove(name);
                Ok(())
            }
        }
    }

    /// Whether other operators keep their documents there, too.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Self::Secret(_))
    }

    /// How many bytes all its documents may have.
    pub(crate) fn room(&self) -> usize {
        match self {
            Self::Folder(_) | Self::Draft(_) => usize::MAX,
            Self::Secret(_) => Secret::ROOM,
        }
    }

    /// Where a document is, for messages.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        match self {
            Self::Folder(path) => path.join(name),
            Self::Secret(secret) => Path::new(&secret.to_string()).join(name),
            Self::Draft(_) => PathBuf::from(name),
        }
    }
}

impl Draft {
    fn documents(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
