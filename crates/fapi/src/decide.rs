//! The decision: the checks in their order, and the only place that makes an [`Admission`].

mod connection;
mod exempt;

use std::sync::Arc;

pub use connection::{ConnectionAdmission, decide_connection};
pub use exempt::{ExemptAdmission, PlainRequest, decide_exempt};
use http::HeaderMap;

use crate::{
    bind::{AllowedCall, BoundToken, ReservedCall},
    challenge::{Answer, Needed, Scheme, answer},
    introspection::{Introspected, Introspection, Unread},
    path::normal_path,
    policy::{Accepted, Mode, Policy, PortPolicy, Unmatched},
    proven::ProvenTokens,
    rejection::Rejection,
    request::{Context, Request},
    token::{CurrentToken, KeyLookup, NotSigned, ParsedToken, ReceivedToken, SignedToken},
    value::{Issuer, SpiffeId, TokenHash, UnixTime},
};

/// The outcome of a decision.
#[derive(Debug)]
pub enum Verdict {
    /// The request may pass.
    Admit(Admission),
    /// It may not.
    Refuse(Refusal),
    /// A key of this issuer is missing: fetch its keys and ask again with [`Context::keys_fresh`]. Anybody can cause this
    /// with an invented key id, so the shell fetches at most once per cooldown and sets `keys_fresh` in between too.
    NeedKeys(Issuer),
    /// Only its issuer can read the token: ask it, and then [`decide_introspected`].
    NeedIntrospection(Unread),
}

/// Decides about one request. Without effect but for the reservation of a DPoP proof, which comes last.
#[must_use]
pub fn decide(ctx: &Context<'_>, request: &Request<'_>, proven: &mut ProvenTokens) -> Verdict {
    decide_introspected(ctx, request, proven, Introspected::NotAsked)
}

/// As [`decide`], knowing what the issuer of the token said of it, or that it said nothing.
#[must_use]
pub fn decide_introspected(
    ctx: &Context<'_>,
    request: &Request<'_>,
    proven: &mut ProvenTokens,
    said: Introspected<'_>,
) -> Verdict {
    let policy = match ctx.policy {
        PortPolicy::Policy(policy) => policy,
        PortPolicy::Missing => return Verdict::Refuse(Refusal::of(Rejection::PolicyMissing)),
        PortPolicy::Tcp(policy) => {
            let refusal = Refusal::of(Rejection::OpaqueNotAllowed);
            return Verdict::Refuse(Refusal { policy: Some(Arc::clone(&policy.name)), ..refusal });
        }
        PortPolicy::Invalid { name } => {
            let refusal = Refusal::of(Rejection::PolicyInvalid);
            return Verdict::Refuse(Refusal { policy: Some(Arc::clone(name)), ..refusal });
        }
    };
    let mut seen = Seen::default();
    match judge(ctx, policy, request, proven, said, &mut seen) {
        Ok(call) => Verdict::Admit(admit(Basis::Proven(call), ctx, policy, seen)),
        Err(NotSigned::NeedKeys(issuer)) => Verdict::NeedKeys(issuer),
        Err(NotSigned::Unread(token)) => Verdict::NeedIntrospection(token),
        Err(NotSigned::Refused(rejection)) if policy.mode() == Mode::Audit && rejection.waivable_in_audit() => {
            Verdict::Admit(admit(Basis::Observed(rejection), ctx, policy, seen))
        }
        Err(NotSigned::Refused(rejection)) => Verdict::Refuse(refuse(rejection, policy, seen)),
    }
}

/// The checks, in their order. Each takes what only the one before it can make.
fn judge(
    ctx: &Context<'_>,
    policy: &Policy,
    request: &Request<'_>,
    proven: &mut ProvenTokens,
    said: Introspected<'_>,
    seen: &mut Seen,
) -> Result<ReservedCall, NotSigned> {
    ctx.revocations.check_peer(ctx.peer, ctx.now)?;
    let path = normal_path(request.path)?;
    let received = ReceivedToken::find(request.headers, request.query)?;
    seen.scheme = Some(received.scheme());
    let known = proven.find(ctx.generation, received.bytes()).filter(|signed| signed.counts(ctx.now));
    let is_new = known.is_none();
    let signed = match known {
        Some(signed) => signed,
        None => Arc::new(verify(ctx, policy, &received, said, seen)?),
    };
    seen.token = Some(Arc::clone(&signed));
    let current = CurrentToken::check(&signed, policy, ctx)?;
    let bound = BoundToken::prove(current, &received, policy, request, ctx, &mut proven.proof_headers)?;
    if is_new {
        proven.keep(received.bytes(), &signed);
    }
    let allowed = AllowedCall::check(&bound, policy, path, request, ctx).map_err(|unmatched| {
        seen.needed = unmatched.needed();
        unmatched.rejection()
    })?;
    Ok(allowed.reserve(ctx)?)
}

fn verify(
    ctx: &Context<'_>,
    policy: &Policy,
    received: &ReceivedToken<'_>,
    said: Introspected<'_>,
    seen: &mut Seen,
) -> Result<SignedToken, NotSigned> {
    let hash = TokenHash::of_bytes(received.bytes());
    seen.hash = Some(hash);
    if let Some(accepted) = received.opaque_of(policy)? {
        return introspected(ctx, accepted, received, hash, said);
    }
    let parsed = ParsedToken::parse(received, policy)?;
    SignedToken::verify(parsed, hash, KeyLookup { keys: ctx.keys, fresh: ctx.keys_fresh })
}

/// What the issuer says takes the place of a signature.
fn introspected(
    ctx: &Context<'_>,
    accepted: &Accepted,
    received: &ReceivedToken<'_>,
    hash: TokenHash,
    said: Introspected<'_>,
) -> Result<SignedToken, NotSigned> {
    // Whoever can be none of its clients has nobody asked.
    let external = accepted.external.as_ref().filter(|external| external.knows(&ctx.peer.spiffe_id));
    let external = external.ok_or(Rejection::CallerMismatch)?;
    match said {
        Introspected::Answered(said) => Ok(SignedToken::introspected(said, accepted, hash)?),
        Introspected::Unavailable => Err(Rejection::IntrospectionUnavailable.into()),
        Introspected::NotAsked => {
            let (issuer, token) = (accepted.issuer.clone(), received.text()?.into());
            let audiences = external.resources.iter().map(|resource| resource.audience.clone()).collect();
            Err(NotSigned::Unread(Unread { issuer, token, hash, audiences }))
        }
    }
}

/// What was learnt on the way, for logs and answers.
#[derive(Default)]
struct Seen {
    scheme: Option<Scheme>,
    hash: Option<TokenHash>,
    /// Only with a good signature.
    token: Option<Arc<SignedToken>>,
    needed: Needed,
}

impl Seen {
    fn client_id(&self) -> Option<Arc<str>> {
        self.token.as_ref().map(|token| Arc::clone(&token.claims().client_id))
    }

    /// Of a token of the mesh alone.
    fn subject(&self) -> Option<Arc<str>> {
        self.token.as_ref().and_then(|token| token.claims().behind.last().map(Arc::clone))
    }

    fn is_external(&self) -> bool {
        self.token.as_ref().is_some_and(|token| token.external().is_some())
    }

    fn token_hash(&self) -> Option<TokenHash> {
        self.token.as_ref().map(|token| *token.hash()).or(self.hash)
    }
}

/// The permit without which nothing is forwarded. Only [`decide`] makes it.
#[derive(Debug)]
pub struct Admission {
    kind: AdmissionKind,
    client_id: Option<Arc<str>>,
    subject: Option<Arc<str>>,
    external: bool,
    caller: SpiffeId,
    token_hash: Option<TokenHash>,
    expires: Option<UnixTime>,
    policy: Arc<str>,
    introspection: Option<Arc<Introspection>>,
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

    /// On whose behalf the caller calls, if another has handed the call on to it: the `sub` beside an `act` (RFC 8693 section
    /// 4.1). `None` unless the token is of the mesh and its signature was good.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// The token of the admitted request, for its receiver to exchange (RFC 8693). `None` if it was not proven, or is from an
    /// issuer outside the mesh: the mesh's own could not read it.
    #[must_use]
    pub fn exchangeable<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        if self.kind != AdmissionKind::Proven || self.external {
            return None;
        }
        ReceivedToken::find(headers, None).ok()?.text().ok()
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

    /// When the token ends, or is too old for its rule, and with it every long exchange that it opened; `None` if observed.
    #[must_use]
    pub const fn expires(&self) -> Option<UnixTime> {
        self.expires
    }

    /// The name of the policy.
    #[must_use]
    pub fn policy(&self) -> &str {
        &self.policy
    }
}

enum Basis {
    Proven(ReservedCall),
    Observed(Rejection),
}

/// The one place where an admission is made.
fn admit(basis: Basis, ctx: &Context<'_>, policy: &Policy, seen: Seen) -> Admission {
    let (kind, expires) = match basis {
        Basis::Proven(call) => (AdmissionKind::Proven, Some(call.ends())),
        Basis::Observed(rejection) => (AdmissionKind::Observed(rejection), None),
    };
    Admission {
        kind,
        client_id: seen.client_id(),
        subject: seen.subject(),
        external: seen.is_external(),
        caller: ctx.peer.spiffe_id.clone(),
        token_hash: seen.token_hash(),
        expires,
        policy: policy.shared_name(),
        introspection: seen.token.as_ref().and_then(|token| token.introspection().cloned()),
    }
}

/// What an admission rests on; kept for as long as its call goes on.
#[derive(Debug, Clone)]
pub struct Grounds {
    /// The token whose holder was proven; `None` if observed.
    proven: Option<TokenHash>,
    /// What the issuer said of that token, if only it can read it.
    introspection: Option<Arc<Introspection>>,
}

impl Admission {
    /// What it rests on.
    #[must_use]
    pub fn grounds(&self) -> Grounds {
        Grounds {
            proven: self.token_hash.filter(|_| self.kind == AdmissionKind::Proven),
            introspection: self.introspection.clone(),
        }
    }
}

/// Decides again about a call in progress, such as a WebSocket, after policy, keys or revocations have changed.
/// `request` is the one that began it. Its proof, checked then, is not looked at: it was for that moment.
///
/// # Errors
/// Why the call must end.
pub fn decide_again(ctx: &Context<'_>, request: &Request<'_>, grounds: &Grounds) -> Result<(), Rejection> {
    let policy = match ctx.policy {
        PortPolicy::Policy(policy) => policy,
        PortPolicy::Missing => return Err(Rejection::PolicyMissing),
        PortPolicy::Invalid { .. } => return Err(Rejection::PolicyInvalid),
        PortPolicy::Tcp(_) => return Err(Rejection::OpaqueNotAllowed),
    };
    let judged = judge_again(ctx, policy, request, grounds);
    match judged {
        Err(rejection) if policy.mode() == Mode::Audit && rejection.waivable_in_audit() => Ok(()),
        judged => judged,
    }
}

fn judge_again(ctx: &Context<'_>, policy: &Policy, request: &Request<'_>, grounds: &Grounds) -> Result<(), Rejection> {
    ctx.revocations.check_peer(ctx.peer, ctx.now)?;
    let path = normal_path(request.path)?;
    let received = ReceivedToken::find(request.headers, request.query)?;
    let hash = TokenHash::of_bytes(received.bytes());
    if grounds.proven != Some(hash) {
        // Observed then, and its proof is lost: it cannot become proven any more.
        return Err(Rejection::ProofMissing);
    }
    let signed = signed_again(ctx, policy, &received, hash, grounds)?;
    let bound = BoundToken::prove_again(CurrentToken::check(&signed, policy, ctx)?, policy, ctx)?;
    AllowedCall::check(&bound, policy, path, request, ctx).map_err(Unmatched::rejection)?;
    Ok(())
}

/// The token of a call in progress. An issuer that was asked about it is not asked again: what it said counts for the call.
fn signed_again(
    ctx: &Context<'_>,
    policy: &Policy,
    received: &ReceivedToken<'_>,
    hash: TokenHash,
    grounds: &Grounds,
) -> Result<SignedToken, Rejection> {
    if let Some(said) = &grounds.introspection {
        let accepted = received.opaque_of(policy)?.ok_or(Rejection::IssuerNotAllowed)?;
        return SignedToken::introspected(said, accepted, hash);
    }
    let parsed = ParsedToken::parse(received, policy)?;
    let lookup = KeyLookup { keys: ctx.keys, fresh: true };
    SignedToken::verify(parsed, hash, lookup).map_err(|not_signed| match not_signed {
        NotSigned::Refused(rejection) => rejection,
        NotSigned::NeedKeys(_) => Rejection::KeyNotFound,
        NotSigned::Unread(_) => Rejection::IntrospectionUnavailable,
    })
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
        let answer = answer(rejection, Scheme::None, &Needed::default());
        Self { rejection, answer, client_id: None, token_hash: None, policy: None }
    }
}

fn refuse(rejection: Rejection, policy: &Policy, seen: Seen) -> Refusal {
    Refusal {
        rejection,
        answer: answer(rejection, seen.scheme.unwrap_or(Scheme::None), &seen.needed),
        client_id: seen.client_id(),
        token_hash: seen.token_hash(),
        policy: Some(policy.shared_name()),
    }
}

#[cfg(test)]
mod tests;
