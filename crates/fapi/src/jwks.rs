//! Keys of issuers: parsed once, found by issuer, key id and algorithm.

use std::{collections::HashMap, sync::Arc};

use crate::value::Issuer;

/// The usable public keys of one issuer (RFC 7517 section 5).
#[derive(Debug)]
pub struct KeySet {}

/// Why a key set document could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// More than 64 KiB.
    #[error("the key set is larger than 64 KiB; remove old keys from it")]
    TooLarge,
    /// Not an object with a `keys` list.
    #[error("the key set is not a JSON object with a list `keys` (RFC 7517 section 5)")]
    NotAKeySet,
    /// More than 64 keys.
    #[error("the key set has more than 64 keys; remove old keys from it")]
    TooManyKeys,
}

impl KeySet {
    /// Reads a key set. Keys that may not be used here (other types, curves, uses, sizes) are skipped; the set may be empty.
    ///
    /// # Errors
    /// A document that is no key set or exceeds the bounds.
    pub fn from_jwks_json(_json: &[u8]) -> Result<Self, JwksError> {
        Err(JwksError::NotAKeySet)
    }
}

/// The key sets of all issuers that are known here. Cloning shares the sets.
#[derive(Debug, Clone, Default)]
pub struct IssuerKeys(HashMap<Issuer, Arc<KeySet>>);

impl IssuerKeys {
    /// No issuer at all.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the keys of an issuer, replacing older ones.
    pub fn insert(&mut self, issuer: Issuer, keys: KeySet) {
        self.0.insert(issuer, Arc::new(keys));
    }

    /// The keys of an issuer.
    #[must_use]
    pub fn get(&self, issuer: &Issuer) -> Option<&Arc<KeySet>> {
        self.0.get(issuer)
    }
}
