//! A world in a document, and the verdicts in it.

use std::sync::Arc;

use fapi::{
    AdmissionKind, CertThumbprint, Context, Issuer, IssuerKeys, KeySet, NonceMinter, Peer, Policy, PortPolicy,
    ProvenTokens, ReplaySet, Request, Revocation, SpiffeId, TrustDomain, UnixTime, Verdict, decide,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::format::{Asked, Expected, World as Written};

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
    pub(crate) fn new(text: &Written) -> Self {
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
            nonces: NonceMinter::new(text.nonce_secret()),
            replay: ReplaySet::new(text.replay_capacity, text.replay_capacity),
            now: UnixTime::from_secs(text.clock),
        }
    }

    /// The verdict about a request, at this time if not at the world's, while this is revoked.
    pub(crate) fn verdict(
        &self,
        clock: Option<u64>,
        revoked: &[Revocation],
        asked: &Asked,
        proven: &mut ProvenTokens,
    ) -> Expected {
        let revocations = revoked.iter().cloned().collect();
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
            revocations: &revocations,
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
            Verdict::NeedIntrospection(unread) => panic!("{unread:?}"),
        }
    }
}
