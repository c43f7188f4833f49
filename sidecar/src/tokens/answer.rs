//! Reading what a token endpoint answered (RFC 6749 sections 5.1 and 5.2, RFC 8693 section 2.2), and checking it against what was asked.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fapi::{CertThumbprint, JwkThumbprint, SenderConstraint, UnixTime};
use http::StatusCode;
use serde::Deserialize;

use super::error::FetchError;
use super::request::ACCESS_TOKEN;

/// Tokens longer than this would not fit the header bound of the receiving sidecar.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// What the token must be bound to: the certificate and, for `DPoP`, the key that was used to ask for it.
pub(super) struct Binding {
    pub(super) certificate: CertThumbprint,
    /// Present exactly when a `DPoP`-bound token was asked for.
    pub(super) proof_key: Option<JwkThumbprint>,
}

impl Binding {
    fn constraint(&self) -> SenderConstraint {
        if self.proof_key.is_some() { SenderConstraint::Dpop } else { SenderConstraint::Mtls }
    }
}

/// What was asked for.
pub(super) struct Wanted<'a> {
    pub(super) binding: Binding,
    /// Space separated; empty: whatever the issuer gives.
    pub(super) scope: &'a str,
    /// The token says nothing to its client.
    pub(super) opaque: bool,
    /// It is asked for in exchange for another.
    pub(super) exchanged: bool,
}

/// A token that is what was asked for.
pub(super) struct Granted {
    pub(super) access_token: String,
    pub(super) expires: UnixTime,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    token_type: String,
    issued_token_type: Option<String>,
    expires_in: Option<u64>,
    scope: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    exp: u64,
    cnf: Option<Confirmation>,
}

/// Unknown members refuse: the receiving side would refuse the token as well.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    #[serde(rename = "x5t#S256")]
    certificate: Option<String>,
    jkt: Option<String>,
}

/// The token of a successful answer, or why there is none.
pub(super) fn read(status: StatusCode, body: &[u8], wanted: &Wanted<'_>, now: UnixTime) -> Result<Granted, FetchError> {
    if status != StatusCode::OK {
        return Err(FetchError::of(status, body));
    }
    let answer: TokenAnswer =
        serde_json::from_slice(body).map_err(|_| FetchError::Answer("not a token response (RFC 6749 section 5.1)"))?;
    if wanted.exchanged && answer.issued_token_type.as_deref() != Some(ACCESS_TOKEN) {
        return Err(FetchError::Answer("issued_token_type does not say that an access token was issued"));
    }
    check_type(&answer.token_type, wanted.binding.constraint())?;
    check_form(&answer.access_token)?;
    check_scope(answer.scope.as_deref(), wanted.scope)?;
    let told = answer.expires_in.map(|seconds| now.plus(seconds));
    let says = if wanted.opaque { None } else { Some(bound_until(&answer.access_token, &wanted.binding)?) };
    let ends = told.into_iter().chain(says).min();
    let expires = ends.ok_or(FetchError::Answer("the token is opaque, and expires_in is missing"))?;
    if expires <= now {
        return Err(FetchError::Answer("the token is already expired; compare the clocks of this node and the issuer"));
    }
    Ok(Granted { access_token: answer.access_token, expires })
}

/// The end of a token that says it is bound as asked.
fn bound_until(token: &str, binding: &Binding) -> Result<UnixTime, FetchError> {
    let claims = claims(token)?;
    check_confirmation(claims.cnf.as_ref(), binding)?;
    Ok(UnixTime::from_secs(claims.exp))
}

/// An issuer that gives less than was asked for says so (RFC 6749 section 3.3). The call would be refused; better here.
fn check_scope(given: Option<&str>, wanted: &str) -> Result<(), FetchError> {
    let given = given.unwrap_or(wanted);
    if wanted.split(' ').all(|scope| given.split(' ').any(|given| given == scope) || scope.is_empty()) {
        Ok(())
    } else {
        Err(FetchError::NotGranted("all of the scopes"))
    }
}

fn check_type(token_type: &str, constraint: SenderConstraint) -> Result<(), FetchError> {
    let expected = match constraint {
        SenderConstraint::Mtls => "Bearer",
        SenderConstraint::Dpop => "DPoP",
    };
    if token_type.eq_ignore_ascii_case(expected) {
        Ok(())
    } else {
        Err(FetchError::Answer("token_type does not fit the sender constraint that was asked for"))
    }
}

/// Only `b64token` characters (RFC 6750 section 2.1) may enter a header.
fn check_form(token: &str) -> Result<(), FetchError> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES || !token.bytes().all(fits) {
        return Err(FetchError::Answer("access_token is empty, longer than 8 KiB or not a b64token"));
    }
    Ok(())
}

fn claims(token: &str) -> Result<Claims, FetchError> {
    let unreadable = || {
        FetchError::Answer(
            "access_token is not a JWT whose payload can be read; if it is none, the FapiIssuer needs tokenFormat: Opaque",
        )
    };
    let payload = token.split('.').nth(1).ok_or_else(unreadable)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| unreadable())?;
    serde_json::from_slice(&payload).map_err(|_| unreadable())
}

/// A token that is not bound to us as asked would be refused by every receiver, or worse, be usable by others.
fn check_confirmation(cnf: Option<&Confirmation>, binding: &Binding) -> Result<(), FetchError> {
    let cnf = cnf.ok_or(FetchError::Answer("the token is not sender-constrained: it has no cnf"))?;
    let certificate = match &cnf.certificate {
        Some(text) => CertThumbprint::parse(text).is_ok_and(|t| t == binding.certificate),
        None => binding.proof_key.is_some(),
    };
    let key = match (&cnf.jkt, &binding.proof_key) {
        (Some(text), Some(key)) => JwkThumbprint::parse(text).is_ok_and(|t| t == *key),
        (None, None) => true,
        _ => false,
    };
    if certificate && key {
        Ok(())
    } else {
        Err(FetchError::Answer("the token's cnf names another certificate or key than ours"))
    }
}

#[cfg(test)]
mod tests;
