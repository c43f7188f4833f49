//! Why a token could not be had.

use std::time::Duration;

use fapi::Rejection;
use http::StatusCode;
use serde::Deserialize;

/// Why one fetch failed. The text is for the log: it never holds a token or anything the issuer wrote freely.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum FetchError {
    /// The issuer answered, and the answer is no (RFC 6749 section 5.2, RFC 8707 section 2, RFC 9396 section 5).
    #[error(
        "the issuer does not grant it: {0}; look at the status of the FapiClient and at the rules of the target's FapiPolicy"
    )]
    NotGranted(&'static str),
    /// The issuer refused for a reason that asking again may cure.
    #[error("the issuer refused: {0}")]
    Refused(&'static str),
    /// The issuer wants its nonce in the proof (RFC 9449 section 8).
    #[error("the issuer asked for its nonce twice in a row")]
    Nonce,
    /// An answer that is no OAuth answer.
    #[error("the issuer answered {0} without an OAuth error")]
    Status(StatusCode),
    /// An answer that is not what was asked for.
    #[error("the issuer's answer cannot be used: {0}")]
    Answer(&'static str),
    /// The issuer has too much to do.
    #[error("the issuer answered {status}: it wants to be left alone for {rest:?}")]
    Busy {
        /// 429, or 503 with a time.
        status: StatusCode,
        /// How long.
        rest: Duration,
    },
    /// The issuer could not be reached, or did not answer in time.
    #[error("the issuer cannot be reached: {0}")]
    Unreachable(String),
}

/// Codes that a server may give for what is wrong with a client, or with itself.
const REFUSED: [&str; 11] = [
    "invalid_client",
    "unauthorized_client",
    "invalid_request",
    "invalid_grant",
    "unsupported_grant_type",
    "invalid_dpop_proof",
    "invalid_client_metadata",
    "unsupported_token_type",
    "insufficient_scope",
    "server_error",
    "temporarily_unavailable",
];

#[derive(Deserialize)]
struct ErrorAnswer {
    error: String,
}

impl FetchError {
    /// The error of an answer that is not 200 (RFC 6749 section 5.2).
    pub(crate) fn of(status: StatusCode, body: &[u8]) -> Self {
        match serde_json::from_slice::<ErrorAnswer>(body) {
            Ok(answer) => Self::of_code(&answer.error),
            Err(_) => Self::Status(status),
        }
    }

    /// Codes we do not know are told apart no further: what a peer wrote stays out of the log.
    fn of_code(code: &str) -> Self {
        match code {
            "invalid_target" => Self::NotGranted("invalid_target"),
            "invalid_scope" => Self::NotGranted("invalid_scope"),
            "invalid_authorization_details" => Self::NotGranted("invalid_authorization_details"),
            "access_denied" => Self::NotGranted("access_denied"),
            "use_dpop_nonce" => Self::Nonce,
            _ => Self::Refused(
                REFUSED.into_iter().find(|known| *known == code).unwrap_or("with a code that is not known here"),
            ),
        }
    }

    /// What the app is told when there is no token because of this.
    pub(crate) fn rejection(&self) -> Rejection {
        match self {
            Self::NotGranted(_) => Rejection::NotGranted,
            Self::Refused(_)
            | Self::Nonce
            | Self::Status(_)
            | Self::Answer(_)
            | Self::Busy { .. }
            | Self::Unreachable(_) => Rejection::TokenUnavailable,
        }
    }
}
