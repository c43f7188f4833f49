//! A Secret that holds documents of the operator.

use std::fmt;

use super::desk::{Desk, Documents};
use crate::crypto;
use crate::files::FileError;

/// One Secret of the operator's namespace, made once in the life of a mesh.
#[derive(Clone, Debug)]
pub(crate) struct Secret {
    desk: Desk,
    name: &'static str,
    /// The document that never changes, if there is one: the Secret is known by it.
    mark: Option<&'static str>,
}

/// What is recorded of a Secret in which everything changes.
const MADE: &str = "made";

impl Secret {
    /// The Secret of this name.
    pub(crate) fn new(desk: Desk, name: &'static str, mark: Option<&'static str>) -> Self {
        Self { desk, name, mark }
    }

    /// Whether it is there. One that was made, and is missing or another, is an error and stays one.
    pub(crate) fn is_there(&self) -> Result<bool, FileError> {
        let (documents, recorded) = (self.desk.read(self.name)?, self.desk.recorded(self.name)?);
        match (documents, recorded) {
            (None, None) => Ok(false),
            (Some(documents), Some(recorded)) if recorded == self.record_of(&documents) => Ok(true),
            // It was made by a process that came no further, or by another one just now.
            (Some(documents), None) => {
                self.desk.record(self.name, &self.record_of(&documents))?;
                Ok(true)
            }
            (_, Some(_)) => Err(FileError::Lost {
                object: self.to_string(),
                record: self.desk.place("ConfigMap", super::desk::RECORD),
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
        Ok(self.desk.read(self.name)?.and_then(|mut documents| documents.remove(document)))
    }

    /// Replaces one document, if the Secret is what it was when it was read.
    pub(crate) fn replace(&self, document: &str, bytes: &[u8]) -> Result<(), FileError> {
        self.desk.replace(self.name, document, bytes)
    }

    fn record_of(&self, documents: &Documents) -> String {
        let mark = self.mark.and_then(|mark| documents.get(mark));
        mark.map_or_else(|| MADE.to_owned(), |mark| crypto::sha256_hex(mark))
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.desk.place("Secret", self.name))
    }
}
