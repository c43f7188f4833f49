//! When a request may be sent again: it was surely not processed, or it is one that may be processed twice.

use std::rc::Rc;

use http::Request;
use hyper::{body::Body as _, client::conn::TrySendError};

use super::{body::AppBody, failure::Failure, lease::Lease, peer::Peer};
use crate::tokens::Token;

/// What has gone wrong so far, so that nothing is tried for ever.
#[derive(Default)]
pub(super) struct Tried {
    /// An endpoint that took no connection.
    pub(super) unreachable: Option<Rc<Peer>>,
    /// A pooled connection turned out dead.
    pub(super) broken: bool,
    /// The peer asked for its nonce.
    pub(super) nonce: bool,
}

/// A sending that brought no response.
pub(super) struct Unsent {
    pub(super) failure: Failure,
    /// The request itself, when not a byte of it was sent.
    pub(super) message: Option<Request<AppBody>>,
}

impl Unsent {
    /// The request to send once more, if it was surely not processed, or harmlessly so.
    pub(super) fn again(
        self,
        lease: &Lease,
        spare: Option<Request<AppBody>>,
        tried: &mut Tried,
    ) -> Result<Request<AppBody>, Failure> {
        let safe = |spare: &Request<AppBody>| match self.failure {
            Failure::Unprocessed => true,
            Failure::Broken => lease.is_reused() && spare.method().is_safe(),
            _ => false,
        };
        match self.message.or(spare.filter(safe)) {
            Some(again) if !tried.broken => {
                tried.broken = true;
                Ok(again)
            }
            _ => Err(self.failure),
        }
    }

    pub(super) fn broken(mut error: TrySendError<Request<AppBody>>) -> Self {
        let message = error.take_message();
        let error = error.into_error();
        tracing::debug!(%error, unsent = message.is_some(), "a request got no response");
        let unprocessed = message.is_some() || is_refused(&error);
        Self { failure: if unprocessed { Failure::Unprocessed } else { Failure::Broken }, message }
    }
}

impl From<Failure> for Unsent {
    fn from(failure: Failure) -> Self {
        Self { failure, message: None }
    }
}

/// A second copy of a request without body, where a second sending could be right.
pub(super) fn spare(message: &Request<AppBody>, lease: &Lease, token: Option<&Token>) -> Option<Request<AppBody>> {
    let proven = token.is_some_and(|token| token.proof.is_some());
    let needed = proven || lease.is_h2() || (lease.is_reused() && message.method().is_safe());
    (needed && message.body().is_end_stream()).then(|| {
        let mut copy = Request::new(AppBody::Empty);
        *copy.method_mut() = message.method().clone();
        *copy.uri_mut() = message.uri().clone();
        *copy.version_mut() = message.version();
        *copy.headers_mut() = message.headers().clone();
        copy
    })
}

/// Whether the peer says that it did not process the request (RFC 9113 section 8.7).
fn is_refused(error: &hyper::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(found) = cause {
        if let Some(error) = found.downcast_ref::<h2::Error>() {
            let unprocessed = error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
            return unprocessed || error.reason() == Some(h2::Reason::REFUSED_STREAM);
        }
        cause = found.source();
    }
    false
}
