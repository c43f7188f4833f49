//! HTTP/1.1 connections to the app: one request at a time on each, kept for the next.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use http::{
    HeaderValue, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, TE},
};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::{App, Failure, Lease, answer};
use crate::{
    body::{Progress, Upload},
    shares::{Counted, Share},
};

/// Most connections to one app, from one worker.
const MAX_OPEN: usize = 1024;
/// And for the calls of one caller, all of its pods together: it may leave answers unread, and must not take all of them.
const CALLS_OF_ONE: usize = MAX_OPEN / 2;
/// Idle connections are closed after so many ticks: before the 5 seconds after which a common framework closes them,
/// so that no request meets a connection that is just being closed.
const MAX_IDLE: u8 = 4;
/// How long the rest of an upload may take when the answer is already complete.
const SETTLE_WITHIN: Duration = Duration::from_secs(5);

/// A connection in the hands of one request.
pub(super) struct Connection {
    sender: http1::SendRequest<Upload>,
    /// Whether it has carried a request before: the app may just be closing it.
    reused: bool,
    /// In the share of whoever made the request.
    call: Option<Counted>,
}

/// Connections that wait for a request, the last used at the end.
#[derive(Default)]
pub(super) struct Pool {
    idle: RefCell<Vec<(http1::SendRequest<Upload>, u8)>>,
    open: Rc<Cell<usize>>,
}

impl Pool {
    /// One second has passed.
    pub(super) fn tick(&self) {
        self.idle.borrow_mut().retain_mut(|(sender, ticks)| {
            *ticks += 1;
            *ticks <= MAX_IDLE && !sender.is_closed()
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.get() == 0
    }

    fn take(&self) -> Option<http1::SendRequest<Upload>> {
        let mut idle = self.idle.borrow_mut();
        std::iter::from_fn(|| idle.pop()).map(|(sender, _)| sender).find(http1::SendRequest::is_ready)
    }
}

/// Writes the target as a server wants it (RFC 9112 section 3.2.1); `Host` says the rest.
pub(super) fn addressed(mut request: Request<Upload>) -> Request<Upload> {
    *request.version_mut() = Version::HTTP_11;
    if request.uri().authority().is_some() {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    if request.headers().contains_key(TE) {
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("te"));
    }
    request
}

impl App {
    /// As [`App::send`], over HTTP/1.1. A request is sent again only if nothing of it had left.
    pub(super) async fn send_http1(
        self: &Rc<Self>,
        mut request: Request<Upload>,
        progress: Option<&Progress>,
        share: Option<&Share>,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        let mut call = match share {
            Some(share) => Some(Counted::enter(share, CALLS_OF_ONE).ok_or(Failure::Busy)?),
            None => None,
        };
        loop {
            let mut connection = self.checkout().await?;
            match answer(connection.sender.try_send_request(request), progress).await? {
                // It was not asked to switch.
                Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => return Err(Failure::Answer),
                Ok(response) => {
                    connection.call = call.take();
                    return Ok((response, Lease(Some((Rc::clone(self), connection)))));
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if connection.reused => request = unsent,
                    _ => return Err(Failure::Broken),
                },
            }
        }
    }

    /// Sends a request that asks to become something else, over a connection of its own.
    pub(crate) async fn send_upgrade(self: &Rc<Self>, request: Request<Upload>) -> Result<Response<Incoming>, Failure> {
        let request = addressed(request);
        let mut sender = self.open(true).await?;
        answer(sender.send_request(request), None).await?.map_err(|_| Failure::Broken)
    }

    pub(super) fn put_back(self: Rc<Self>, mut connection: Connection) {
        if connection.sender.is_ready() {
            self.http1.idle.borrow_mut().push((connection.sender, 0));
        } else if !connection.sender.is_closed() {
            tokio::task::spawn_local(async move {
                if let Ok(Ok(())) = timeout(SETTLE_WITHIN, connection.sender.ready()).await {
                    self.http1.idle.borrow_mut().push((connection.sender, 0));
                }
            });
        }
    }

    async fn checkout(&self) -> Result<Connection, Failure> {
        match self.http1.take() {
            Some(sender) => Ok(Connection { sender, reused: true, call: None }),
            None => Ok(Connection { sender: Box::pin(self.open(false)).await?, reused: false, call: None }),
        }
    }

    async fn open(&self, upgrades: bool) -> Result<http1::SendRequest<Upload>, Failure> {
        let counted = Counted::enter(&self.http1.open, MAX_OPEN).ok_or(Failure::Busy)?;
        let stream = TokioIo::new(self.connect().await?);
        let (sender, connection) = http1::handshake(stream).await.map_err(|_| Failure::Broken)?;
        // It ends with its sender; what breaks it shows at the sender, too.
        tokio::task::spawn_local(async move {
            let _counted = counted;
            let _ = if upgrades { connection.with_upgrades().await } else { connection.await };
        });
        Ok(sender)
    }
}
