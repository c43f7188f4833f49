//! Where an operator keeps what must outlive it: a folder of its own, or its namespace in a cluster.

use std::fs::File;
use std::path::{Path, PathBuf};

use fapi::TrustDomain;

use super::error::Failure;
use crate::addresses::{AddressError, Addresses};
use crate::args::{Args, SourceArg};
use crate::files::{self, FileError};
use crate::kubernetes::secret::{AUTHORITY, ISSUER, REVOCATIONS, WEBHOOK};
use crate::kubernetes::{self, Desk, Loss, Secret};
use crate::pki;
use crate::publish::{Counter, CounterError};
use crate::rotation;
use crate::shelf::Shelf;

/// What the trust domain is recorded under.
const TRUST_DOMAIN: &str = "trust-domain";

/// Where an operator is at home.
pub(super) enum Home {
    /// A state folder.
    Folder {
        state: PathBuf,
        /// Held for as long as anything writes into it.
        _lock: File,
    },
    /// The operator's namespace.
    Cluster(Desk),
}

impl Home {
    /// The home that goes with the source.
    pub(super) async fn open(args: &Args) -> Result<Self, Failure> {
        match (&args.source, &args.state) {
            (SourceArg::Directory(_), Some(state)) => {
                files::private_folder(state)?;
                Ok(Self::Folder { state: state.clone(), _lock: lock(state)? })
            }
            (SourceArg::Kubernetes, None) => {
                Ok(Self::Cluster(Desk::open(&args.operator_namespace, kubernetes::client).await?))
            }
            (SourceArg::Directory(_), None) => Err(Failure::NoState),
            (SourceArg::Kubernetes, Some(_)) => Err(Failure::StateInCluster),
        }
    }

    /// Where the process before listened, if that is remembered.
    pub(super) fn addresses(&self) -> Result<Option<Addresses>, AddressError> {
        match self {
            Self::Folder { state, .. } => Addresses::load(state),
            Self::Cluster(_) => Ok(None),
        }
    }

    /// The trust domain that this mesh has always had, if it is not its first start.
    pub(super) fn trust_domain(&self, before: Option<&Addresses>) -> Result<Option<TrustDomain>, Failure> {
        let recorded = match self {
            Self::Folder { .. } => before.map(|before| before.trust_domain.clone()),
            Self::Cluster(desk) => desk.recorded(TRUST_DOMAIN)?,
        };
        recorded.map(|text| TrustDomain::parse(&text).map_err(|_| Failure::State(text))).transpose()
    }

    /// Settles the trust domain for good, before anything is made for it.
    pub(super) fn settle(&self, trust_domain: &TrustDomain) -> Result<(), FileError> {
        match self {
            // It stands among the addresses.
            Self::Folder { .. } => Ok(()),
            Self::Cluster(desk) => match desk.recorded(TRUST_DOMAIN)? {
                Some(_) => Ok(()),
                None => desk.record(TRUST_DOMAIN, Some(trust_domain.as_str())),
            },
        }
    }

    /// Remembers where this process listens.
    pub(super) fn save(&self, addresses: &Addresses) -> Result<(), AddressError> {
        match self {
            Self::Folder { state, .. } => addresses.save(state),
            Self::Cluster(_) => Ok(()),
        }
    }

    /// Where the authority is kept, and the file that its root is told in.
    pub(super) fn authority(&self) -> (Shelf, Option<PathBuf>) {
        match self {
            Self::Folder { state, .. } => (Shelf::Folder(state.join("pki")), Some(state.join("trust-bundle.pem"))),
            Self::Cluster(desk) => (secret(desk, AUTHORITY, Loss::KnownBy(pki::FINGERPRINT)), None),
        }
    }

    /// Where a rotation of the root is asked for and told of.
    pub(super) fn rotations(&self) -> rotation::Place {
        match self {
            Self::Folder { state, .. } => rotation::Place::folder(state.clone()),
            Self::Cluster(desk) => rotation::Place::cluster(desk.clone()),
        }
    }

    /// Where the issuer's keys are kept.
    pub(super) fn issuer(&self) -> Shelf {
        match self {
            Self::Folder { state, .. } => Shelf::Folder(state.join("issuer")),
            Self::Cluster(desk) => secret(desk, ISSUER, Loss::Missing),
        }
    }

    /// Where revocations are kept.
    pub(super) fn revocations(&self) -> Shelf {
        match self {
            Self::Folder { state, .. } => Shelf::Folder(state.clone()),
            Self::Cluster(desk) => secret(desk, REVOCATIONS, Loss::Missing),
        }
    }

    /// Where the authority of the webhooks is kept.
    pub(super) fn webhook(&self) -> Shelf {
        match self {
            Self::Folder { state, .. } => Shelf::Folder(state.join("webhook")),
            Self::Cluster(desk) => secret(desk, WEBHOOK, Loss::MadeAnew),
        }
    }

    /// The counter of views; a cluster counts by itself.
    pub(super) fn counter(&self) -> Result<Option<Counter>, CounterError> {
        match self {
            Self::Folder { state, .. } => Counter::open(state).map(Some),
            Self::Cluster(_) => Ok(None),
        }
    }

    /// The state folder, if there is one.
    pub(super) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder { state, .. } => Some(state),
            Self::Cluster(_) => None,
        }
    }
}

fn secret(desk: &Desk, name: &'static str, loss: Loss) -> Shelf {
    Shelf::Secret(Secret::new(desk.clone(), name, loss))
}

/// One operator for one state folder.
fn lock(state: &Path) -> Result<File, Failure> {
    let path = state.join("operator.lock");
    // Nothing stands in it, so nothing is lost by opening that of another operator.
    let file = File::create(&path).map_err(FileError::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Failure::InUse(state.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(FileError::io("lock", &path)(source).into()),
    }
}
