//! The HTTP side of the webhooks: routes, bounds, deadlines.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::configuration::{EPHEMERAL, INJECT, VALIDATE};
use super::meter::{Outcome, Which};
use super::{PATIENCE, READING, REVIEWS, Webhook, ephemeral, mutate, review, validate};
use crate::accept::{Connection, Work, drive};

/// An API server takes objects of 3 MiB; a review may hold the old one and the new one. On one connection no more is held at a
/// time, of however many reviews.
pub(super) const MAX_BODY: usize = 8 * 1024 * 1024;
/// What counts for one of [`REVIEWS`]; a larger one counts for up to half of them.
const SHARE: usize = MAX_BODY / REVIEWS;
const MOST_TURNS: usize = REVIEWS / 2;
const MAX_HEADERS: u32 = 32 * 1024;
const STREAMS: u32 = REVIEWS as u32;

type Answer = Response<Full<Bytes>>;

/// Whoever asks on a connection.
struct Asker {
    work: Work,
    /// The bytes that may still be read.
    room: Semaphore,
}

/// A review that was read, with the room that it takes: of its connection, and of all.
struct Body<'a> {
    bytes: Bytes,
    _room: SemaphorePermit<'a>,
    _read: Option<SemaphorePermit<'a>>,
}

/// Serves one connection to its end.
pub(super) async fn connection(webhook: Arc<Webhook>, connection: Connection) {
    let asker = Arc::new(Asker { work: connection.work.clone(), room: Semaphore::new(MAX_BODY) });
    let (stream, _, ending) = connection.split();
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| {
        let (webhook, asker) = (webhook.clone(), asker.clone());
        async move { Ok::<_, Infallible>(metered(&webhook, &asker, request).await) }
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

async fn metered(webhook: &Webhook, asker: &Asker, request: Request<Incoming>) -> Answer {
    let which = match request.uri().path() {
        INJECT => Which::Inject,
        VALIDATE => Which::Validate,
        EPHEMERAL => Which::Ephemeral,
        _ => return plain(StatusCode::NOT_FOUND, "there are /inject, /validate and /ephemeral\n"),
    };
    if request.method() != Method::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "use POST\n");
    }
    let began = Instant::now();
    let too_slow = |_| (plain(StatusCode::SERVICE_UNAVAILABLE, "too slow\n"), Outcome::Unavailable);
    let (answer, outcome) = timeout(PATIENCE, answer(webhook, asker, which, request)).await.unwrap_or_else(too_slow);
    webhook.meter.count(which, outcome, began.elapsed());
    answer
}

async fn answer(webhook: &Webhook, asker: &Asker, which: Which, request: Request<Incoming>) -> (Answer, Outcome) {
    // Whoever sends slowly holds nothing that others wait for.
    let body = match timeout(READING, read(&asker.room, &webhook.read, request.into_body())).await {
        Ok(Some(body)) => body,
        Ok(None) => {
            let answer = plain(StatusCode::PAYLOAD_TOO_LARGE, "the review cannot be read, or is above 8 MiB\n");
            return (answer, Outcome::Malformed);
        }
        Err(_) => {
            let answer = plain(StatusCode::REQUEST_TIMEOUT, "the review did not come within 2 seconds\n");
            return (answer, Outcome::Malformed);
        }
    };
    let _doing = asker.work.begin();
    let Ok(_turns) = turns(webhook, body.bytes.len()).await else {
        return (plain(StatusCode::SERVICE_UNAVAILABLE, "it ends\n"), Outcome::Unavailable);
    };
    let request = match review::read(&body.bytes) {
        Ok(request) => request,
        Err(error) => {
            tracing::warn!(event = "review", webhook = which.name(), error, "cannot read a review");
            let hint = "want an AdmissionReview of admission.k8s.io/v1 with a request\n";
            return (plain(StatusCode::BAD_REQUEST, hint), Outcome::Malformed);
        }
    };
    let verdict = match which {
        Which::Inject => mutate::decide(webhook, &request).await,
        Which::Validate => validate::decide(webhook, &webhook.settings.trust_domain, &request),
        Which::Ephemeral => ephemeral::decide(&request),
    };
    let mut answer = Response::new(Full::from(verdict.answer(&request.uid)));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (answer, Outcome::of(&verdict))
}

/// Waits for the turns that a review of this size takes.
pub(super) async fn turns(
    webhook: &Webhook,
    size: usize,
) -> Result<(Option<SemaphorePermit<'_>>, SemaphorePermit<'_>), AcquireError> {
    let turns = size.div_ceil(SHARE).clamp(1, MOST_TURNS);
    let only = if turns > 1 { Some(webhook.large_reviews.acquire().await?) } else { None };
    let turns = webhook.reviews.acquire_many(u32::try_from(turns).unwrap_or(u32::MAX)).await?;
    Ok((only, turns))
}

/// Reads a review once its connection has room for it; `None` if it is too large, or breaks off. Of the room of all it takes
/// what has come, not what was announced.
async fn read<'a>(room: &'a Semaphore, of_all: &'a Semaphore, body: Incoming) -> Option<Body<'a>> {
    let most = u64::try_from(MAX_BODY).unwrap_or(u64::MAX);
    let size = body.size_hint().upper().unwrap_or(most);
    let size = u32::try_from(size).ok().filter(|_| size <= most)?;
    let room = room.acquire_many(size).await.ok()?;
    let mut body = Limited::new(body, usize::try_from(size).ok()?);
    let (mut bytes, mut taken) = (Vec::new(), None::<SemaphorePermit<'_>>);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        let more = of_all.acquire_many(u32::try_from(data.len()).ok()?).await.ok()?;
        match &mut taken {
            Some(taken) => taken.merge(more),
            None => taken = Some(more),
        }
        bytes.extend_from_slice(&data);
    }
    Some(Body { bytes: bytes.into(), _room: room, _read: taken })
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    answer
}
