//! The way to the app: connections that are kept, and the protocol that it speaks.
//!
//! A call that came over HTTP/2, or is gRPC, goes on over HTTP/2 with prior knowledge if the app speaks it. Nobody
//! declares that, so the app is asked once, by a connection that carries the HTTP/2 preface and no request; its answer is
//! remembered and asked again when it may have changed. Everything else goes over HTTP/1.1.

mod http1;
mod http2;
mod lease;
mod probe;

pub(crate) use lease::Lease;

use std::{cell::RefCell, collections::HashMap, io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    body::{Progress, Upload},
    shares::Share,
    state::Shared,
};

/// An app is on the same machine: it accepts at once or it is not there.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// An app must begin to answer within this time after the last of the request has been passed on.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Why the app did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It accepts no connections.
    Connect,
    /// It has as many connections as it may have.
    Busy,
    /// The connection broke before an answer.
    Broken,
    /// No answer came in time.
    TooSlow,
    /// The answer was none to this request.
    Answer,
}

impl Failure {
    /// As the decision log spells it.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Connect => "connect_failed",
            Self::Busy => "too_many_connections",
            Self::Broken => "connection_broken",
            Self::TooSlow => "no_answer_in_time",
            Self::Answer => "answer_unusable",
        }
    }

    /// What the caller is answered.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooSlow => StatusCode::GATEWAY_TIMEOUT,
            Self::Connect | Self::Broken | Self::Answer => StatusCode::BAD_GATEWAY,
        }
    }
}

/// The apps that a worker forwards to.
pub(crate) struct Apps {
    shared: Arc<Shared>,
    all: RefCell<HashMap<SocketAddr, Rc<App>>>,
}

/// One app, as one worker reaches it.
pub(crate) struct App {
    shared: Arc<Shared>,
    address: SocketAddr,
    http1: http1::Pool,
    http2: http2::Shared,
    speaks: probe::Speaks,
}

impl Apps {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, all: RefCell::default() }
    }

    /// The app at an address.
    pub(crate) fn app(&self, address: SocketAddr) -> Rc<App> {
        let new = || {
            Rc::new(App {
                shared: Arc::clone(&self.shared),
                address,
                http1: http1::Pool::default(),
                http2: http2::Shared::default(),
                speaks: probe::Speaks::default(),
            })
        };
        Rc::clone(self.all.borrow_mut().entry(address).or_insert_with(new))
    }

    /// Closes connections that lie idle, forgets apps that no port has any more. Comes once a second.
    pub(crate) fn tick(&self) {
        self.all.borrow_mut().retain(|_, app| {
            app.http1.tick();
            Rc::strong_count(app) > 1 || !app.http1.is_empty()
        });
    }
}

impl App {
    /// Sends a request and gives the app's answer, with what keeps its connection. Over HTTP/1.1, where each call has a
    /// connection, it counts in `share`.
    pub(crate) async fn send(
        self: &Rc<Self>,
        request: Request<Upload>,
        over_http2: bool,
        progress: Option<&Progress>,
        share: Option<&Share>,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        if over_http2 && self.speaks_http2(is_grpc(request.headers())).await? {
            self.send_http2(http2::addressed(request)?, progress).await
        } else {
            self.send_http1(http1::addressed(request), progress, share).await
        }
    }

    /// A connection to the app.
    pub(crate) async fn connect(&self) -> Result<TcpStream, Failure> {
        let connected = match timeout(CONNECT_WITHIN, TcpStream::connect(self.address)).await {
            Ok(connected) => connected.and_then(|stream| stream.set_nodelay(true).map(|()| stream)),
            Err(late) => Err(io::Error::from(late)),
        };
        let attempts = &self.shared.metrics.app_connects;
        match connected {
            Ok(stream) => {
                attempts.succeeded.add(1);
                Ok(stream)
            }
            Err(error) => {
                attempts.failed.add(1);
                tracing::warn!(app = %self.address, %error, "the app does not accept a connection; check that it runs");
                Err(Failure::Connect)
            }
        }
    }
}

/// Whether a request must keep its trailers and so needs HTTP/2.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(http::header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Waits for an answer. The time begins anew as long as the request itself is still on its way.
async fn answer<T>(answer: impl Future<Output = T>, progress: Option<&Progress>) -> Result<T, Failure> {
    let mut answer = std::pin::pin!(answer);
    loop {
        let before = progress.map(|progress| progress.get());
        match timeout(ANSWER_WITHIN, answer.as_mut()).await {
            Ok(answer) => return Ok(answer),
            Err(_) if before != progress.map(|progress| progress.get()) => {}
            Err(_) => return Err(Failure::TooSlow),
        }
    }
}
