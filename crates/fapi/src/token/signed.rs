use super::{Claims, ParsedToken};
use crate::{
    crypto::PublicKey,
    jwks::IssuerKeys,
    policy::Policy,
    rejection::Rejection,
    value::{Issuer, SigningAlg, TokenHash},
};

/// A token that an allowed issuer signed with one of its keys. Only its signature is proven, so it may be kept.
#[derive(Debug)]
pub(crate) struct SignedToken {
    pub(super) claims: Claims,
    pub(super) is_access_token: bool,
    hash: TokenHash,
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
}

impl From<Rejection> for NotSigned {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }
}

impl SignedToken {
    /// Checks issuer, algorithm, key and signature, in this order (RFC 9068 section 4, RFC 8725 sections 3.1, 3.8).
    pub(crate) fn verify(
        parsed: ParsedToken<'_>,
        hash: TokenHash,
        policy: &Policy,
        lookup: KeyLookup<'_>,
    ) -> Result<Self, NotSigned> {
        let ParsedToken { jws, header, claims } = parsed;
        let header = header.view();
        let issuer = policy.issuer(&claims.issuer).ok_or(Rejection::IssuerNotAllowed)?;
        let malformed = Rejection::TokenMalformed;
        let alg = header.need_text("alg").map_err(|_| malformed)?;
        let alg = SigningAlg::from_jose(alg).ok_or(Rejection::AlgNotAllowed)?;
        let kid = header.text("kid").map_err(|_| malformed)?;
        let typ = header.text("typ").map_err(|_| malformed)?;
        let is_access_token = typ.is_some_and(is_access_token);
        let keys = find_keys(lookup, issuer, kid, alg)?;
        if !keys.iter().any(|key| jws.is_signed_by(key)) {
            return Err(Rejection::SignatureInvalid.into());
        }
        Ok(Self { claims, is_access_token, hash })
    }

    pub(crate) const fn claims(&self) -> &Claims {
        &self.claims
    }

    pub(crate) const fn hash(&self) -> &TokenHash {
        &self.hash
    }
}

/// The keys of this issuer, id and algorithm. Never those of another issuer with the same id.
fn find_keys<'a>(
    lookup: KeyLookup<'a>,
    issuer: &Issuer,
    kid: Option<&str>,
    alg: SigningAlg,
) -> Result<Vec<&'a PublicKey>, NotSigned> {
    let found = lookup.keys.get(issuer).map(|keys| keys.candidates(kid, alg)).unwrap_or_default();
    match (found.is_empty(), lookup.fresh) {
        (false, _) => Ok(found),
        (true, true) => Err(Rejection::KeyNotFound.into()),
        (true, false) => Err(NotSigned::NeedKeys(issuer.clone())),
    }
}

/// RFC 9068 section 4; media types are compared without case (RFC 2045 section 5.1).
pub(super) fn is_access_token(typ: &str) -> bool {
    typ.eq_ignore_ascii_case("at+jwt") || typ.eq_ignore_ascii_case("application/at+jwt")
}
