use super::{Claims, SignedToken};
use crate::{
    policy::{Policy, Resource},
    rejection::Rejection,
    request::Context,
};

/// A signed token that is an access token, valid at this moment and for this service. It is never kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CurrentToken<'a> {
    signed: &'a SignedToken,
    policy: &'a Policy,
}

impl<'a> CurrentToken<'a> {
    /// Checks revocation, `typ`, the times and the audience, in this order (FAPI 2.0 SP 5.3.4, RFC 9068 section 4; FAPI 2.0
    /// SP 5.3.2.1 for the clock). Revocation is first, so that `Audit` waives nothing before it.
    pub(crate) fn check(signed: &'a SignedToken, policy: &'a Policy, ctx: &Context<'_>) -> Result<Self, Rejection> {
        let now = ctx.now;
        ctx.revocations.check_token(&signed.claims, ctx.peer, now)?;
        if !signed.is_access_token {
            return Err(Rejection::TokenType);
        }
        let claims = &signed.claims;
        if now >= claims.expires.plus(EXP_LEEWAY) {
            return Err(Rejection::TokenExpired);
        }
        let latest = now.plus(FUTURE_LEEWAY);
        if claims.issued > latest || claims.not_before.is_some_and(|start| start > latest) {
            return Err(Rejection::TokenNotYetValid);
        }
        let current = Self { signed, policy };
        if current.resources().next().is_none() {
            return Err(Rejection::AudienceMismatch);
        }
        Ok(current)
    }

    pub(crate) const fn claims(&self) -> &'a Claims {
        &self.signed.claims
    }

    pub(crate) const fn signed(&self) -> &'a SignedToken {
        self.signed
    }

    /// The resources that the token is for; only their origins count for a proof.
    pub(crate) fn resources(&self) -> impl Iterator<Item = &'a Resource> + use<'a> {
        let audiences = &self.signed.claims.audiences;
        let is_meant = |resource: &&Resource| audiences.iter().any(|text| **text == *resource.audience.as_str());
        let resources = self.signed.external().map_or(self.policy.resources(), |external| &external.resources);
        resources.iter().filter(is_meant)
    }
}

/// Seconds that a token is taken after its `exp`.
const EXP_LEEWAY: u64 = 5;
/// Seconds that `iat` and `nbf` may lie ahead.
pub(crate) const FUTURE_LEEWAY: u64 = 10;
