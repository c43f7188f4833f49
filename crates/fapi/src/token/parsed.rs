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

impl ReceivedToken<'_> {
    /// The issuer of this token, if only that can read it.
    ///
    /// What looks like a JWT is asked about only at the issuer that it names, so that no token is shown to a server that it
    /// is not of.
    pub(crate) fn opaque_of<'p>(&self, policy: &'p Policy) -> Result<Option<&'p Accepted>, Rejection> {
        let Some(accepted) = policy.opaque_issuer() else { return Ok(None) };
        let text = self.text()?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
        if text.len() > MAX_TOKEN_BYTES || !text.bytes().all(plain) {
            return Ok(None);
        }
        // An encrypted JWT (five parts, RFC 7516 section 7.1) names no issuer that we could read: it is as opaque as any other text.
        let is_jwt = text.starts_with("eyJ") && !matches!(text.matches('.').count(), 0 | 1 | 4);
        let named = Compact::parse(text, MAX_TOKEN_BYTES).ok();
        let named = named.as_ref().map(|jws| jws.payload().text("iss").ok().flatten());
        Ok(match named {
            Some(issuer) => issuer == Some(accepted.issuer.as_str()),
            None => !is_jwt,
        }
        .then_some(accepted))
    }
}

/// A token with more bytes than this is refused: it has to fit into a header.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

const OWN_KEYS: [&str; 4] = ["jwk", "jku", "x5u", "x5c"];
