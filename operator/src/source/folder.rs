//! Reading the folder: every YAML file in it, bounded.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::SourceError;
use super::problem::Finding;

/// More files than any mesh on one machine has; a folder with more is the wrong folder.
const FILES: usize = 4096;
/// Folders within folders.
const DEPTH: usize = 8;
/// A file of 10,000 policies is smaller.
const BYTES: u64 = 8 << 20;

/// One file as it was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Relative to the folder, with `/`.
    pub(super) name: String,
    /// Its text, or why there is none.
    pub(super) text: Result<String, Finding>,
}

/// Reads every `*.yaml` and `*.yml` below `folder`, in the order of their names. Names that begin with a dot are skipped:
/// editors and mounted volumes keep their own things there.
///
/// # Errors
/// The folder itself cannot be listed. What is wrong with one file stands in its place.
pub(super) fn read(folder: &Path) -> Result<Vec<File>, SourceError> {
    let mut paths = Vec::new();
    list(folder, DEPTH, &mut paths).map_err(|source| SourceError::Folder { path: folder.to_owned(), source })?;
    if paths.len() > FILES {
        return Err(SourceError::TooManyFiles { path: folder.to_owned(), most: FILES });
    }
    let mut files: Vec<File> = paths.iter().map(|path| File { name: name(folder, path), text: text(path) }).collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn list(folder: &Path, depth: usize, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden || paths.len() > FILES {
            continue;
        }
        if path.is_dir() {
            if depth > 0 {
                list(&path, depth - 1, paths)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            paths.push(path);
        }
    }
    Ok(())
}

fn name(folder: &Path, path: &Path) -> String {
    path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned()
}

fn text(path: &Path) -> Result<String, Finding> {
    let unreadable = |why: String| Finding::new(1, "", format!("cannot be read: {why}"), "mend it or remove the file");
    let file = fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut bytes = Vec::new();
    // A path may turn out to be a pipe or something endless.
    file.take(BYTES + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > BYTES {
        return Err(unreadable(format!("it is larger than {BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| unreadable(error.to_string()))
}
