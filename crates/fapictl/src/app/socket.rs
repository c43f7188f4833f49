//! The WebSocket of an app: says first what it was told, then echoes.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Answers an upgrade request and serves it; `None` when it is no WebSocket request.
pub(crate) fn accept(mut request: Request<Incoming>, told: &Value) -> Option<Response<BoxBody<Bytes, Infallible>>> {
    let key = request.headers().get(SEC_WEBSOCKET_KEY)?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()?;
    let upgrade = hyper::upgrade::on(&mut request);
    let first = told.to_string();
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
            echo(socket, first).await;
        }
    });
    let mut answer = Response::new(Empty::new().boxed());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers: [(HeaderName, HeaderValue); 3] = [
        (CONNECTION, HeaderValue::from_static("upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_ACCEPT, accept),
    ];
    answer.headers_mut().extend(headers);
    Some(answer)
}

async fn echo(mut socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>, first: String) {
    if socket.send(first.into()).await.is_err() {
        return;
    }
    while let Some(Ok(message)) = socket.next().await {
        let speech = message.is_text() || message.is_binary();
        if speech && socket.send(message).await.is_err() {
            return;
        }
    }
}
