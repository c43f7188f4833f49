//! One HTTP/2 connection to the app, shared by all requests of a worker.

use std::{cell::RefCell, rc::Rc, time::Duration};

use http::{
    Request, Response, Uri, Version,
    header::HOST,
    uri::{self, Authority, Scheme},
};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Mutex;

use super::{App, Failure, Lease, answer};
use crate::{
    body::{Progress, Upload},
    local::LocalExecutor,
};

/// A silent connection is asked for a sign of life, and closed without one.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(30);
const KEEP_ALIVE_WITHIN: Duration = Duration::from_secs(20);
const MAX_HEAD: u32 = 64 * 1024;

/// The connection, while there is one.
#[derive(Default)]
pub(super) struct Shared {
    sender: RefCell<Option<http2::SendRequest<Upload>>>,
    /// Held by whoever makes it.
    making: Mutex<()>,
}

impl Shared {
    fn get(&self) -> Option<http2::SendRequest<Upload>> {
        self.sender.borrow().as_ref().filter(|sender| !sender.is_closed()).cloned()
    }
}

/// Writes the target as HTTP/2 wants it: the authority of `Host` becomes a part of it (RFC 9113 section 8.3.1).
pub(super) fn addressed(mut request: Request<Upload>) -> Result<Request<Upload>, Failure> {
    let host = request.headers_mut().remove(HOST);
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = authority;
    parts.path_and_query = request.uri().path_and_query().cloned();
    // A host that passed and still cannot be told over HTTP/2 is the caller's mistake; the app cannot serve it.
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Failure::Answer)?;
    *request.version_mut() = Version::HTTP_2;
    Ok(request)
}

impl App {
    /// As [`App::send`], over HTTP/2. A request is sent again only if nothing of it had left.
    pub(super) async fn send_http2(
        self: &Rc<Self>,
        mut request: Request<Upload>,
        progress: Option<&Progress>,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        let mut known = self.http2.get();
        loop {
            let reused = known.is_some();
            let mut sender = match known.take() {
                Some(sender) => sender,
                None => Box::pin(self.make_http2()).await?,
            };
            match answer(sender.try_send_request(request), progress).await? {
                Ok(response) => return Ok((response, Lease(None))),
                Err(mut error) => {
                    // The app may be another one by now.
                    self.speaks.forget();
                    match error.take_message() {
                        Some(unsent) if reused => request = unsent,
                        _ => return Err(Failure::Broken),
                    }
                }
            }
        }
    }

    async fn make_http2(&self) -> Result<http2::SendRequest<Upload>, Failure> {
        let _making = self.http2.making.lock().await;
        if let Some(made_meanwhile) = self.http2.get() {
            return Ok(made_meanwhile);
        }
        let stream = TokioIo::new(self.connect().await?);
        let (sender, connection) = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE_EVERY)
            .keep_alive_timeout(KEEP_ALIVE_WITHIN)
            .max_header_list_size(MAX_HEAD)
            .handshake(stream)
            .await
            .map_err(|_| Failure::Broken)?;
        // It ends with its last sender; what breaks it shows at the senders, too.
        tokio::task::spawn_local(connection);
        *self.http2.sender.borrow_mut() = Some(sender.clone());
        Ok(sender)
    }
}
