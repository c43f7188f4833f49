use super::{Claims, ReceivedToken};
use crate::{
    json::Members,
    jws::Compact,
    policy::{Accepted, Policy},
    rejection::Rejection,
};

/// A token that is one well-formed JWS with the claims of an issuer that the policy takes. Nothing it says is proven.
pub(crate) struct ParsedToken<'a, 'p> {
    pub(super) jws: Compact<'a>,
    pub(super) header: Members,
    pub(super) claims: Claims,
    pub(super) accepted: &'p Accepted,
}

impl<'a, 'p> ParsedToken<'a, 'p> {
    /// Reads a token strictly, in the way of the issuer that it names. A header that brings its own key is refused: keys
    /// come from the issuer (RFC 8725 section 3.10), and a reader behind us might follow it.
    pub(crate) fn parse(received: &ReceivedToken<'a>, policy: &'p Policy) -> Result<Self, Rejection> {
        let malformed = |_| Rejection::TokenMalformed;
        let jws = Compact::parse(received.text()?, MAX_TOKEN_BYTES).map_err(malformed)?;
        let header = jws.header().map_err(malformed)?;
        if OWN_KEYS.iter().any(|name| header.view().has(name)) {
            return Err(Rejection::TokenMalformed);
        }
        let issuer = jws.payload().need_text("iss").map_err(malformed)?;
        let accepted = policy.issuer(issuer).ok_or(Rejection::IssuerNotAllowed)?;
        let claims = Claims::parse(jws.payload(), accepted.external.as_deref()).map_err(malformed)?;
        Ok(Self { jws, header, claims, accepted })
    }
}

/// A token with more bytes than this is refused: it has to fit into a header.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

const OWN_KEYS: [&str; 4] = ["jwk", "jku", "x5u", "x5c"];
