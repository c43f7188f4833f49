//! What an issuer says about a token that only it can read (RFC 7662, RFC 9701).

use std::{fmt, sync::Arc};

use serde_json::Value;

use crate::{
    json::{Members, NotStrict, View},
    jwks::KeySet,
    jws::Compact,
    token::FUTURE_LEEWAY,
    value::{Audience, Issuer, SigningAlg, TokenHash, UnixTime},
};

/// An issuer's answer about one token. What it says is checked by [`crate::decide()`] like the claims of any token.
#[derive(Debug)]
pub struct Introspection {
    pub(crate) issuer: Issuer,
    pub(crate) token: TokenHash,
    /// `None`: the token is not active.
    pub(crate) active: Option<Members>,
    until: UnixTime,
}

/// Why an answer says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IntrospectionFault {
    /// No JSON object with a boolean `active`; signed: no JWT with such an object.
    #[error("it is no introspection response (RFC 7662 section 2.2, RFC 9701 section 5)")]
    Malformed,
    /// Not the type of RFC 9701 section 5.
    #[error("its typ is not token-introspection+jwt")]
    Type,
    /// Not one that FAPI 2.0 SP 5.4.1 allows.
    #[error("its alg is not ES256, PS256 or EdDSA")]
    Algorithm,
    /// The issuer has no such key.
    #[error("the issuer publishes no key of this kid and alg")]
    KeyNotFound,
    /// Another key has signed, or something was changed.
    #[error("its signature is not by the key of the issuer")]
    Signature,
    /// It is from, or for, somebody else.
    #[error("its iss is not the issuer, or its aud neither this client nor an audience that the policy takes")]
    Meant,
    /// It was made at another time.
    #[error("its iat is missing, ahead, or more than 5 minutes ago")]
    Time,
}

/// Whom a token is to be asked about, and where. Never shows the token.
pub struct Unread {
    /// The issuer that may know it.
    pub issuer: Issuer,
    /// The token.
    pub token: Box<str>,
    /// Its hash.
    pub hash: TokenHash,
    /// What the port is called in tokens of this issuer.
    pub audiences: Vec<Audience>,
}

impl fmt::Debug for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unread").field("issuer", &self.issuer).field("hash", &self.hash).finish_non_exhaustive()
    }
}

/// What is known about a token that only its issuer can read.
#[derive(Debug, Clone, Copy, Default)]
pub enum Introspected<'a> {
    /// Nobody was asked yet.
    #[default]
    NotAsked,
    /// The issuer was asked and did not answer in time, or not in order.
    Unavailable,
    /// It answered.
    Answered(&'a Arc<Introspection>),
}

impl Introspection {
    /// Reads the plain answer of `issuer` about a token (RFC 7662 section 2.2). It counts until `until` and never longer than
    /// the token.
    ///
    /// # Errors
    /// [`IntrospectionFault::Malformed`].
    pub fn parse(issuer: &Issuer, token: TokenHash, json: &[u8], until: UnixTime) -> Result<Self, IntrospectionFault> {
        Self::new(issuer, token, Members::parse(json)?, until)
    }

    /// Reads the signed answer of `issuer` to the resource server that it knows by `names` (RFC 9701 section 5), in the same
    /// way.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn verify(
        (issuer, keys): (&Issuer, &KeySet),
        names: &[&str],
        token: TokenHash,
        jwt: &str,
        (now, until): (UnixTime, UnixTime),
    ) -> Result<Self, IntrospectionFault> {
        let jws = Compact::parse(jwt, MAX_BYTES)?;
        let header = jws.header()?;
        let header = header.view();
        if !header.text("typ")?.is_some_and(is_introspection) {
            return Err(IntrospectionFault::Type);
        }
        let alg = SigningAlg::from_jose(header.need_text("alg")?).ok_or(IntrospectionFault::Algorithm)?;
        let candidates = keys.candidates(header.text("kid")?, alg);
        if candidates.is_empty() {
            return Err(IntrospectionFault::KeyNotFound);
        }
        if !candidates.iter().any(|key| jws.is_signed_by(key)) {
            return Err(IntrospectionFault::Signature);
        }
        let claims = jws.payload();
        if claims.need_text("iss")? != issuer.as_str() || !is_for(claims, names) {
            return Err(IntrospectionFault::Meant);
        }
        let made = claims.seconds("iat")?.map(UnixTime::from_secs).ok_or(IntrospectionFault::Time)?;
        if made > now.plus(FUTURE_LEEWAY) || now > made.plus(MAX_AGE) {
            return Err(IntrospectionFault::Time);
        }
        let answer = claims.value("token_introspection").ok_or(NotStrict)?;
        Self::new(issuer, token, Members::owned(Members::of(answer)?), until)
    }

    /// Whether the issuer says that the token is good.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.active.is_some()
    }

    /// Nothing rests on it from then on.
    #[must_use]
    pub const fn until(&self) -> UnixTime {
        self.until
    }

    fn new(issuer: &Issuer, token: TokenHash, answer: Members, until: UnixTime) -> Result<Self, IntrospectionFault> {
        let is_active = answer.view().value("active").and_then(Value::as_bool).ok_or(NotStrict)?;
        let ends = answer.view().seconds("exp")?.map(UnixTime::from_secs);
        let until = ends.map_or(until, |ends| ends.min(until));
        Ok(Self { issuer: issuer.clone(), token, active: is_active.then_some(answer), until })
    }
}

impl From<NotStrict> for IntrospectionFault {
    fn from(_: NotStrict) -> Self {
        Self::Malformed
    }
}

fn is_introspection(typ: &str) -> bool {
    ["token-introspection+jwt", "application/token-introspection+jwt"].iter().any(|name| typ.eq_ignore_ascii_case(name))
}

/// Whether `aud` of the answer identifies us.
///
/// RFC 9701 section 5 wants it to identify the resource server that receives the answer, and leaves open by which name. Servers
/// write either the client that has asked (oidc-provider does) or the resource as tokens call it (the example of the RFC), so
/// both are taken, and nothing else. Whom the *token* is for is another question: the `aud` inside `token_introspection` is
/// judged like that of any token. An answer for a resource server that shares an audience with us tells nothing that we
/// could not have been told.
fn is_for(claims: View<'_>, names: &[&str]) -> bool {
    let is_ours = |text: &Value| text.as_str().is_some_and(|text| names.contains(&text));
    match claims.value("aud") {
        Some(Value::Array(list)) => list.iter().any(is_ours),
        Some(one) => is_ours(one),
        None => false,
    }
}

const MAX_BYTES: usize = 64 * 1024;
/// Seconds since it was made.
const MAX_AGE: u64 = 300;
