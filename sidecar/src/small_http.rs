//! Plain HTTP/1.1 for those who ask about the sidecar: a kubelet, a scraper, a person. Served by the control thread.

use std::{convert::Infallible, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

const CONNECTIONS: usize = 64;
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// Whoever keeps a connection longer can make another.
const CONNECTION_WITHIN: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(50);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Both ends of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) from: SocketAddr,
    pub(crate) at: SocketAddr,
}

/// What a server answers to `GET` and `HEAD`; everything else is refused before it is asked.
pub(crate) trait Answers {
    fn answer(&self, path: &str, ends: Ends) -> impl Future<Output = Response<Full<Bytes>>>;
}

/// Serves until it is dropped.
pub(crate) async fn serve<A: Answers + 'static>(listener: TcpListener, answers: Rc<A>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        match (listener.accept().await, Arc::clone(&slots).try_acquire_owned()) {
            (Ok((stream, from)), Ok(slot)) => {
                let answers = Rc::clone(&answers);
                tokio::task::spawn_local(async move {
                    let _slot = slot;
                    connection(stream, from, &*answers).await;
                });
            }
            // Too many: this one is closed at once.
            (Ok(_), Err(_)) => {}
            (Err(error), _) => {
                tracing::warn!(%error, "cannot accept a connection; check the limit of open files");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn connection<A: Answers>(stream: TcpStream, from: SocketAddr, answers: &A) {
    let Ok(at) = stream.local_addr() else { return };
    let service = service_fn(|request: Request<Incoming>| async move {
        let is_question = request.method() == Method::GET || request.method() == Method::HEAD;
        Ok::<_, Infallible>(if is_question {
            answers.answer(request.uri().path(), Ends { from, at }).await
        } else {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            refused
        })
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_headers(64);
    // A peer that goes away is no event.
    let _ = timeout(CONNECTION_WITHIN, builder.serve_connection(TokioIo::new(stream), service)).await;
}

pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    respond(status, TEXT, text)
}

pub(crate) fn respond(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
