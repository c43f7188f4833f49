//! The statuses on disk.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::documents::{Documents, Status};
use crate::files::{self, FileError, PUBLIC};
use crate::source::{Kind, ObjectId, Problem};

/// `STATE/status`.
pub(crate) struct StatusFolder {
    folder: PathBuf,
    /// What stands in each file, as far as we wrote it.
    written: HashMap<PathBuf, String>,
}

/// A file: the object without what it says.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document<S> {
    api_version: String,
    kind: String,
    metadata: Metadata,
    status: S,
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
}

impl StatusFolder {
    /// The folder `status` of `state`.
    pub(crate) fn new(state: &Path) -> Self {
        Self { folder: state.join("status"), written: HashMap::new() }
    }

    /// What an earlier process wrote. What cannot be read is written anew.
    pub(super) fn load(&self) -> Documents {
        let mut documents = Documents::new();
        for kind in KINDS {
            for path in self.files(kind) {
                documents.extend(read(kind, &path));
            }
        }
        documents
    }

    /// Writes what has changed, and removes the status of what is gone.
    pub(super) fn write(&mut self, documents: &Documents) -> Result<(), FileError> {
        let mut wanted = HashMap::new();
        for (id, status) in documents {
            wanted.insert(self.path(id), document(id, status));
        }
        for kind in KINDS {
            for path in self.files(kind).into_iter().filter(|path| !wanted.contains_key(path)) {
                files::remove_if_there(&path)?;
                self.written.remove(&path);
            }
        }
        for (path, document) in wanted {
            self.replace(path, &document)?;
        }
        Ok(())
    }

    /// Writes the list of problems; it is there also when it is empty.
    pub(super) fn write_problems(&mut self, problems: &[Problem]) -> Result<(), FileError> {
        self.replace(self.folder.join("problems.yaml"), &problems)
    }

    fn replace(&mut self, path: PathBuf, document: &impl Serialize) -> Result<(), FileError> {
        let unwritable = |error: String| FileError::io("write", &path)(io::Error::other(error));
        // By way of JSON, so that the order of fields is that of the types.
        let json = serde_json::to_value(document).map_err(|error| unwritable(error.to_string()))?;
        let text = serde_saphyr::to_string(&json).map_err(|error| unwritable(error.to_string()))?;
        if self.written.get(&path) == Some(&text) && path.exists() {
            return Ok(());
        }
        // The first time, the file of the process before may say the same.
        if !self.written.contains_key(&path) && fs::read_to_string(&path).is_ok_and(|stands| stands == text) {
            self.written.insert(path, text);
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(FileError::io("create", folder))?;
        }
        files::replace(&path, text.as_bytes(), PUBLIC)?;
        self.written.insert(path, text);
        Ok(())
    }

    fn path(&self, id: &ObjectId) -> PathBuf {
        let folder = self.folder.join(id.kind.name());
        let folder = id.namespace.as_ref().map_or(folder.clone(), |namespace| folder.join(namespace));
        folder.join(format!("{}.yaml", id.name))
    }

    fn files(&self, kind: Kind) -> Vec<PathBuf> {
        let folder = self.folder.join(kind.name());
        let folders = if kind.is_namespaced() { entries(&folder) } else { vec![folder] };
        let files = folders.iter().flat_map(|folder| entries(folder));
        files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect()
    }
}

/// What has a status.
const KINDS: [Kind; 5] = [Kind::FapiClient, Kind::FapiIssuer, Kind::FapiMesh, Kind::FapiPolicy, Kind::Revocation];

fn document<'a>(id: &ObjectId, status: &'a Status) -> Document<&'a Status> {
    Document {
        api_version: format!("{}/{}", crds::GROUP, crds::VERSION),
        kind: id.kind.name().to_owned(),
        metadata: Metadata { name: id.name.clone(), namespace: id.namespace.clone() },
        status,
    }
}

fn read(kind: Kind, path: &Path) -> Option<(ObjectId, Status)> {
    let text = fs::read_to_string(path).ok()?;
    match kind {
        Kind::FapiClient => parse(kind, &text).map(|(id, status)| (id, Status::Client(status))),
        Kind::FapiIssuer => parse(kind, &text).map(|(id, status)| (id, Status::Issuer(status))),
        Kind::FapiMesh => parse(kind, &text).map(|(id, status)| (id, Status::Mesh(status))),
        Kind::FapiPolicy => parse(kind, &text).map(|(id, status)| (id, Status::Policy(status))),
        Kind::Revocation => parse(kind, &text).map(|(id, status)| (id, Status::Revocation(status))),
        Kind::Workload => None,
    }
}

fn parse<S: DeserializeOwned>(kind: Kind, text: &str) -> Option<(ObjectId, S)> {
    let Document { metadata, status, .. } = serde_saphyr::from_str::<Document<S>>(text).ok()?;
    Some((ObjectId::new(kind, metadata.namespace.as_deref(), &metadata.name)?, status))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    // A folder that is not there holds nothing.
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
