//! The HTTP side of the webhooks: routes, bounds, deadlines.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::timeout;

use super::configuration::{INJECT, VALIDATE};
use super::{PATIENCE, REVIEWS, Webhook, mutate, review, validate};
use crate::accept::{Connection, drive};

/// An API server takes objects of 3 MiB; a review may hold the old one and the new one.
const MAX_BODY: usize = 8 * 1024 * 1024;
const MAX_HEADERS: u32 = 32 * 1024;
const STREAMS: u32 = REVIEWS as u32;

type Answer = Response<Full<Bytes>>;

/// Serves one connection to its end.
pub(super) async fn connection(webhook: Arc<Webhook>, connection: Connection) {
    let (stream, _, ending) = connection.split();
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| {
        let webhook = webhook.clone();
        async move {
            let answer = timeout(PATIENCE, answer(&webhook, request)).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|_| plain(StatusCode::SERVICE_UNAVAILABLE, "too slow\n")))
        }
    });
    let io = TokioIo::new(stream);
    if http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).max_concurrent_streams(STREAMS).max_header_list_size(MAX_HEADERS);
        drive(builder.serve_connection(io, service), ending, http2::Connection::graceful_shutdown).await;
    } else {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(MAX_HEADERS as usize);
        drive(builder.serve_connection(io, service), ending, http1::Connection::graceful_shutdown).await;
    }
}

async fn answer(webhook: &Webhook, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    if ![INJECT, VALIDATE].contains(&path.as_str()) {
        return plain(StatusCode::NOT_FOUND, "there are /inject and /validate\n");
    }
    if request.method() != Method::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "use POST\n");
    }
    let Ok(_turn) = webhook.reviews.acquire().await else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "it ends\n");
    };
    let Ok(body) = Limited::new(request.into_body(), MAX_BODY).collect().await else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, "the review cannot be read, or is above 8 MiB\n");
    };
    let request = match review::read(&body.to_bytes()) {
        Ok(request) => request,
        Err(error) => {
            tracing::warn!(event = "review", path, error, "cannot read a review");
            return plain(StatusCode::BAD_REQUEST, "want an AdmissionReview of admission.k8s.io/v1 with a request\n");
        }
    };
    let verdict = if path == INJECT {
        mutate::decide(webhook, &request).await
    } else {
        validate::decide(webhook, &webhook.settings.trust_domain, &request)
    };
    let mut answer = Response::new(Full::from(verdict.answer(&request.uid)));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    answer
}
