//! Reads a vector file and asks for the verdicts.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

use fapi::{
    AdmissionKind, CertThumbprint, Context, Issuer, IssuerKeys, KeySet, NonceMinter, Peer, Policy, PortPolicy,
    ProvenTokens, ReplaySet, Request, Revocations, SpiffeId, TrustDomain, UnixTime, Verdict, WirePolicy, decide,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
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
    pub(crate) request: Asked,
    pub(crate) expect: Expected,
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
    revocations: Revocations,
    now: UnixTime,
}

impl World {
    pub(crate) fn of(file: &VectorFile, case: &Case) -> Self {
        let mut members = file.world.clone();
        members.extend(case.world.clone());
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
                issued: UnixTime::from_secs(text.clock),
                not_after: UnixTime::from_secs(text.peer.not_after),
            },
            nonces: NonceMinter::new(secret(&text.nonce_secret)),
            replay: ReplaySet::new(text.replay_capacity, text.replay_capacity),
            revocations: Revocations::none(),
            now: UnixTime::from_secs(text.clock),
        }
    }

    pub(crate) fn verdict(&self, step: &Step, proven: &mut ProvenTokens) -> Expected {
        let asked = &step.request;
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
            revocations: &self.revocations,
            generation: 1,
            now: step.clock.map_or(self.now, UnixTime::from_secs),
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

impl Case {
    pub(crate) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.before.iter().chain([&self.last])
    }

    /// The verdicts in a new world, on a connection that has proven these tokens.
    pub(crate) fn verdicts(&self, file: &VectorFile, proven: &mut ProvenTokens) -> Vec<Expected> {
        let world = World::of(file, self);
        self.steps().map(|step| world.verdict(step, proven)).collect()
    }
}

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

pub(crate) fn load(name: &str) -> VectorFile {
    let file = folder().join(format!("{name}.json"));
    let text = fs::read_to_string(&file).unwrap_or_else(|_| panic!("no vectors {name}: run once with UPDATE=1"));
    serde_json::from_str(&text).unwrap()
}

/// Whether every case of a file gets its verdict.
#[track_caller]
pub(crate) fn holds(name: &str) {
    let file = load(name);
    assert!(file.cases.len() > 1, "{name}");
    for case in &file.cases {
        let wanted: Vec<_> = case.steps().map(|step| step.expect.clone()).collect();
        assert_eq!(case.verdicts(&file, &mut ProvenTokens::new()), wanted, "{name}: {}", case.name);
    }
}

fn secret(hex: &str) -> [u8; 32] {
    assert_eq!(hex.len(), 64);
    std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
}
