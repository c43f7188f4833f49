//! What everyone must know of the roots, at one moment.

use std::sync::Arc;

use control::tls::TrustBundle;
use fapi::TrustDomain;

use super::line::Line;
use super::rotation::{Rotation, Step};
use super::{PkiError, x509};
use crate::crypto;

/// The roots that are trusted, and the authority that signs.
#[derive(Debug)]
pub(crate) struct Roots {
    /// In PEM, the older one first.
    pub(crate) pem: Arc<str>,
    /// Changes exactly with `pem`.
    pub(crate) digest: String,
    /// What chains are verified by.
    pub(crate) bundle: TrustBundle,
    /// The key of the authority that signs, as certificates name it.
    pub(crate) signer: Vec<u8>,
    /// Whether certificates of any other authority are to be replaced at once.
    pub(crate) replace: bool,
}

impl Roots {
    /// Of these lines: `signing`, and the other one of a rotation.
    pub(super) fn of(
        trust_domain: &TrustDomain,
        rotation: Option<&Rotation>,
        signing: &Line,
        other: Option<&Line>,
    ) -> Result<Self, PkiError> {
        let mut trusted = vec![signing];
        trusted.extend(other);
        trusted.sort_by_key(|line| line.number);
        let pem: String = trusted.into_iter().map(|line| x509::pem(&line.root.certificate)).collect();
        Ok(Self {
            digest: crypto::digest(pem.as_bytes()),
            bundle: TrustBundle::from_pem(trust_domain, &pem)?,
            pem: pem.into(),
            signer: signing.key_id.clone(),
            replace: rotation.is_some_and(|rotation| rotation.step >= Step::Tainted),
        })
    }

    /// Whether this leaf is of the authority that signs.
    pub(crate) fn signed(&self, authority: Option<&[u8]>) -> bool {
        authority == Some(&self.signer)
    }
}
