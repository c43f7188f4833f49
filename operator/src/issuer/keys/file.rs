//! The keys on disk: `issuer/keys.json`, mode 0600, always replaced as a whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fapi::{SigningKey, UnixTime};
use serde::{Deserialize, Serialize};

use super::KeysError;
use super::ring::{Next, Retired, Ring, Signing};
use crate::files::{self, PRIVATE};

/// The document. One of each, so a file cannot say that no key signs, or two.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    signing: SigningDoc,
    next: NextDoc,
    retired: Vec<RetiredDoc>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SigningDoc {
    key: KeyDoc,
    since: u64,
    longest_token_lifetime: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NextDoc {
    key: KeyDoc,
    published: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RetiredDoc {
    key: KeyDoc,
    until: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeyDoc {
    kid: String,
    /// PKCS#8 DER in base64.
    private_key: String,
}

/// Makes the folder with the first keys in it.
pub(super) fn create(folder: &Path, now: UnixTime) -> Result<Ring, KeysError> {
    let ring = Ring::first(now)?;
    files::appear(folder, |folder| write(folder, &ring))?;
    Ok(ring)
}

/// Replaces the file.
pub(super) fn write(folder: &Path, ring: &Ring) -> Result<(), KeysError> {
    let path = path(folder);
    let json = serde_json::to_vec_pretty(&Document::of(ring)?)
        .map_err(|error| KeysError::Damaged { path: path.clone(), detail: error.to_string() })?;
    Ok(files::replace(&path, &json, PRIVATE)?)
}

/// Reads the file; the folder is there.
pub(super) fn read(folder: &Path) -> Result<Ring, KeysError> {
    files::refuse_open(folder)?;
    let path = path(folder);
    let bytes = match files::read_private(&path) {
        Err(error) if error.is_missing() => return Err(KeysError::Missing { path }),
        other => other?,
    };
    let damaged = |detail: String| KeysError::Damaged { path: path.clone(), detail };
    // A parser's message may quote what it read, and that is private keys: only the place is told.
    let document: Document = serde_json::from_slice(&bytes)
        .map_err(|error| damaged(format!("line {} is not what was written", error.line())))?;
    document.ring().map_err(|kid| damaged(format!("the private key of {kid:?} is not its own, or no P-256 key")))
}

fn path(folder: &Path) -> PathBuf {
    folder.join("keys.json")
}

impl Document {
    fn of(ring: &Ring) -> Result<Self, KeysError> {
        let Signing { key, since, longest } = &ring.signing;
        let signing = SigningDoc { key: KeyDoc::of(key)?, since: since.as_secs(), longest_token_lifetime: *longest };
        let next = NextDoc { key: KeyDoc::of(&ring.next.key)?, published: ring.next.published.as_secs() };
        let retired = |retired: &Retired| -> Result<RetiredDoc, KeysError> {
            Ok(RetiredDoc { key: KeyDoc::of(&retired.key)?, until: retired.until.as_secs() })
        };
        let retired = ring.retired.iter().map(retired).collect::<Result<_, _>>()?;
        Ok(Self { signing, next, retired })
    }

    /// The error is the id of a key that cannot be read.
    fn ring(self) -> Result<Ring, String> {
        let time = UnixTime::from_secs;
        let Self { signing, next, retired } = self;
        let SigningDoc { key, since, longest_token_lifetime: longest } = signing;
        let signing = Signing { key: key.read()?, since: time(since), longest };
        let next = Next { key: next.key.read()?, published: time(next.published) };
        let mut ring = Ring { signing, next, retired: Vec::with_capacity(retired.len()) };
        for RetiredDoc { key, until } in retired {
            ring.retired.push(Retired { key: key.read()?, until: time(until) });
        }
        Ok(ring)
    }
}

impl KeyDoc {
    fn of(key: &SigningKey) -> Result<Self, KeysError> {
        Ok(Self { kid: key.kid().to_owned(), private_key: STANDARD.encode(key.to_pkcs8_der()?) })
    }

    fn read(self) -> Result<Arc<SigningKey>, String> {
        let Self { kid, private_key } = self;
        let key = STANDARD.decode(private_key).ok().and_then(|der| SigningKey::from_pkcs8_der(&der).ok());
        match key {
            Some(key) if key.kid() == kid => Ok(Arc::new(key)),
            _ => Err(kid),
        }
    }
}
