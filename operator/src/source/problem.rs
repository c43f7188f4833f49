//! What is wrong with a file, told so that it can be mended.

use serde::Serialize;

/// One thing that is wrong. Ordered by place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Problem {
    /// The file, relative to the folder; or the object, in a cluster.
    pub(crate) file: String,
    /// The line, from 1; 0 where there are none.
    pub(crate) line: u32,
    /// The field, as a path: `spec.rules[0].methods[0]`; empty for the whole document.
    pub(crate) field: String,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do.
    pub(crate) remedy: String,
}

/// A problem before it is known in which file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The line within the file.
    pub(super) line: u32,
    pub(super) field: String,
    pub(super) message: String,
    pub(super) remedy: String,
}

impl Finding {
    pub(super) fn new(line: u32, field: &str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { line, field: field.to_owned(), message: message.into(), remedy: remedy.into() }
    }

    pub(super) fn in_file(self, file: &str) -> Problem {
        let Self { line, field, message, remedy } = self;
        Problem { file: file.to_owned(), line, field, message, remedy }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "{}: ", self.file)?,
            line => write!(f, "{}:{line}: ", self.file)?,
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}; {}", self.message, self.remedy)
    }
}
