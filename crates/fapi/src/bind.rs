//! Where a token is tied to the one who sends it.

use crate::{
    challenge::Scheme,
    dpop::{CheckedProof, ProofHeaders, Target},
    policy::{Client, Credentials, Policy, Unmatched},
    rejection::Rejection,
    request::{Context, Request},
    token::{CurrentToken, ReceivedToken},
    value::{CertThumbprint, JwkThumbprint, SenderConstraint, UnixTime},
};

/// A current token whose every confirmation member the sender has proven, held by the workload it was issued to.
#[derive(Debug)]
pub(crate) struct BoundToken<'a> {
    token: CurrentToken<'a>,
    proof: Option<CheckedProof>,
}

impl<'a> BoundToken<'a> {
    /// Checks `cnf` (RFC 7800), each of its members (RFC 8705 section 3, RFC 9449 section 7) and then the current actor.
    pub(crate) fn prove(
        token: CurrentToken<'a>,
        received: &ReceivedToken<'_>,
        policy: &Policy,
        request: &Request<'_>,
        ctx: &Context<'_>,
        headers: &mut ProofHeaders,
    ) -> Result<Self, Rejection> {
        let key = check_members(&token, policy, ctx)?;
        let proof = match key {
            Some(key) => Some(check_proof(&token, key, received, request, ctx, headers)?),
            // Nothing in the token asks for the proof that the scheme promises (N7).
            None if received.scheme() == Scheme::Dpop => return Err(Rejection::BindingMissing),
            None => None,
        };
        check_actor(&token, ctx)?;
        Ok(Self { token, proof })
    }

    /// As [`BoundToken::prove`], for a call in progress: its proof was for the moment at which it began.
    pub(crate) fn prove_again(token: CurrentToken<'a>, policy: &Policy, ctx: &Context<'_>) -> Result<Self, Rejection> {
        check_members(&token, policy, ctx)?;
        check_actor(&token, ctx)?;
        Ok(Self { token, proof: None })
    }
}

/// Checks everything about `cnf` but the proof. Gives the key that the proof must be made with.
fn check_members(
    token: &CurrentToken<'_>,
    policy: &Policy,
    ctx: &Context<'_>,
) -> Result<Option<JwkThumbprint>, Rejection> {
    let confirmation = &token.claims().confirmation;
    if confirmation.unknown {
        return Err(Rejection::BindingUnknown);
    }
    let (certificate, key) = (confirmation.certificate, confirmation.proof_key);
    let by_certificate = certificate.is_some() && policy.accepts(SenderConstraint::Mtls);
    let by_proof = key.is_some() && policy.accepts(SenderConstraint::Dpop);
    if !by_certificate && !by_proof {
        return Err(Rejection::BindingMissing);
    }
    check_certificate(certificate, ctx)?;
    Ok(key)
}

fn check_actor(token: &CurrentToken<'_>, ctx: &Context<'_>) -> Result<(), Rejection> {
    let (claims, peer) = (token.claims(), &ctx.peer.spiffe_id);
    let is_peer = match token.signed().external() {
        None => *claims.actor == *peer.as_str(),
        // Whatever it says, a token from outside names nobody here: the policy alone knows which workloads a client is.
        Some(external) => external.maps(&claims.client_id, peer),
    };
    if is_peer { Ok(()) } else { Err(Rejection::CallerMismatch) }
}

fn check_certificate(bound_to: Option<CertThumbprint>, ctx: &Context<'_>) -> Result<(), Rejection> {
    match bound_to {
        Some(thumbprint) if thumbprint != ctx.peer.thumbprint => Err(Rejection::BindingCertMismatch),
        _ => Ok(()),
    }
}

fn check_proof(
    token: &CurrentToken<'_>,
    key: JwkThumbprint,
    received: &ReceivedToken<'_>,
    request: &Request<'_>,
    ctx: &Context<'_>,
    headers: &mut ProofHeaders,
) -> Result<CheckedProof, Rejection> {
    if received.scheme() != Scheme::Dpop {
        return Err(Rejection::BoundTokenSentAsBearer);
    }
    let header = received.proof().ok_or(Rejection::ProofMissing)?;
    let target = Target {
        method: request.method,
        origins: token.resources().flat_map(|resource| &resource.origins),
        path: request.path,
        token: Some((token.signed().hash(), key)),
        nonces: ctx.nonces,
        now: ctx.now,
    };
    CheckedProof::check(header, target, headers)
}

/// A call that a rule allows. Only the reservation of its proof is left.
#[derive(Debug)]
pub(crate) struct AllowedCall {
    replay_key: Option<[u8; 16]>,
    ends: UnixTime,
}

impl AllowedCall {
    /// Checks rule, caller and actors, scopes and details, and then the age of the token, on a path in normal form.
    pub(crate) fn check<'p>(
        bound: &BoundToken<'_>,
        policy: &'p Policy,
        path: &str,
        request: &Request<'_>,
        ctx: &Context<'_>,
    ) -> Result<Self, Unmatched<'p>> {
        let claims = bound.token.claims();
        let external = bound.token.signed().external();
        let credentials = Credentials {
            caller: &ctx.peer.spiffe_id,
            client: external.map(|external| Client { issuer: &external.name, id: &claims.client_id }),
            actors: claims.actors,
            scopes: &claims.scopes,
            details: &claims.details,
            age: ctx.now.since(claims.issued),
        };
        let matched = policy.judge(path, request.method, &credentials)?;
        let bounds = [matched.max_age, external.map(|external| external.max_age)];
        let max_age = bounds.into_iter().flatten().min();
        if let Some(bound) = max_age.filter(|bound| credentials.age > *bound) {
            return Err(Unmatched::Age(bound));
        }
        let ends = max_age.map_or(claims.expires, |secs| claims.issued.plus(secs).min(claims.expires));
        Ok(Self { replay_key: bound.proof.as_ref().map(CheckedProof::replay_key), ends })
    }

    /// Reserves the proof, the last check and the only effect of a decision.
    pub(crate) fn reserve(self, ctx: &Context<'_>) -> Result<ReservedCall, Rejection> {
        if let Some(key) = self.replay_key {
            ctx.replay.reserve(&ctx.peer.spiffe_id, key, ctx.now)?;
        }
        Ok(ReservedCall { ends: self.ends })
    }
}

/// A call that passed every check. Only this makes an admission that carries an identity.
#[derive(Debug)]
pub(crate) struct ReservedCall {
    ends: UnixTime,
}

impl ReservedCall {
    /// When what it rests on ends: the token, or the age up to which the rule takes it.
    pub(crate) const fn ends(&self) -> UnixTime {
        self.ends
    }
}
