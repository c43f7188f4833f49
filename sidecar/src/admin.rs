//! Probes, metrics and the applied configuration: plain HTTP/1.1, served by the control thread.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

use crate::{state::Shared, stop::Stop};

/// A kubelet, a scraper, a person.
const CONNECTIONS: usize = 64;
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// Whoever keeps a connection longer can make another.
const CONNECTION_WITHIN: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(50);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>, stop: Stop) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        match (listener.accept().await, Arc::clone(&slots).try_acquire_owned()) {
            (Ok((stream, address)), Ok(slot)) => {
                let (shared, stop) = (Arc::clone(&shared), stop.clone());
                tokio::spawn(async move {
                    let _slot = slot;
                    connection(stream, address, shared, stop).await;
                });
            }
            // Too many: this one is closed at once.
            (Ok(_), Err(_)) => {}
            (Err(error), _) => {
                tracing::warn!(%error, "cannot accept a connection to the admin address");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, address: SocketAddr, shared: Arc<Shared>, stop: Stop) {
    let service = service_fn(|request| {
        let answer = answer(&request, address, &shared, &stop);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_headers(64);
    // A peer that goes away is no event.
    let _ = timeout(CONNECTION_WITHIN, builder.serve_connection(TokioIo::new(stream), service)).await;
}

fn answer(request: &Request<Incoming>, from: SocketAddr, shared: &Shared, stop: &Stop) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" if stop.is_stopped() => text(StatusCode::SERVICE_UNAVAILABLE, "ending\n"),
        "/readyz" if shared.is_ready() => text(StatusCode::OK, "ok\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "no certificate or no snapshot yet\n"),
        "/metrics" => respond(StatusCode::OK, METRICS, shared.render_metrics()),
        "/config" if from.ip().to_canonical().is_loopback() => respond(StatusCode::OK, JSON, config(shared)),
        "/config" => text(StatusCode::FORBIDDEN, "only for callers on this machine\n"),
        _ => text(StatusCode::NOT_FOUND, "there are /livez, /readyz, /metrics and /config\n"),
    }
}

/// What is in force. A snapshot holds no secret, and of the certificate only its name and end are shown.
fn config(shared: &Shared) -> String {
    let applied = shared.applied();
    let identity = shared.identity();
    let config = json!({
        "version": control::VERSION,
        "snapshotVersion": applied.as_ref().map(|applied| &*applied.version),
        "snapshotOrder": applied.as_ref().map(|applied| applied.order),
        "revocationEpoch": shared.revocation_epoch(),
        "snapshot": applied.as_ref().map(|applied| &applied.snapshot),
        "certificate": identity.as_ref().map(|generation| json!({
            "spiffeId": generation.spiffe_id.as_str(),
            "notAfter": generation.not_after.as_secs(),
        })),
    });
    format!("{config:#}\n")
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    respond(status, TEXT, text)
}

fn respond(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
