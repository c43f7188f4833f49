//! The client side of an app: plain HTTP, through the proxy if its environment names one, as any program does.

use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::failure::{Failure, OrFail};

/// A call that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(10);
/// No answer of the demo is larger.
const MOST: usize = 1 << 20;

type Sender = http1::SendRequest<Full<Bytes>>;

/// Whom an app calls, and through what.
pub(crate) struct Caller {
    service: String,
    /// Without one, the service itself is dialled.
    proxy: Option<SocketAddr>,
    /// HTTP/1.1 connections that wait for work.
    idle: Mutex<Vec<Sender>>,
}

impl Caller {
    pub(crate) fn new(service: &str, proxy: Option<&str>) -> Result<Self, Failure> {
        let address = |proxy: &str| {
            let address = proxy.strip_prefix("http://").unwrap_or(proxy).trim_end_matches('/');
            address.parse().or_fail("http_proxy is no address", proxy, "set it to http://127.0.0.1:PORT")
        };
        Ok(Self {
            service: service.trim_end_matches('/').to_owned(),
            proxy: proxy.map(address).transpose()?,
            idle: Mutex::default(),
        })
    }

    /// Calls once, in the way named by `how`, and says how it went. Over HTTP/1.1, `passed` goes along.
    pub(crate) async fn play(&self, how: &str, passed: &HeaderMap) -> Value {
        let body = Bytes::from_static(br#"{"amount":100}"#);
        let outcome = match how {
            "http1" => self.post("/transfers", passed, body).await.map(report),
            "http2" => self.post_http2("/transfers", body).await.map(report),
            "grpc" => self.grpc().await,
            "websocket" => self.websocket().await,
            other => Err(io::Error::other(format!("no such way to call: {other}"))),
        };
        outcome.unwrap_or_else(|error| json!({"status": null, "error": error.to_string()}))
    }

    /// POST over HTTP/1.1, with the headers of a call before it that are passed on.
    pub(crate) async fn post(&self, path: &str, passed: &HeaderMap, body: Bytes) -> io::Result<(StatusCode, Value)> {
        within(async {
            let mut sender = self.sender().await?;
            let mut request = self.request_http1(path, body)?.map(Full::new);
            request.headers_mut().extend(passed.clone());
            let response = sender.send_request(request).await.map_err(io::Error::other)?;
            let answer = whole(response).await?;
            if let Ok(mut idle) = self.idle.lock() {
                idle.push(sender);
            }
            Ok(answer)
        })
        .await
    }

    async fn post_http2(&self, path: &str, body: Bytes) -> io::Result<(StatusCode, Value)> {
        within(async {
            let mut sender = self.http2().await?;
            let request = self.request(path, body)?.map(Full::new);
            whole(sender.send_request(request).await.map_err(io::Error::other)?).await
        })
        .await
    }

    /// One unary call as gRPC frames it: five bytes and a message, the outcome in trailers.
    async fn grpc(&self) -> io::Result<Value> {
        within(async {
            let mut message = BytesMut::new();
            message.put_u8(0);
            message.put_u32(5);
            message.put_slice(b"money");
            let message = message.freeze();
            let mut request = self.request("/bank.Payments/Transfer", message.clone())?.map(Full::new);
            let headers = request.headers_mut();
            headers.insert("content-type", HeaderValue::from_static("application/grpc"));
            headers.insert("te", HeaderValue::from_static("trailers"));
            let mut sender = self.http2().await?;
            let response = sender.send_request(request).await.map_err(io::Error::other)?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), MOST).collect().await.map_err(io::Error::other)?;
            let trailer = |name: &str| {
                let value = body.trailers().and_then(|trailers| trailers.get(name));
                value.and_then(|value| value.to_str().ok()).map(ToOwned::to_owned)
            };
            let (grpc_status, caller) = (trailer("grpc-status"), trailer("told-caller"));
            let same = body.to_bytes() == message;
            Ok(json!({
                "status": status,
                "answer": {"grpc_status": grpc_status, "same": same, "told": {"caller": caller}},
            }))
        })
        .await
    }

    async fn websocket(&self) -> io::Result<Value> {
        within(async {
            let mut request = self.request_http1("/ws", Bytes::new())?.map(Full::new);
            *request.method_mut() = http::Method::GET;
            let key = HeaderValue::from_str(&generate_key()).map_err(io::Error::other)?;
            let headers = request.headers_mut();
            headers.insert("connection", HeaderValue::from_static("upgrade"));
            headers.insert("upgrade", HeaderValue::from_static("websocket"));
            headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
            headers.insert("sec-websocket-key", key);
            let mut sender = self.connect().await?;
            let response = sender.send_request(request).await.map_err(io::Error::other)?;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                return Ok(report(whole(response).await?));
            }
            let upgraded = hyper::upgrade::on(response).await.map_err(io::Error::other)?;
            let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
            let told = hear(&mut socket).await?;
            socket.send("money".into()).await.map_err(io::Error::other)?;
            let echo = hear(&mut socket).await?;
            let told: Value = serde_json::from_str(&told).unwrap_or_default();
            Ok(json!({"status": 101, "answer": {"told": told, "same": echo == "money"}}))
        })
        .await
    }

    fn request(&self, path: &str, body: Bytes) -> io::Result<Request<Bytes>> {
        let mut request = Request::post(format!("{}{path}", self.service));
        // HTTP/1.1 wants it; in HTTP/2 it must be the authority, which it is.
        request = request.header("host", self.host());
        request.body(body).map_err(io::Error::other)
    }

    /// A proxy is told the whole address, the service itself only the path (RFC 9112 section 3.2).
    fn request_http1(&self, path: &str, body: Bytes) -> io::Result<Request<Bytes>> {
        let mut request = self.request(path, body)?;
        if self.proxy.is_none() {
            *request.uri_mut() = path.parse::<Uri>().map_err(io::Error::other)?;
        }
        Ok(request)
    }

    fn host(&self) -> &str {
        self.service.strip_prefix("http://").unwrap_or(&self.service)
    }

    async fn sender(&self) -> io::Result<Sender> {
        loop {
            let idle = self.idle.lock().ok().and_then(|mut idle| idle.pop());
            match idle {
                None => return self.connect().await,
                Some(mut sender) => {
                    if !sender.is_closed() && sender.ready().await.is_ok() {
                        return Ok(sender);
                    }
                }
            }
        }
    }

    async fn connect(&self) -> io::Result<Sender> {
        let io = self.tcp().await?;
        let (sender, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    async fn http2(&self) -> io::Result<http2::SendRequest<Full<Bytes>>> {
        let io = self.tcp().await?;
        let handshake = http2::handshake(TokioExecutor::new(), io).await;
        let (sender, connection) = handshake.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn tcp(&self) -> io::Result<TokioIo<TcpStream>> {
        let stream = match self.proxy {
            Some(proxy) => TcpStream::connect(proxy).await?,
            None if self.host().contains(':') => TcpStream::connect(self.host()).await?,
            None => TcpStream::connect((self.host(), 80)).await?,
        };
        stream.set_nodelay(true)?;
        Ok(TokioIo::new(stream))
    }
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(LIMIT, work).await?
}

async fn whole(response: Response<Incoming>) -> io::Result<(StatusCode, Value)> {
    let status = response.status();
    let body = Limited::new(response.into_body(), MOST).collect().await;
    let body = body.map_err(io::Error::other)?.to_bytes();
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

fn report((status, answer): (StatusCode, Value)) -> Value {
    json!({"status": status.as_u16(), "answer": answer})
}

async fn hear(socket: &mut WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>) -> io::Result<String> {
    let message = socket.next().await.ok_or(io::ErrorKind::UnexpectedEof)?;
    let message = message.map_err(io::Error::other)?;
    message.into_text().map(|text| text.to_string()).map_err(io::Error::other)
}
