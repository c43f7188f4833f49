//! How a refusal is told to the caller: the one mapping from [`Rejection`] to the wire.

use http::StatusCode;

use crate::{
    rejection::{Rejection, Tell},
    value::{ScopeSet, SigningAlg},
};

/// The authentication scheme that the caller used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// None, or one that is not understood: the answer offers both.
    None,
    /// `Bearer` (RFC 6750).
    Bearer,
    /// `DPoP` (RFC 9449 section 7.1).
    Dpop,
}

/// What the caller is told. It names the OAuth error and never the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status of the response.
    pub status: StatusCode,
    /// The `WWW-Authenticate` header, if one belongs to the answer.
    pub www_authenticate: Option<String>,
    /// The error code for the body; `None` where RFC 6750 section 3.1 wants none.
    pub error: Option<&'static str>,
    /// Whether exactly one `DPoP-Nonce` and `Cache-Control: no-store` must be added (RFC 9449 section 9).
    pub wants_nonce: bool,
}

/// What a token would have to be for the call to pass; told to the caller where an RFC has a parameter for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needed {
    /// The scopes (RFC 6750 section 3.1); `None` where they are not what is missing.
    pub scopes: Option<ScopeSet>,
    /// The greatest age in seconds (RFC 9470 section 3).
    pub max_age: Option<u64>,
}

/// The answer to a refused call. A rejection that ends a connection before HTTP gives 400 here, should it be asked.
#[must_use]
pub fn answer(rejection: Rejection, scheme: Scheme, needed: &Needed) -> Answer {
    let status = rejection.status().and_then(|status| StatusCode::from_u16(status).ok());
    let (error, www_authenticate) = match rejection.tell() {
        Tell::Nothing => (None, None),
        Tell::Plain(error) => (Some(error), None),
        Tell::Credentials => (None, Some(challenges(Scheme::None, ""))),
        Tell::Token => coded(scheme, "invalid_token"),
        Tell::Request => coded(Scheme::None, "invalid_request"),
        Tell::Proof => coded(Scheme::Dpop, "invalid_dpop_proof"),
        Tell::Nonce => coded(Scheme::Dpop, "use_dpop_nonce"),
        Tell::Scope => {
            // Where authorization details are missing (RFC 9396) there may be no scope to name.
            let named = needed.scopes.as_ref().filter(|scopes| !scopes.is_empty());
            with(scheme, "insufficient_scope", named.map(|scopes| format!(", scope=\"{scopes}\"")))
        }
        Tell::Age => {
            let bound = needed.max_age.map(|secs| format!(", max_age=\"{secs}\""));
            with(scheme, "insufficient_user_authentication", bound)
        }
    };
    Answer {
        status: status.unwrap_or(StatusCode::BAD_REQUEST),
        www_authenticate,
        error,
        wants_nonce: rejection.tell() == Tell::Nonce,
    }
}

fn coded(scheme: Scheme, error: &'static str) -> (Option<&'static str>, Option<String>) {
    with(scheme, error, None)
}

fn with(scheme: Scheme, error: &'static str, more: Option<String>) -> (Option<&'static str>, Option<String>) {
    let params = format!("error=\"{error}\"{}", more.unwrap_or_default());
    (Some(error), Some(challenges(scheme, &params)))
}

fn challenges(scheme: Scheme, params: &str) -> String {
    let algs = SigningAlg::OFFERED;
    // RFC 6750 section 3: at least one parameter follows `Bearer`.
    let bearer = format!("Bearer {}", if params.is_empty() { "realm=\"fapi-mesh\"" } else { params });
    let comma = if params.is_empty() { "" } else { ", " };
    let dpop = format!("DPoP {params}{comma}algs=\"{algs}\"");
    match scheme {
        Scheme::None => format!("{bearer}, {dpop}"),
        Scheme::Bearer => bearer,
        Scheme::Dpop => dpop,
    }
}

#[cfg(test)]
mod tests;
