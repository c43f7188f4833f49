//! The app beside the sidecar: a plain HTTP client that uses it as proxy.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;

use crate::local::LocalExecutor;

pub(crate) type AppBody = UnsyncBoxBody<Bytes, Infallible>;
pub(crate) type TestRequest = Request<AppBody>;

#[derive(Clone, Copy)]
pub(crate) struct App {
    proxy: SocketAddr,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The `error` of a JSON answer.
    pub(crate) fn error(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.text).unwrap();
        body["error"].as_str().unwrap().to_owned()
    }
}

impl App {
    pub(crate) fn new(proxy: SocketAddr) -> Self {
        Self { proxy }
    }

    pub(crate) async fn connect(self) -> TcpStream {
        TcpStream::connect(self.proxy).await.unwrap()
    }

    /// A connection that speaks HTTP/1.1.
    pub(crate) async fn http1(self) -> http1::SendRequest<AppBody> {
        let (sender, connection) = http1::handshake(TokioIo::new(self.connect().await)).await.unwrap();
        tokio::task::spawn_local(connection.with_upgrades());
        sender
    }

    /// A connection that speaks HTTP/2.
    pub(crate) async fn http2(self) -> http2::SendRequest<AppBody> {
        let io = TokioIo::new(self.connect().await);
        let (sender, connection) = http2::handshake(LocalExecutor, io).await.unwrap();
        tokio::task::spawn_local(connection);
        sender
    }

    /// One call on a connection of its own.
    pub(crate) async fn call(self, request: TestRequest) -> Answer {
        read(self.http1().await.send_request(request).await.unwrap()).await
    }

    pub(crate) async fn get(self, url: &str) -> Answer {
        self.call(get(url)).await
    }
}

pub(crate) async fn read(response: Response<Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned();
    let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    Answer { status: head.status, headers: head.headers, text, trailers }
}

/// A request as a client with `http_proxy` sends it.
pub(crate) fn get(url: &str) -> TestRequest {
    request("GET", url, "")
}

pub(crate) fn request(method: &str, url: &str, body: &str) -> TestRequest {
    let uri: http::Uri = url.parse().unwrap();
    let host = uri.authority().map(ToString::to_string).unwrap_or_default();
    let body = Full::new(Bytes::from(body.to_owned())).boxed_unsync();
    Request::builder().method(method).uri(uri).header("host", host).body(body).unwrap()
}

/// A body that the test writes as it likes.
pub(crate) fn streamed(method: &str, url: &str) -> (mpsc::Sender<Result<Frame<Bytes>, Infallible>>, TestRequest) {
    let (sender, frames) = mpsc::channel(4);
    let body = StreamBody::new(ReceiverStream::new(frames));
    (sender, request(method, url, "").map(|_| body.boxed_unsync()))
}
