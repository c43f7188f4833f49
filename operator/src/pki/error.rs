//! What can go wrong with the mesh's certificate authority. Every message says where and what to do.

use std::path::PathBuf;
use std::sync::Arc;

use fapi::UnixTime;

use crate::files::FileError;
use crate::state::StateError;

/// Why the authority cannot start or cannot issue.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PkiError {
    /// A state file cannot be read or written, or is open to others.
    #[error(transparent)]
    File(#[from] FileError),
    /// What is kept of a rotation cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// One rotation of the root at a time.
    #[error("the rotation {name:?} of the root runs; ask again when `fapictl status` shows it as Removed")]
    RotationRuns {
        /// How it is called.
        name: String,
    },
    /// This state had an authority, and a part of it is gone.
    #[error(
        "{} is missing, but this state had a certificate authority before: restore it from a backup. \
         A new authority is never made silently; to make one, stop every sidecar, remove `pki` and `trust-bundle.pem` \
         from the state folder and start again",
        path.display()
    )]
    Missing {
        /// The file or folder.
        path: PathBuf,
    },
    /// What is in force is not kept any more.
    #[error("{0}")]
    Lost(Arc<str>),
    /// A file is there but is not what was written.
    #[error("{} cannot be used: {detail}; restore the whole `pki` folder from a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The state belongs to another mesh.
    #[error(
        "this state belongs to trust domain {recorded:?}, but {asked:?} is configured; \
         a trust domain never changes: configure {recorded:?}, or use another state folder for a new mesh"
    )]
    OtherTrustDomain {
        /// What the root certificate says.
        recorded: String,
        /// What was configured.
        asked: String,
    },
    /// Nothing valid can be issued any more.
    #[error(
        "the {which} certificate ended at {} (seconds since 1970); check the machine's clock, or make a new authority: \
         stop every sidecar, remove `pki` and `trust-bundle.pem` from the state folder and start again",
        ended.as_secs()
    )]
    Ended {
        /// `root` or `issuing`.
        which: &'static str,
        /// Its notAfter.
        ended: UnixTime,
    },
    /// The subject cannot be written into a certificate.
    #[error("a certificate cannot carry {0}")]
    Subject(&'static str),
    /// The operator's own certificate cannot be used for TLS.
    #[error(transparent)]
    Tls(#[from] control::tls::TlsError),
    /// The certificate library refused to build or sign.
    #[error("cannot make a certificate: {0}; this is a defect, please report it")]
    Library(#[from] rcgen::Error),
}

impl PkiError {
    /// True when what was kept is gone, or is not what was kept.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Damaged { .. } | Self::File(FileError::Lost { .. }))
    }

    /// True when another operator has written since it was read: read it again.
    pub(crate) fn is_changed(&self) -> bool {
        match self {
            Self::File(error) => error.is_changed(),
            Self::State(error) => error.is_changed(),
            _ => false,
        }
    }
}
