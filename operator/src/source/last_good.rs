//! The last good version of every object, kept in the state folder across restarts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fapi::TrustDomain;
use serde::{Deserialize, Serialize};

use super::located::Node;
use super::object::{self, Kind, ObjectId, Parsed, Schemas};
use super::settle::Good;
use crate::files::{self, FileError};

/// `STATE/last-good/<kind>/<namespace>/<name>.yaml`.
#[derive(Debug)]
pub(super) struct LastGood {
    folder: PathBuf,
}

/// The content of one file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kept {
    file: String,
    line: u32,
    generation: i64,
    document: serde_json::Value,
}

impl LastGood {
    pub(super) fn new(state: &Path) -> Self {
        Self { folder: state.join("last-good") }
    }

    /// Everything that was kept. What cannot be read is left out, and logged: the object is then as if it had never been
    /// good, which closes what it targets.
    pub(super) fn load(&self, schemas: &Schemas, trust_domain: &TrustDomain) -> BTreeMap<ObjectId, Good> {
        let mut kept = BTreeMap::new();
        let mut paths = Vec::new();
        for kind in Kind::ALL {
            list(&self.folder.join(kind.name()), usize::from(kind.is_namespaced()), &mut paths);
        }
        for path in paths {
            match read(&path, schemas, trust_domain) {
                Ok((id, good)) => {
                    kept.insert(id, good);
                }
                Err(error) => tracing::warn!(
                    path = %path.display(),
                    error,
                    "a kept object cannot be used; until its file in the source is good, what it targets is closed"
                ),
            }
        }
        kept
    }

    /// Makes the kept versions those of `now`, given that they are those of `before`.
    pub(super) fn update(
        &self,
        before: &BTreeMap<ObjectId, Good>,
        now: &BTreeMap<ObjectId, Good>,
    ) -> Result<(), FileError> {
        for (id, good) in now.iter().filter(|(id, good)| before.get(id) != Some(good)) {
            self.write(id, good)?;
        }
        for id in before.keys().filter(|id| !now.contains_key(id)) {
            files::remove_if_there(&self.path(id))?;
        }
        Ok(())
    }

    fn write(&self, id: &ObjectId, good: &Good) -> Result<(), FileError> {
        let path = self.path(id);
        let kept = Kept {
            file: good.file.clone(),
            line: good.line,
            generation: good.generation,
            document: good.content.clone(),
        };
        let text = serde_saphyr::to_string(&kept)
            .map_err(|error| FileError::io("write", &path)(std::io::Error::other(error.to_string())))?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(FileError::io("create", folder))?;
        }
        files::replace(&path, text.as_bytes(), files::PRIVATE)
    }

    fn path(&self, id: &ObjectId) -> PathBuf {
        let folder = self.folder.join(id.kind.name());
        let folder = id.namespace.as_ref().map_or(folder.clone(), |namespace| folder.join(namespace));
        folder.join(format!("{}.yaml", id.name))
    }
}

fn list(folder: &Path, depth: usize, paths: &mut Vec<PathBuf>) {
    // A folder that is not there holds nothing.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if depth > 0 {
            list(&path, depth - 1, paths);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            paths.push(path);
        }
    }
}

fn read(path: &Path, schemas: &Schemas, trust_domain: &TrustDomain) -> Result<(ObjectId, Good), String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let kept: Kept = serde_saphyr::from_str(&text).map_err(|error| error.without_snippet().to_string())?;
    let node = Node::from_json(&kept.document, kept.line);
    match object::parse_node(schemas, trust_domain, node) {
        Parsed::Good(written) => {
            let good = Good {
                file: kept.file,
                line: kept.line,
                generation: kept.generation,
                created: 0,
                content: kept.document,
                body: written.body,
            };
            Ok((written.id, good))
        }
        Parsed::Bad(bad) => Err(bad.findings.first().map(|found| found.message.clone()).unwrap_or_default()),
    }
}
