//! Bodies as they pass through: never buffered, never boxed.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderValue;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::lease::Lease;
use crate::{body::with_clean_trailers, headers, local::Local, log::Direction};

/// The body of a request to a peer.
pub(super) enum AppBody {
    /// Of requests that we make ourselves, or that have none.
    Empty,
    /// The app's, as it comes.
    App(Incoming),
}

impl From<Incoming> for AppBody {
    fn from(body: Incoming) -> Self {
        if body.is_end_stream() { Self::Empty } else { Self::App(body) }
    }
}

impl Body for AppBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::App(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::App(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::App(body) => body.size_hint(),
        }
    }
}

/// The body of a response to the app.
pub(crate) enum OutBody {
    /// A short text of ours, until it was sent.
    Text(Option<Bytes>),
    /// The peer's, as it comes.
    Peer(PeerBody),
}

/// A peer's body together with its share of the connection, which is given back when the body ends.
pub(crate) struct PeerBody {
    body: Incoming,
    lease: Option<Lease>,
    local: Rc<Local>,
    interaction: HeaderValue,
}

impl OutBody {
    pub(super) fn text(text: Bytes) -> Self {
        Self::Text(Some(text))
    }

    pub(super) fn empty() -> Self {
        Self::Text(None)
    }

    /// A peer's body, for the call with this id.
    pub(super) fn peer(body: Incoming, lease: Lease, local: &Rc<Local>, interaction: &HeaderValue) -> Self {
        if body.is_end_stream() {
            lease.finish();
            return Self::empty();
        }
        let (local, interaction) = (Rc::clone(local), interaction.clone());
        Self::Peer(PeerBody { body, lease: Some(lease), local, interaction })
    }
}

impl Body for OutBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Peer(peer) => peer.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_none(),
            Self::Peer(peer) => peer.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Peer(peer) => peer.body.size_hint(),
        }
    }
}

impl PeerBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let ended = match &polled {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(_))) => self.body.is_end_stream(),
            Poll::Ready(Some(Err(_))) => {
                self.local.answer_broke(Direction::Outbound, &self.interaction);
                false
            }
            Poll::Pending => false,
        };
        if ended && let Some(lease) = self.lease.take() {
            lease.finish();
        }
        polled.map_ok(|frame| with_clean_trailers(frame, headers::clean_response_trailers))
    }
}

impl Drop for PeerBody {
    fn drop(&mut self) {
        // Nobody asks further once the announced length has arrived.
        if let Some(lease) = self.lease.take()
            && self.body.is_end_stream()
        {
            lease.finish();
        }
    }
}
