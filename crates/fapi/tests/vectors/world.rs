//! A world in a document, and the verdicts in it.

use std::{collections::BTreeMap, sync::Arc};

use fapi::{
    AdmissionKind, CertThumbprint, Context, Issuer, IssuerKeys, KeySet, NonceMinter, Peer, Policy, PortPolicy,
    ProvenTokens, ReplaySet, Request, SpiffeId, TrustDomain, UnixTime, Verdict, WirePolicy, decide,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WorldText {
    trust_domain: String,
    policy: WirePolicy,
    issuers: BTreeMap<String, Value>,
    keys_fresh: bool,
    peer: PeerText,
    /// The secret of the nonces, 64 hex digits.
    nonce_secret: String,
    replay_capacity: usize,
    clock: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PeerText {
    spiffe_id: String,
    thumbprint: String,
    not_after: u64,
}

/// A world in which requests are decided.
pub(crate) struct World {
    policy: PortPolicy,
    keys: IssuerKeys,
    keys_fresh: bool,
    peer: Peer,
    nonces: NonceMinter,
    replay: ReplaySet,
    now: UnixTime,
}

impl World {
    /// The world that a document describes.
    pub(crate) fn new(members: Map<String, Value>) -> Self {
        let text: WorldText = serde_json::from_value(members.into()).unwrap();
        let domain = TrustDomain::parse(&text.trust_domain).unwrap();
        let mut keys = IssuerKeys::new();
        for (issuer, set) in &text.issuers {
            let set = KeySet::from_jwks_json(set.to_string().as_bytes()).unwrap();
            keys.insert(Issuer::parse(issuer).unwrap(), set);
        }
        Self {
            policy: PortPolicy::Policy(Arc::new(Policy::compile(&domain, &text.policy).unwrap())),
            keys,
            keys_fresh: text.keys_fresh,
            peer: Peer {
                spiffe_id: SpiffeId::parse(&text.peer.spiffe_id).unwrap(),
                thumbprint: CertThumbprint::parse(&text.peer.thumbprint).unwrap(),
                pod_uid: None,
                not_after: UnixTime::from_secs(text.peer.not_after),
            },
            nonces: NonceMinter::new(secret(&text.nonce_secret)),
            replay: ReplaySet::new(text.replay_capacity, text.replay_capacity),
            now: UnixTime::from_secs(text.clock),
        }
    }

    /// The verdict about a request, at this time if not at the world's.
    pub(crate) fn verdict(&self, clock: Option<u64>, asked: &Asked, proven: &mut ProvenTokens) -> Expected {
        let headers: HeaderMap = asked
            .headers
            .iter()
            .map(|(name, value)| {
                let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
                (HeaderName::from_bytes(name.as_bytes()).unwrap(), value)
            })
            .collect();
        let method = Method::from_bytes(asked.method.as_bytes()).unwrap();
        let request = Request { method: &method, path: &asked.path, query: asked.query.as_deref(), headers: &headers };
        let ctx = Context {
            policy: &self.policy,
            keys: &self.keys,
            keys_fresh: self.keys_fresh,
            peer: &self.peer,
            nonces: &self.nonces,
            replay: &self.replay,
            generation: 1,
            now: clock.map_or(self.now, UnixTime::from_secs),
        };
        match decide(&ctx, &request, proven) {
            Verdict::Admit(admission) => {
                assert_eq!(admission.kind(), AdmissionKind::Proven);
                Expected::Admitted
            }
            Verdict::Refuse(refusal) => Expected::Refused {
                reason: refusal.rejection.id().to_owned(),
                status: refusal.answer.status.as_u16(),
                www_authenticate: refusal.answer.www_authenticate,
                nonce: refusal.answer.wants_nonce,
            },
            Verdict::NeedKeys(issuer) => Expected::NeedKeys { issuer: issuer.to_string() },
        }
    }
}

/// Reads 64 hex digits.
pub(crate) fn secret(hex: &str) -> [u8; 32] {
    assert_eq!(hex.len(), 64);
    std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
}
