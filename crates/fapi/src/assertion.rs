//! Client assertions: `private_key_jwt` (RFC 7523 section 3, FAPI 2.0 SP 5.3.2.1).

use std::sync::Arc;

use serde_json::json;

use crate::{
    json::{Members, NotStrict},
    jwks::KeySet,
    jws::{Compact, SigningError, SigningKey},
    token::FUTURE_LEEWAY,
    value::{SigningAlg, UnixTime},
};

/// An assertion that is a well-formed JWT and names a client. Nothing it says is proven.
pub struct ClientAssertion<'a> {
    jws: Compact<'a>,
    header: Members,
    client: Box<str>,
}

/// An assertion that a key of the client has signed, for this server and this moment. It counts once: whoever takes it
/// remembers its id until its end.
#[derive(Debug, PartialEq, Eq)]
pub struct VerifiedAssertion {
    id: Box<str>,
    until: UnixTime,
}

/// Why an assertion proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AssertionFault {
    /// No strict compact JWS, a claim is missing or of another kind, or the header brings a key.
    #[error("it is no JWT with iss, sub, aud, exp and jti, or its header brings a key of its own")]
    Malformed,
    /// `typ` is that of another kind of JWT (RFC 8725 section 3.11).
    #[error("its typ is that of another kind of JWT; leave it out, or use client-authentication+jwt")]
    Type,
    /// `iss` and `sub` differ (RFC 7523 section 3).
    #[error("iss and sub must both be the client_id")]
    Subject,
    /// Not one that FAPI 2.0 SP 5.4.1 allows.
    #[error("its alg must be ES256, PS256 or EdDSA")]
    Algorithm,
    /// No registered key of this id and algorithm, or no id and a choice of keys.
    #[error("the client has no key of this kid and alg; one that has several keys must name the kid")]
    KeyNotFound,
    /// Another key has signed, or something was changed.
    #[error("its signature is not by the key of the client")]
    Signature,
    /// FAPI 2.0 SP 5.3.2.1: the issuer identifier, as one text.
    #[error("its aud must be the issuer identifier, as a string and not a list")]
    Audience,
    /// `exp` has passed.
    #[error("it has expired")]
    Expired,
    /// `iat` or `nbf` lie ahead.
    #[error("its iat or nbf is more than 10 seconds ahead")]
    NotYetValid,
    /// It could be used for too long, if it were stolen.
    #[error("it must end within 5 minutes")]
    TooLong,
}

impl<'a> ClientAssertion<'a> {
    /// Reads the `client_assertion` parameter strictly.
    ///
    /// # Errors
    /// [`AssertionFault::Malformed`], [`AssertionFault::Type`] or [`AssertionFault::Subject`].
    pub fn parse(text: &'a str) -> Result<Self, AssertionFault> {
        let jws = Compact::parse(text, MAX_BYTES)?;
        let header = jws.header()?;
        if OWN_KEYS.iter().any(|name| header.view().has(name)) {
            return Err(AssertionFault::Malformed);
        }
        let typ = header.view().text("typ")?;
        if typ.is_some_and(|typ| !TYPES.iter().any(|known| typ.eq_ignore_ascii_case(known))) {
            return Err(AssertionFault::Type);
        }
        let client = jws.payload().need_text("sub")?;
        if client.is_empty() || jws.payload().need_text("iss")? != client {
            return Err(AssertionFault::Subject);
        }
        Ok(Self { client: client.into(), jws, header })
    }

    /// The client that it claims to be from.
    #[must_use]
    pub fn client(&self) -> &str {
        &self.client
    }

    /// Checks algorithm, key, signature, audience and times, in this order. `issuer` is the identifier of this server;
    /// `keys` are those of the client and of nobody else.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn verify(
        &self,
        issuer: &str,
        keys: &[Arc<KeySet>],
        now: UnixTime,
    ) -> Result<VerifiedAssertion, AssertionFault> {
        let alg = self.header.view().need_text("alg")?;
        let alg = SigningAlg::from_jose(alg).ok_or(AssertionFault::Algorithm)?;
        let kid = self.header.view().text("kid")?;
        let candidates: Vec<_> = keys.iter().flat_map(|keys| keys.candidates(kid, alg)).collect();
        // Of keys in several sets, too, none is tried after the other for want of a name.
        if candidates.is_empty() || (kid.is_none() && candidates.len() > 1) {
            return Err(AssertionFault::KeyNotFound);
        }
        if !candidates.iter().any(|key| self.jws.is_signed_by(key)) {
            return Err(AssertionFault::Signature);
        }
        let claims = self.jws.payload();
        if claims.value("aud").ok_or(NotStrict)?.as_str() != Some(issuer) {
            return Err(AssertionFault::Audience);
        }
        let until = self.check_times(now)?;
        let id = claims.need_text("jti")?;
        if !(1..=MAX_ID).contains(&id.len()) {
            return Err(AssertionFault::Malformed);
        }
        Ok(VerifiedAssertion { id: id.into(), until })
    }

    /// Gives the second from which it is refused for its age.
    fn check_times(&self, now: UnixTime) -> Result<UnixTime, AssertionFault> {
        let claims = self.jws.payload();
        let expires = UnixTime::from_secs(claims.need_seconds("exp")?);
        let until = expires.plus(EXP_LEEWAY);
        if now >= until {
            return Err(AssertionFault::Expired);
        }
        let latest = now.plus(FUTURE_LEEWAY);
        let starts = [claims.seconds("iat")?, claims.seconds("nbf")?];
        if starts.into_iter().flatten().any(|start| UnixTime::from_secs(start) > latest) {
            return Err(AssertionFault::NotYetValid);
        }
        if expires > latest.plus(MAX_LIFE) { Err(AssertionFault::TooLong) } else { Ok(until) }
    }
}

impl VerifiedAssertion {
    /// `jti`: of all assertions of one client, each has its own.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// From then on it is refused for its age, so its id may be forgotten.
    #[must_use]
    pub const fn until(&self) -> UnixTime {
        self.until
    }
}

/// Signs the assertion of `client` for one request to the server `issuer`. `id` must be new each time.
///
/// # Errors
/// [`SigningError::Crypto`].
pub fn sign_assertion(
    key: &SigningKey,
    client: &str,
    issuer: &str,
    id: &str,
    now: UnixTime,
) -> Result<String, SigningError> {
    let (iat, exp) = (now.as_secs(), now.plus(OWN_LIFE).as_secs());
    let claims = json!({"iss": client, "sub": client, "aud": issuer, "jti": id, "iat": iat, "exp": exp});
    key.sign_jwt("JWT", &claims)
}

impl From<NotStrict> for AssertionFault {
    fn from(_: NotStrict) -> Self {
        Self::Malformed
    }
}

/// The value of `client_assertion_type` (RFC 7523 section 2.2).
pub const CLIENT_ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

const MAX_BYTES: usize = 4 * 1024;
const MAX_ID: usize = 256;
const OWN_KEYS: [&str; 4] = ["jwk", "jku", "x5u", "x5c"];
/// Clients that know no better say `JWT`; the last two are the draft that updates RFC 7523.
const TYPES: [&str; 3] = ["JWT", "client-authentication+jwt", "application/client-authentication+jwt"];
/// Seconds that an assertion is taken after its `exp`.
const EXP_LEEWAY: u64 = 5;
/// Seconds that `exp` may lie ahead, by the clock of a client that may itself be ahead.
const MAX_LIFE: u64 = 300;
/// Seconds that an assertion of ours lives: it is made for one request.
const OWN_LIFE: u64 = 60;

#[cfg(test)]
mod tests;
