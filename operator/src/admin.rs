//! Probes and metrics, plain HTTP on a listener of their own.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use control::OpenConnections;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::acks::Acks;
use crate::clock::Clock;
use crate::events::Events;
use crate::revocations::Revocations;
use crate::rotation::ToldAnchors;
use crate::source::Desired;
use crate::view::View;
use crate::webhook::Meter;

/// A kubelet, a scraper, a person.
const CONNECTIONS: usize = 64;
/// From one address; who wants more loses its own oldest.
const CONNECTIONS_FROM_ONE: usize = 16;
/// Reading the head of a request takes no time.
const HEAD: Duration = Duration::from_secs(5);
/// One question each, and its answer.
const CONNECTION: Duration = Duration::from_secs(30);

/// What is shown.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) desired: watch::Receiver<Arc<Desired>>,
    pub(crate) revocations: Arc<Revocations>,
    pub(crate) acks: Arc<Acks>,
    pub(crate) anchors: ToldAnchors,
    pub(crate) clock: Clock,
    pub(crate) events: Events,
    pub(crate) meter: Meter,
}

/// Serves until `shutdown` says true. What is in progress then is dropped: nothing here is worth waiting for.
pub(crate) async fn serve(listener: TcpListener, shown: Shown, mut shutdown: watch::Receiver<bool>) {
    let mut open = OpenConnections::new(CONNECTIONS, CONNECTIONS_FROM_ONE);
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|end| *end) => return,
        };
        while tasks.try_join_next().is_some() {}
        match accepted {
            Ok((tcp, from)) => {
                let connection = tasks.spawn(connection(tcp, shown.clone()));
                if let Some(oldest) = open.take_in(from.ip(), connection, AbortHandle::is_finished) {
                    oldest.abort();
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the admin address");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(tcp: TcpStream, shown: Shown) {
    let service = service_fn(move |request| {
        let answer = answer(&request, &shown);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_headers(32).keep_alive(false);
    // A peer that goes away is no event.
    let _ = timeout(CONNECTION, builder.serve_connection(TokioIo::new(tcp), service)).await;
}

fn answer(request: &Request<Incoming>, shown: &Shown) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" if shown.view.borrow().synced() => text(StatusCode::OK, "ok\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "the source is not read yet\n"),
        "/metrics" => metrics(shown),
        _ => text(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics\n"),
    }
}

fn metrics(shown: &Shown) -> Response<Full<Bytes>> {
    let (view, desired) = (shown.view.borrow().clone(), shown.desired.borrow().clone());
    let mut registry = Registry::default();
    let mut gauge = |name: &str, help: &str, value: usize| {
        registry.register(name, help, ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)));
    };
    let model = view.index().model();
    let order = usize::try_from(view.order().number).unwrap_or(usize::MAX);
    gauge("fapi_operator_view_order", "Order of the view in force; grows with every change", order);
    gauge("fapi_operator_pods", "Pods in the mesh", model.pods.len());
    gauge("fapi_operator_clients", "FapiClient objects", model.clients.len());
    gauge("fapi_operator_policies", "FapiPolicy objects", model.policies.len());
    gauge("fapi_operator_problems", "Problems in the documents of the source", desired.problems.len());
    let revocations = shown.revocations.in_force().set.len();
    gauge("fapi_operator_revocations", "Revocations, those that have ended too", revocations);
    gauge("fapi_operator_connected_sidecars", "Sidecars with an open control stream", shown.acks.connected());
    gauge(
        "fapi_operator_replicas",
        "Other replicas that report to this one, which holds the Lease",
        shown.acks.replicas(),
    );
    shown.anchors.borrow().register(&mut registry, shown.clock.now());
    shown.events.fates().register(&mut registry);
    shown.meter.register(&mut registry);
    let mut body = String::new();
    match encode(&mut body, &registry) {
        Ok(()) => {
            let mut response = Response::new(Full::from(body));
            let kind = http::HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
            response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
            response
        }
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n"),
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
}
