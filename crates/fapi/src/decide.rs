//! The decision.

use std::sync::Arc;

use http::{HeaderMap, Method};

use crate::{
    challenge::{Answer, Scheme, answer},
    dpop::{NonceMinter, ReplaySet},
    jwks::IssuerKeys,
    peer::Peer,
    policy::{Policy, PortPolicy},
    rejection::Rejection,
    value::{Issuer, SpiffeId, TokenHash, UnixTime},
};

/// A request as it arrived, before any rewrite.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path, still percent-encoded, without query.
    pub path: &'a str,
    /// The query, without `?`.
    pub query: Option<&'a str>,
    /// All headers.
    pub headers: &'a HeaderMap,
}

/// Everything that a decision depends on beside the request.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The policy of the port.
    pub policy: &'a PortPolicy,
    /// The keys of all issuers.
    pub keys: &'a IssuerKeys,
    /// Set once the shell has fetched keys for this request: a key that is still missing then refuses.
    pub keys_fresh: bool,
    /// The peer of the TLS connection.
    pub peer: &'a Peer,
    /// The nonces of this process.
    pub nonces: &'a NonceMinter,
    /// The proofs seen by this process.
    pub replay: &'a ReplaySet,
    /// A number that changes with policy, keys, revocations and trust bundle.
    pub generation: u64,
    /// The time.
    pub now: UnixTime,
}

/// Tokens whose signature and certificate binding were proven on one connection.
#[derive(Debug, Default)]
pub struct ProvenTokens {}

impl ProvenTokens {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

/// The outcome of a decision.
#[derive(Debug)]
pub enum Verdict {
    /// The request may pass.
    Admit(Admission),
    /// It may not.
    Refuse(Refusal),
    /// The keys of this issuer are missing: fetch them, ask again with `keys_fresh`.
    NeedKeys(Issuer),
}

/// The permit without which nothing is forwarded. Only [`decide`] makes it.
#[derive(Debug)]
pub struct Admission {
    kind: AdmissionKind,
    client_id: Option<Arc<str>>,
    caller: SpiffeId,
    token_hash: Option<TokenHash>,
    expires: Option<UnixTime>,
    policy: Arc<Policy>,
}

/// Why a request may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdmissionKind {
    /// Every check held.
    Proven,
    /// The policy is in `Audit`; in `Enforce` this would have been the refusal. No identity header may be set.
    Observed(Rejection),
}

impl Admission {
    /// Why it may pass.
    #[must_use]
    pub const fn kind(&self) -> AdmissionKind {
        self.kind
    }

    /// The `client_id` of the token; `None` unless its signature was good.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref()
    }

    /// The workload at the other end of the connection.
    #[must_use]
    pub const fn caller(&self) -> &SpiffeId {
        &self.caller
    }

    /// The hash of the token, for logs; `None` if there was none.
    #[must_use]
    pub const fn token_hash(&self) -> Option<&TokenHash> {
        self.token_hash.as_ref()
    }

    /// When the token ends; long exchanges must end then.
    #[must_use]
    pub const fn expires(&self) -> Option<UnixTime> {
        self.expires
    }

    /// The name of the policy.
    #[must_use]
    pub fn policy(&self) -> &str {
        self.policy.name()
    }
}

/// A refusal: the reason for the log, the answer for the caller.
#[derive(Debug)]
pub struct Refusal {
    /// The reason; never told to the caller.
    pub rejection: Rejection,
    /// What the caller is told.
    pub answer: Answer,
    /// The `client_id` of the token, if its signature was good.
    pub client_id: Option<Arc<str>>,
    /// The hash of the token, if there was one.
    pub token_hash: Option<TokenHash>,
    /// The name of the policy, if there is one.
    pub policy: Option<Arc<str>>,
}

impl Refusal {
    /// A refusal that the shell makes itself, before or instead of [`decide`].
    #[must_use]
    pub fn of(rejection: Rejection) -> Self {
        let answer = answer(rejection, Scheme::None, None);
        Self { rejection, answer, client_id: None, token_hash: None, policy: None }
    }
}

/// Decides about one request.
pub fn decide(_ctx: &Context<'_>, _req: &Request<'_>, _proven: &mut ProvenTokens) -> Verdict {
    Verdict::Refuse(Refusal::of(Rejection::PolicyMissing))
}
