//! Bodies on their way through: streamed frame by frame, never held, each with an end to waiting.

mod idle;

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderValue;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::{
    forward::Lease,
    headers,
    inbound::{Connection, Passage, Standing},
};
use idle::Idle;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The connection that it came over failed.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    /// Nothing came for too long.
    #[error("nothing came for {} seconds", idle::LONGEST.as_secs())]
    Idle,
    /// The admission under which it was sent no longer holds.
    #[error("the call is no longer admitted: {0}")]
    Cut(fapi::Rejection),
}

/// Counts frames, so that whoever waits for an answer sees that the request is still on its way.
pub(crate) type Progress = Rc<Cell<u64>>;

/// A request's body, on its way to the app.
pub(crate) enum Upload {
    /// There is none.
    Empty,
    /// It comes from the peer.
    Peer {
        body: Incoming,
        idle: Idle,
        progress: Progress,
        passage: Passage,
        /// Only for a body that may go on for long; a short one has one wait for all of it instead.
        standing: Option<Standing>,
    },
}

impl Upload {
    /// Passes a peer's body on, for as long as `standing` holds.
    pub(crate) fn new(body: Incoming, standing: Option<Standing>, connection: &Rc<Connection>) -> Self {
        if body.is_end_stream() {
            return Self::Empty;
        }
        let (idle, progress) = (Idle::default(), Progress::default());
        Self::Peer { body, idle, progress, passage: connection.enter(), standing }
    }

    /// What tells how it gets on; none when there is no body.
    pub(crate) fn progress(&self) -> Option<Progress> {
        match self {
            Self::Empty => None,
            Self::Peer { progress, .. } => Some(progress.clone()),
        }
    }
}

/// Bodies that are declared to be no longer are not judged again: they would be slower for it, and must be over soon.
const SHORT: u64 = 64 * 1024;

/// Whether a request's body may go on for long. What a caller declares is no end: it may be sent as slowly as it likes.
pub(crate) fn may_last(body: &Incoming) -> bool {
    !body.is_end_stream() && body.size_hint().exact().is_none_or(|length| length > SHORT)
}

/// Whether a body is no HTTP/1.1, and did not just end too early.
fn is_malformed(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| matches!(cause.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Self::Peer { body, idle, progress, passage, standing } = &mut *self else { return Poll::Ready(None) };
        let next = Pin::new(body).poll_frame(cx);
        if let Some(standing) = standing
            && (next.is_pending() || standing.is_doubtful())
            && let Poll::Ready(reason) = standing.poll_void(cx)
        {
            return Poll::Ready(Some(Err(BodyError::Cut(reason))));
        }
        let Poll::Ready(next) = next else {
            ready!(idle.poll(cx));
            return Poll::Ready(Some(Err(BodyError::Idle)));
        };
        if standing.is_some() {
            idle.rest();
        }
        progress.set(progress.get() + 1);
        passage.progress();
        if let Some(Err(error)) = &next
            && is_malformed(error)
        {
            passage.malformed();
        }
        Poll::Ready(next.map(|frame| Ok(with_clean_trailers(frame?, headers::clean_request_trailers))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Peer { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Peer { body, .. } => body.size_hint(),
        }
    }
}

/// An answer's body, on its way to the peer. The passage ends when it has been sent, or given up.
pub(crate) enum Reply {
    /// Written here.
    Own { text: Option<Bytes>, _passage: Passage },
    /// It comes from the app.
    App { body: Incoming, idle: Idle, lease: Option<Lease>, passage: Passage, interaction: HeaderValue },
}

impl Reply {
    /// A body of our own; an empty text is no body.
    pub(crate) fn own(text: Bytes, passage: Passage) -> Self {
        Self::Own { text: Some(text).filter(|text| !text.is_empty()), _passage: passage }
    }

    /// The app's body, for the call with this id. The connection that it comes over is given back at its end.
    pub(crate) fn app(body: Incoming, lease: Lease, passage: Passage, interaction: HeaderValue) -> Self {
        let mut reply = Self::App { body, idle: Idle::default(), lease: Some(lease), passage, interaction };
        reply.give_back_at_end();
        reply
    }

    fn give_back_at_end(&mut self) {
        if let Self::App { body, lease, .. } = self
            && body.is_end_stream()
            && let Some(lease) = lease.take()
        {
            lease.give_back();
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let (body, idle, lease, passage, interaction) = match &mut *self {
            Self::Own { text, .. } => return Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::App { body, idle, lease, passage, interaction } => (body, idle, lease, passage, interaction),
        };
        let Poll::Ready(next) = Pin::new(body).poll_frame(cx) else {
            ready!(idle.poll(cx));
            passage.answer_broke(interaction);
            return Poll::Ready(Some(Err(BodyError::Idle)));
        };
        idle.rest();
        passage.progress();
        match next {
            Some(Ok(frame)) => {
                self.give_back_at_end();
                Poll::Ready(Some(Ok(with_clean_trailers(frame, headers::clean_response_trailers))))
            }
            Some(Err(error)) => {
                passage.answer_broke(interaction);
                Poll::Ready(Some(Err(error.into())))
            }
            None => {
                if let Some(lease) = lease.take() {
                    lease.give_back();
                }
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own { text, .. } => text.is_none(),
            Self::App { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own { text, .. } => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::App { body, .. } => body.size_hint(),
        }
    }
}

/// A frame, without those trailers that `clean` takes out.
pub(crate) fn with_clean_trailers(frame: Frame<Bytes>, clean: fn(&mut http::HeaderMap)) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            clean(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}
