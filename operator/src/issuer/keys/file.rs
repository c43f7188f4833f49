//! The keys on disk: `issuer/keys.json`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fapi::{SigningKey, UnixTime};
use serde::{Deserialize, Serialize};

use super::KeysError;
use super::ring::{Next, Retired, Ring, Signing};
use crate::state::Folder;

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

/// Writes the first keys.
pub(super) fn create(folder: &Folder, now: UnixTime) -> Result<(), KeysError> {
    write(folder, &Ring::first(now)?)
}

/// Replaces the document.
pub(super) fn write(folder: &Folder, ring: &Ring) -> Result<(), KeysError> {
    Ok(folder.write(NAME, &Document::of(ring)?)?)
}

/// Reads the document.
pub(super) fn read(folder: &Folder) -> Result<Ring, KeysError> {
    let document: Document = folder.read(NAME)?;
    let detail = |kid| format!("the private key of {kid:?} is not its own, or no P-256 key");
    Ok(document.ring().map_err(|kid| folder.damaged(NAME, detail(kid)))?)
}

const NAME: &str = "keys.json";

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
