//! What a vector file says. `sidecar` reads it too, to send the requests over real connections.

use std::{collections::BTreeMap, fs, path::Path};

use fapi::{Revocation, WirePolicy};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One file: what is wrong elsewhere, the world, and requests with their verdicts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VectorFile {
    pub(crate) about: String,
    pub(crate) world: Map<String, Value>,
    pub(crate) cases: Vec<Case>,
}

/// One request and its verdict, after others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// Members of the world that are different here.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) world: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) before: Vec<Step>,
    #[serde(flatten)]
    pub(crate) last: Step,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Step {
    /// Seconds since the epoch, if not the world's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) clock: Option<u64>,
    /// All that is revoked when the request comes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) revoked: Vec<Revocation>,
    pub(crate) request: Asked,
    /// The verdict of the decision.
    pub(crate) expect: Expected,
    /// What a sidecar does on a connection, where that is something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) connected: Option<Connected>,
}

/// A request as it arrives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) query: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
}

/// A verdict, with all that the caller would see of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub(crate) enum Expected {
    Admitted,
    Refused {
        reason: String,
        status: u16,
        www_authenticate: Option<String>,
        /// A fresh nonce goes with the answer.
        nonce: bool,
    },
    NeedKeys {
        issuer: String,
    },
}

/// What a sidecar does before, or instead of, asking for a decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Connected {
    /// It refuses what the decision alone does not look at, or cannot go and fetch.
    Decided(Expected),
    /// The handshake ends with this reason: there is no request.
    Handshake(String),
    /// The bytes are no HTTP request: 400, and the connection ends.
    Unreadable,
}

/// The world of a case.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct World {
    pub(crate) trust_domain: String,
    pub(crate) policy: WirePolicy,
    pub(crate) issuers: BTreeMap<String, Value>,
    /// A sidecar is told of new keys and fetches none, so there they always are.
    pub(crate) keys_fresh: bool,
    pub(crate) peer: PeerText,
    /// The secret of the nonces, 64 hex digits.
    nonce_secret: String,
    pub(crate) replay_capacity: usize,
    pub(crate) clock: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PeerText {
    pub(crate) spiffe_id: String,
    pub(crate) thumbprint: String,
    pub(crate) not_after: u64,
}

impl World {
    pub(crate) fn of(file: &VectorFile, case: &Case) -> Self {
        let mut members = file.world.clone();
        members.extend(case.world.clone());
        serde_json::from_value(members.into()).unwrap()
    }

    pub(crate) fn nonce_secret(&self) -> [u8; 32] {
        secret(&self.nonce_secret)
    }
}

/// Reads 64 hex digits.
pub(crate) fn secret(hex: &str) -> [u8; 32] {
    assert_eq!(hex.len(), 64);
    std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
}

impl Case {
    pub(crate) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.before.iter().chain([&self.last])
    }
}

/// Reads a file of the folder `vectors`.
pub(crate) fn load(folder: &Path, name: &str) -> VectorFile {
    let file = folder.join(format!("{name}.json"));
    let text = fs::read_to_string(&file).unwrap_or_else(|_| panic!("no vectors {name}: run once with UPDATE=1"));
    serde_json::from_str(&text).unwrap()
}
