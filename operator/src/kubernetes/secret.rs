//! A Secret that holds documents of the operator.

use std::fmt;

use super::desk::{Desk, Documents};
use crate::crypto;
use crate::files::FileError;

/// The Secrets, each with what whoever reads another must not know.
pub(crate) const AUTHORITY: &str = "fapi-mesh-ca";
pub(crate) const ISSUER: &str = "fapi-mesh-issuer";
pub(crate) const REVOCATIONS: &str = "fapi-mesh-revocations";
pub(crate) const WEBHOOK: &str = "fapi-mesh-webhook";

/// One Secret of the operator's namespace, made once in the life of a mesh.
#[derive(Clone, Debug)]
pub(crate) struct Secret {
    desk: Desk,
    name: &'static str,
    loss: Loss,
}

/// What it means that a Secret which was made is missing or another.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loss {
    /// It is an error and stays one. The Secret is known by a document in it that never changes.
    KnownBy(&'static str),
    /// It is an error and stays one; everything in the Secret changes.
    Missing,
    /// Nothing: it is made anew.
    MadeAnew,
}

/// What is recorded of a Secret in which everything changes.
const MADE: &str = "made";

impl Secret {
    /// What an API server takes.
    pub(crate) const ROOM: usize = 1024 * 1024;

    /// The Secret of this name.
    pub(crate) fn new(desk: Desk, name: &'static str, loss: Loss) -> Self {
        Self { desk, name, loss }
    }

    /// Whether it is there. One that was made, and is missing or another, is what [`Loss`] says.
    pub(crate) fn is_there(&self) -> Result<bool, FileError> {
        if matches!(self.loss, Loss::MadeAnew) {
            return Ok(self.desk.read(self.name, None)?.is_some());
        }
        // The record first: it is written after the Secret, so whoever finds it finds the Secret that another makes meanwhile.
        let recorded = self.desk.recorded(self.name)?;
        let documents = self.desk.read(self.name, None)?;
        match (documents, recorded) {
            (None, None) => Ok(false),
            (Some(documents), Some(recorded)) if recorded == self.record_of(&documents) => Ok(true),
            // It was made by a process that came no further, or by another one just now.
            (Some(documents), None) => {
                self.desk.record(self.name, Some(&self.record_of(&documents)))?;
                Ok(true)
            }
            (_, Some(_)) => Err(FileError::Lost {
                object: self.to_string(),
                record: self.desk.place("ConfigMap", crate::names::STATE),
            }),
        }
    }

    /// Makes it, unless somebody was faster, and records that.
    pub(crate) fn create(&self, documents: Documents) -> Result<(), FileError> {
        self.desk.create(self.name, documents)?;
        self.is_there().map(drop)
    }

    /// One document.
    pub(crate) fn read(&self, document: &str) -> Result<Option<Vec<u8>>, FileError> {
        Ok(self.desk.read(self.name, Some(document))?.and_then(|mut documents| documents.remove(document)))
    }

    /// Replaces one document, if the Secret is what it was when it was read.
    pub(crate) fn replace(&self, document: &str, bytes: &[u8]) -> Result<(), FileError> {
        self.desk.replace(self.name, document, Some(bytes))
    }

    /// Removes one document, if the Secret is what it was when it was read.
    pub(crate) fn remove(&self, document: &str) -> Result<(), FileError> {
        self.desk.replace(self.name, document, None)
    }

    fn record_of(&self, documents: &Documents) -> String {
        let mark = match self.loss {
            Loss::KnownBy(mark) => documents.get(mark),
            Loss::Missing | Loss::MadeAnew => None,
        };
        mark.map_or_else(|| MADE.to_owned(), |mark| crypto::sha256_hex(mark))
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.desk.place("Secret", self.name))
    }
}
