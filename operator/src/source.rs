//! Where the desired state comes from: a folder of YAML, or a Kubernetes cluster, watched.
//!
//! A source gives the neutral model and never less than it gave before because of a mistake: what is wrong is reported with
//! its place, and the last good version of that object stays in force.

pub(crate) mod documents;
mod expand;
mod folder;
mod kubernetes;
mod last_good;
mod located;
mod object;
mod problem;
mod schema;
mod settle;
#[cfg(test)]
mod tests;
mod watch;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fapi::{Revocation, TrustDomain};
use tokio::sync::watch as channel;

use self::folder::File;
pub(crate) use self::kubernetes::{Cluster, Watched, pod_of, pods};
use self::last_good::LastGood;
use self::located::Node;
use self::object::Parsed;
pub(crate) use self::object::{Kind, ObjectId, Schemas};
pub(crate) use self::problem::Problem;
use self::settle::{Good, ReadFile, Settled};
use crate::behind::Behind;
use crate::model::{Left, Model};

/// What a source wants to be so.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Desired {
    /// What is in force.
    pub(crate) model: Model,
    /// Addresses that pods of the mesh had until a moment ago.
    pub(crate) left: Left,
    /// What is to be revoked, now and for good, by the object that says so.
    pub(crate) revocations: BTreeMap<ObjectId, Revoking>,
    /// What is wrong, by place.
    pub(crate) problems: Vec<Problem>,
    /// The objects of a cluster that are not in force as they stand.
    pub(crate) faults: BTreeMap<ObjectId, Fault>,
    /// Up to which resource version each kind of objects is known, as `control::Order` has it. Empty for a folder.
    pub(crate) versions: Vec<u64>,
    /// The namespaces in which pods of the mesh may start.
    pub(crate) opted_in: BTreeSet<Arc<str>>,
    /// The roots of the mesh that a namespace has, right or wrong.
    pub(crate) bundles: BTreeMap<Arc<str>, Bundle>,
    /// What objects say became of them, where the source has a place for that.
    pub(crate) statuses: BTreeMap<ObjectId, Arc<serde_json::Value>>,
}

/// The roots of the mesh as a namespace has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bundle {
    /// PEM, if it is right.
    pub(crate) roots: Arc<str>,
    /// Nobody can change it, only make it anew.
    pub(crate) immutable: bool,
}

/// Why an object of a cluster is not in force as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The uid of the object.
    pub(crate) uid: String,
    /// The first thing that is wrong with it, and what to do.
    pub(crate) text: Arc<str>,
}

/// A Revocation object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Revoking {
    pub(crate) generation: i64,
    /// What it revokes; `None` if no version of it was ever good.
    pub(crate) spec: Option<Revocation>,
    /// What is wrong with its newest version.
    pub(crate) fault: Option<String>,
}

impl Desired {
    /// Namespaces where sidecars that start find other roots than these, or none.
    pub(crate) fn outdated(&self, pem: &str) -> impl Iterator<Item = &Arc<str>> {
        self.opted_in.iter().filter(move |&name| self.bundles.get(name).is_none_or(|bundle| &*bundle.roots != pem))
    }

    /// Everything that is to be revoked.
    pub(crate) fn to_revoke(&self) -> Vec<Revocation> {
        self.revocations.values().filter_map(|object| object.spec.clone()).collect()
    }

    /// Whether there is such an object, good or bad. Workloads are not looked for: they are no objects of a cluster.
    pub(crate) fn has(&self, id: &ObjectId) -> bool {
        match id.kind {
            Kind::FapiClient => self.model.clients.contains_key(&id.key()),
            Kind::FapiIssuer => self.model.issuers.contains_key(&id.name),
            Kind::FapiMesh => self.model.mesh.is_some(),
            Kind::FapiPolicy => self.model.policies.contains_key(&id.key()),
            Kind::Revocation => self.revocations.contains_key(id),
            Kind::Workload => false,
        }
    }
}

/// A source that was read once.
pub(crate) enum Source {
    /// A folder of YAML.
    Directory(Box<Directory>),
    /// A cluster.
    Cluster(Box<Cluster>),
}

/// Why the folder cannot be read; the message says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// It cannot be listed.
    #[error("cannot read the folder {}: {source}; create it, or give another with --source directory:DIR", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The answer of the operating system.
        source: io::Error,
    },
    /// It is not a folder of ours.
    #[error("more than {most} YAML files below {}; give a folder that holds only the mesh's documents", path.display())]
    TooManyFiles {
        /// The folder.
        path: PathBuf,
        /// How many there may be.
        most: usize,
    },
    /// At the first start the trust domain is settled for good, so nothing about it may be unclear.
    #[error("the FapiMesh cannot be read, and it decides the trust domain of a new mesh: {0}")]
    Mesh(String),
    /// A defect: watches go on for ever.
    #[error("the cluster is not watched any more; start the operator again, and report it if it stays")]
    Watches,
}

impl Source {
    /// The trust domain of the mesh.
    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        match self {
            Self::Directory(directory) => directory.trust_domain(),
            Self::Cluster(cluster) => cluster.trust_domain(),
        }
    }

    /// The way to the API server of a cluster.
    pub(crate) fn client(&self) -> Option<kube::Client> {
        match self {
            Self::Directory(_) => None,
            Self::Cluster(cluster) => Some(cluster.client()),
        }
    }

    /// Where it is told that sidecars know more than it.
    pub(crate) fn behind(&self) -> Behind {
        match self {
            Self::Directory(_) => Behind::default(),
            Self::Cluster(cluster) => cluster.behind(),
        }
    }

    /// What it said when it was last read.
    pub(crate) fn desired(&self) -> &Desired {
        match self {
            Self::Directory(directory) => directory.desired(),
            Self::Cluster(cluster) => cluster.desired(),
        }
    }

    /// Publishes what it says until `shutdown` says true.
    pub(crate) async fn run(self, desired: channel::Sender<Arc<Desired>>, shutdown: channel::Receiver<bool>) {
        match self {
            Self::Directory(directory) => watch::run(*directory, desired, shutdown).await,
            Self::Cluster(cluster) => cluster.run(desired, shutdown).await,
        }
    }
}

/// Everything that is wrong with one document, for the one who wrote it: field, problem and remedy.
pub(crate) fn problems(schemas: &Schemas, trust_domain: &TrustDomain, document: &serde_json::Value) -> Vec<String> {
    let findings = match object::parse_node(schemas, trust_domain, Node::from_json(document, 1)) {
        Parsed::Good(_) => Vec::new(),
        Parsed::Bad(bad) => bad.findings,
    };
    findings.into_iter().map(|found| format!("{}: {}; {}", found.field, found.message, found.remedy)).collect()
}

/// The folder of YAML.
pub(crate) struct Directory {
    folder: PathBuf,
    kept: LastGood,
    schemas: Schemas,
    /// Any will do to compile a policy with: what is wrong with one does not depend on it.
    any_domain: TrustDomain,
    /// The trust domain of the mesh, once it is settled.
    fixed: Option<TrustDomain>,
    files: Vec<File>,
    settled: Settled,
    desired: Desired,
}

impl Directory {
    /// Opens a folder and reads it once. `fixed` is the trust domain of the state folder, `None` at the first start;
    /// `otherwise` that of a mesh whose FapiMesh names none.
    ///
    /// # Errors
    /// The folder cannot be read, or at the first start its FapiMesh cannot.
    pub(crate) fn open(
        folder: &Path,
        state: &Path,
        fixed: Option<TrustDomain>,
        otherwise: &TrustDomain,
    ) -> Result<Self, SourceError> {
        let kept = LastGood::new(state);
        let schemas = Schemas::new();
        let good = kept.load(&schemas, otherwise);
        let mut new = Self {
            folder: folder.to_owned(),
            kept,
            schemas,
            any_domain: otherwise.clone(),
            fixed,
            files: Vec::new(),
            settled: Settled { good, ..Settled::default() },
            desired: Desired::default(),
        };
        let files = folder::read(&new.folder)?;
        new.settle(files);
        if new.fixed.is_none() {
            if let Some(fault) = new.settled.broken_mesh() {
                return Err(SourceError::Mesh(fault.to_owned()));
            }
            let named = new.desired.model.mesh.as_ref().and_then(|mesh| mesh.trust_domain.as_deref());
            let named = named.and_then(|named| TrustDomain::parse(named).ok());
            new.fixed = Some(named.unwrap_or_else(|| otherwise.clone()));
        }
        Ok(new)
    }

    /// The trust domain of the mesh.
    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        self.fixed.as_ref().unwrap_or(&self.any_domain)
    }

    /// What the folder said when it was last read.
    pub(crate) fn desired(&self) -> &Desired {
        &self.desired
    }

    /// Reads the folder again. True if anything in it changed.
    ///
    /// # Errors
    /// The folder cannot be read; then all stays as it was.
    pub(crate) fn refresh(&mut self) -> Result<bool, SourceError> {
        let files = folder::read(&self.folder)?;
        if files == self.files {
            return Ok(false);
        }
        self.settle(files);
        Ok(true)
    }

    fn settle(&mut self, files: Vec<File>) {
        let read: Vec<ReadFile> = files.iter().map(|file| self.parse(file)).collect();
        let settled = settle::settle(&self.settled.good, &read, self.fixed.as_ref());
        self.keep(&settled.good);
        for problem in settled.problems.iter().filter(|problem| !self.settled.problems.contains(problem)) {
            let Problem { file, line, field, message, remedy } = problem;
            tracing::warn!(event = "problem", file, line, field, remedy, "{message}");
        }
        self.desired = Desired {
            model: expand::model(&settled),
            revocations: expand::revocations(&settled),
            problems: settled.problems.clone(),
            ..Desired::default()
        };
        self.settled = settled;
        self.files = files;
    }

    fn parse(&self, file: &File) -> ReadFile {
        let parse = |text: &String| {
            let documents = documents::split(text).into_iter();
            documents.map(|document| object::parse(&self.schemas, &self.any_domain, document)).collect()
        };
        ReadFile { name: file.name.clone(), documents: file.text.as_ref().map(parse).map_err(Clone::clone) }
    }

    fn keep(&self, good: &BTreeMap<ObjectId, Good>) {
        // What is good stays in force in this process; only a restart would miss it.
        if let Err(error) = self.kept.update(&self.settled.good, good) {
            tracing::error!(%error, "the last good versions cannot be kept; a restart would fall back to older ones");
        }
    }
}
