use std::sync::Arc;

use super::{Claims, ParsedToken};
use crate::{
    crypto::PublicKey,
    introspection::{Introspection, Unread},
    jwks::IssuerKeys,
    policy::{Accepted, External, TokenTyp},
    rejection::Rejection,
    value::{Issuer, SigningAlg, TokenHash, UnixTime},
};

/// A token that an allowed issuer signed with one of its keys, or has said to be its own. Only that is proven, so it may be
/// kept.
#[derive(Debug)]
pub(crate) struct SignedToken {
    pub(super) claims: Claims,
    pub(super) is_access_token: bool,
    /// How the policy reads its issuer; `None`: the mesh's own. It is kept under one generation of policy only.
    external: Option<Arc<External>>,
    hash: TokenHash,
    /// What the issuer said of it; `None`: it is signed.
    introspection: Option<Arc<Introspection>>,
}

/// The keys at hand, and whether they were fetched for this very request.
#[derive(Clone, Copy)]
pub(crate) struct KeyLookup<'a> {
    pub(crate) keys: &'a IssuerKeys,
    pub(crate) fresh: bool,
}

/// Why a token has no proven signature.
#[derive(Debug)]
pub(crate) enum NotSigned {
    Refused(Rejection),
    /// The key may exist, but is not here.
    NeedKeys(Issuer),
    /// Only its issuer can read it.
    Unread(Unread),
}

impl From<Rejection> for NotSigned {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }
}

impl SignedToken {
    /// Checks algorithm, key and signature, in this order (RFC 9068 section 4, RFC 8725 sections 3.1, 3.8).
    pub(crate) fn verify(
        parsed: ParsedToken<'_, '_>,
        hash: TokenHash,
        lookup: KeyLookup<'_>,
    ) -> Result<Self, NotSigned> {
        let ParsedToken { jws, header, claims, accepted } = parsed;
        let header = header.view();
        let malformed = Rejection::TokenMalformed;
        let alg = header.need_text("alg").map_err(|_| malformed)?;
        let alg = SigningAlg::from_jose(alg).ok_or(Rejection::AlgNotAllowed)?;
        let kid = header.text("kid").map_err(|_| malformed)?;
        let typ = header.text("typ").map_err(|_| malformed)?;
        let external = accepted.external.clone();
        let is_access_token = typ.is_some_and(|typ| is_access_token(typ, external.as_deref()));
        let keys = find_keys(lookup, accepted, kid, alg)?;
        if !keys.iter().any(|key| jws.is_signed_by(key)) {
            return Err(Rejection::SignatureInvalid.into());
        }
        Ok(Self { claims, is_access_token, external, hash, introspection: None })
    }

    /// Takes what the issuer of a token says of it, however long ago.
    pub(crate) fn introspected(
        said: &Arc<Introspection>,
        accepted: &Accepted,
        hash: TokenHash,
    ) -> Result<Self, Rejection> {
        let (Some(external), true) = (&accepted.external, said.token == hash && said.issuer == accepted.issuer) else {
            return Err(Rejection::IssuerNotAllowed);
        };
        let active = said.active.as_ref().ok_or(Rejection::TokenInactive)?;
        let read = Claims::introspected(active.view(), accepted.issuer.as_str(), external);
        let claims = read.map_err(|_| Rejection::TokenMalformed)?;
        if *claims.issuer != *accepted.issuer.as_str() {
            return Err(Rejection::IssuerNotAllowed);
        }
        let (external, introspection) = (Some(Arc::clone(external)), Some(Arc::clone(said)));
        Ok(Self { claims, is_access_token: true, external, hash, introspection })
    }

    /// Whether it still counts: what an issuer said of a token does not for long.
    pub(crate) fn counts(&self, now: UnixTime) -> bool {
        self.introspection.as_ref().is_none_or(|said| now < said.until())
    }

    /// What its issuer said of it.
    pub(crate) const fn introspection(&self) -> Option<&Arc<Introspection>> {
        self.introspection.as_ref()
    }

    pub(crate) const fn claims(&self) -> &Claims {
        &self.claims
    }

    pub(crate) fn external(&self) -> Option<&External> {
        self.external.as_deref()
    }

    pub(crate) const fn hash(&self) -> &TokenHash {
        &self.hash
    }
}

/// The keys of this issuer, id and algorithm. Never those of another issuer with the same id.
fn find_keys<'a>(
    lookup: KeyLookup<'a>,
    accepted: &Accepted,
    kid: Option<&str>,
    alg: SigningAlg,
) -> Result<Vec<&'a PublicKey>, NotSigned> {
    let Accepted { issuer, external } = accepted;
    let set = lookup.keys.get(issuer);
    let found = set.map(|keys| keys.candidates(kid, alg)).unwrap_or_default();
    match (found.is_empty(), lookup.fresh) {
        (false, _) => Ok(found),
        // Those of the mesh are brought by the operator; those of others may not have been reached.
        (true, true) if set.is_none() && external.is_some() => Err(Rejection::IssuerUnavailable.into()),
        (true, true) => Err(Rejection::KeyNotFound.into()),
        (true, false) => Err(NotSigned::NeedKeys(issuer.clone())),
    }
}

/// RFC 9068 section 4; media types are compared without case (RFC 2045 section 5.1). `JWT`, which says nothing, only where
/// the policy takes it of this issuer.
pub(super) fn is_access_token(typ: &str, external: Option<&External>) -> bool {
    let takes_jwt = external.is_some_and(|external| external.typ == TokenTyp::Jwt);
    typ.eq_ignore_ascii_case("at+jwt")
        || typ.eq_ignore_ascii_case("application/at+jwt")
        || (takes_jwt && typ.eq_ignore_ascii_case("JWT"))
}
