//! Keys of issuers: parsed once, found by issuer, key id and algorithm.

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;

use crate::{
    crypto::PublicKey,
    json::Members,
    jwk::Jwk,
    value::{Issuer, SigningAlg},
};

/// The usable public keys of one issuer (RFC 7517 section 5).
#[derive(Debug)]
pub struct KeySet(Vec<NamedKey>);

#[derive(Debug)]
struct NamedKey {
    kid: Option<Box<str>>,
    key: PublicKey,
}

/// Why a key set document could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// More than 64 KiB.
    #[error("the key set is larger than 64 KiB; remove old keys from it")]
    TooLarge,
    /// Not an object with a `keys` list.
    #[error("the key set is not a JSON object with a list `keys` (RFC 7517 section 5); look at what the issuer serves")]
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
    pub fn from_jwks_json(json: &[u8]) -> Result<Self, JwksError> {
        if json.len() > MAX_BYTES {
            return Err(JwksError::TooLarge);
        }
        let document = Members::parse(json).map_err(|_| JwksError::NotAKeySet)?;
        let keys = document.view().value("keys").and_then(Value::as_array).ok_or(JwksError::NotAKeySet)?;
        if keys.len() > MAX_KEYS {
            return Err(JwksError::TooManyKeys);
        }
        Ok(Self(keys.iter().filter_map(named_key).collect()))
    }

    /// How many keys of the document can be used.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no key can be used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys that can have made a signature: of this id and algorithm. Without an id, only if there is no choice.
    ///
    /// An id may repeat; then algorithm and key type decide (FAPI 2.0 SP 5.4.3).
    pub(crate) fn candidates(&self, kid: Option<&str>, alg: SigningAlg) -> Vec<&PublicKey> {
        let fits = self.0.iter().filter(|named| named.key.alg() == alg);
        let named = fits.filter(|named| kid.is_none() || named.kid.as_deref() == kid);
        let found: Vec<_> = named.map(|named| &named.key).collect();
        if kid.is_none() && found.len() > 1 { Vec::new() } else { found }
    }
}

fn named_key(value: &Value) -> Option<NamedKey> {
    let members = Members::of(value).ok()?;
    let kid = members.text("kid").ok()?.map(Box::from);
    Some(NamedKey { kid, key: Jwk::parse(members)?.key })
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

    /// Forgets the keys of an issuer.
    pub fn remove(&mut self, issuer: &Issuer) {
        self.0.remove(issuer);
    }

    /// The keys of an issuer.
    #[must_use]
    pub fn get(&self, issuer: &Issuer) -> Option<&Arc<KeySet>> {
        self.0.get(issuer)
    }
}

const MAX_BYTES: usize = 64 * 1024;
const MAX_KEYS: usize = 64;

#[cfg(test)]
mod tests;
