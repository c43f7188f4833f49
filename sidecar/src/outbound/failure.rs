//! A call that gets its answer here and not from the destination.

use bytes::Bytes;
use fapi::Rejection;
use http::{HeaderValue, Method, Response, StatusCode, header};

use super::body::OutBody;

/// Why a call did not come back from the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// A rule refuses it.
    Rejected(Rejection),
    /// The app asked in a way that a proxy cannot serve; the text says what to do.
    Misused(&'static str),
    /// The app hands on a call that is not, or no more, in progress here.
    NotInProgress,
    /// No connection could be made.
    Unreachable,
    /// The connection broke before the response began.
    Broken,
    /// The request was surely not processed: nothing of it left, or the peer said so (RFC 9113 section 8.7).
    Unprocessed,
    /// The response did not begin in time.
    TooSlow,
    /// As many connections as are allowed are busy.
    Busy,
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl Failure {
    /// The reason, for refusals.
    pub(super) fn rejection(&self) -> Option<Rejection> {
        match self {
            Self::Rejected(rejection) => Some(*rejection),
            Self::Misused(_) => Some(Rejection::RequestMalformed),
            Self::NotInProgress => Some(Rejection::TokenUnavailable),
            Self::Unreachable | Self::Broken | Self::Unprocessed | Self::TooSlow | Self::Busy => None,
        }
    }

    /// The stable id that the app and the log see.
    pub(super) fn id(&self) -> &'static str {
        match self {
            Self::Rejected(rejection) => rejection.id(),
            Self::Misused(_) => Rejection::RequestMalformed.id(),
            Self::NotInProgress => Rejection::TokenUnavailable.id(),
            Self::Unreachable => "connect_failed",
            Self::Broken => "connection_broken",
            Self::Unprocessed => "request_not_processed",
            Self::TooSlow => "response_timeout",
            Self::Busy => "too_many_connections",
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Rejected(rejection) => rejection
                .status()
                .and_then(|status| StatusCode::from_u16(status).ok())
                .unwrap_or(StatusCode::BAD_GATEWAY),
            Self::Misused(_) => StatusCode::BAD_REQUEST,
            Self::Broken => StatusCode::BAD_GATEWAY,
            Self::TooSlow => StatusCode::GATEWAY_TIMEOUT,
            Self::NotInProgress | Self::Unreachable | Self::Unprocessed | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn message(&self) -> &'static str {
        match self {
            Self::Rejected(rejection) => rejection.hint(),
            Self::Misused(hint) => hint,
            Self::NotInProgress => {
                "x-fapi-context names no call in progress at this sidecar: call before the call that it came with is answered"
            }
            Self::Unreachable => "no endpoint of the destination accepts connections; check that it runs",
            Self::Broken => "the connection broke before the response began; the request may have been processed",
            Self::Unprocessed => "the destination did not process the request; try again",
            Self::TooSlow => "the response did not begin in time; the request may have been processed",
            Self::Busy => "too many calls to this destination are in progress; try again",
        }
    }

    /// What the app is answered. To `HEAD` that has no content (RFC 9110 section 9.3.2), which HTTP/2 would send.
    pub(super) fn response(&self, method: &Method) -> Response<OutBody> {
        // Both are constants of ours without a character that JSON would escape, which a test keeps true.
        let text = format!("{{\"error\":\"{}\",\"message\":\"{}\"}}", self.id(), self.message());
        let length = text.len();
        let has_content = method != Method::HEAD;
        let mut response = Response::new(if has_content { OutBody::text(Bytes::from(text)) } else { OutBody::empty() });
        if !has_content {
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        *response.status_mut() = self.status();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_json_and_every_outbound_reason_has_a_status() {
        let own = [Failure::Unreachable, Failure::Broken, Failure::Unprocessed, Failure::TooSlow, Failure::Busy];
        let own = own.into_iter().chain([Failure::Misused("x"), Failure::NotInProgress]);
        for failure in Rejection::ALL.iter().map(|&rejection| Failure::Rejected(rejection)).chain(own) {
            let text = format!("{{\"error\":\"{}\",\"message\":\"{}\"}}", failure.id(), failure.message());
            let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(value["error"], failure.id());
            assert!(failure.status().is_client_error() || failure.status().is_server_error());
        }
        assert_eq!(Failure::Rejected(Rejection::DestinationUnknown).status(), 503);
        assert_eq!(Failure::Rejected(Rejection::NotGranted).status(), 403);
        assert_eq!(Failure::Rejected(Rejection::AppAuthorizationPresent).status(), 400);
    }
}
