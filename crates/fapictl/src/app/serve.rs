//! The server side of an app.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::told::told;
use super::{App, call, socket};

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// The one header that an app passes on with the calls that it makes for a call, if it is there.
const CONTEXT: &str = "x-fapi-context";
/// Where the gRPC health protocol asks, and `HealthCheckResponse{status: SERVING}` as gRPC frames it.
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const SERVING: [u8; 7] = [0, 0, 0, 0, 2, 8, 1];
/// No app of the demo takes more than this.
const MOST: usize = 1 << 20;
/// A body must have come within this time.
const LIMIT: Duration = Duration::from_secs(10);

/// Serves one connection, HTTP/1.1 or h2c, whichever its first bytes say.
pub(crate) async fn connection(app: Arc<App>, stream: TokioIo<TcpStream>, executor: TokioExecutor) {
    let service = service_fn(move |request| {
        let app = app.clone();
        async move { Ok::<_, Infallible>(answer(&app, request).await) }
    });
    // How a connection ends is its client's business.
    let _ = Builder::new(executor).serve_connection_with_upgrades(stream, service).await;
}

async fn answer(app: &App, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    if let Some(how) = path.strip_prefix("/call/") {
        return match &app.caller {
            Some(caller) => {
                let passed = only(request.headers(), http::header::AUTHORIZATION.as_str());
                json_answer(StatusCode::OK, &caller.play(how, &passed).await)
            }
            None => json_answer(StatusCode::NOT_FOUND, &json!({"error": "this app calls nobody"})),
        };
    }
    if request.headers().contains_key(http::header::UPGRADE) {
        let told = told(request.headers(), None);
        log(app, &request, &told);
        return socket::accept(request, &told)
            .unwrap_or_else(|| json_answer(StatusCode::BAD_REQUEST, &json!({"error": "not a WebSocket request"})));
    }
    let (parts, body) = request.into_parts();
    let whole = timeout(LIMIT, Limited::new(body, MOST).collect()).await;
    let Ok(Ok(whole)) = whole else {
        return json_answer(StatusCode::BAD_REQUEST, &json!({"error": "the body did not arrive"}));
    };
    let told = told(&parts.headers, whole.trailers());
    let body = whole.to_bytes();
    let request = Request::from_parts(parts, ());
    log(app, &request, &told);
    if is_grpc(request.headers()) {
        let message = if path == HEALTH { Bytes::from_static(&SERVING) } else { body };
        return grpc(message, &told);
    }
    if path == "/deaf" {
        app.deaf.notify_one();
    }
    let mut said = json!({
        "app": app.name,
        "told": told,
        "version": format!("{:?}", request.version()),
        "length": body.len(),
    });
    if path != "/transfers" {
        return json_answer(StatusCode::OK, &said);
    }
    match &app.caller {
        None => json_answer(StatusCode::OK, &said),
        Some(caller) => pass_on(caller, &only(request.headers(), CONTEXT), body, &mut said).await,
    }
}

/// A transfer is booked at the next service, for whoever called us; its refusal is ours.
async fn pass_on(caller: &call::Caller, passed: &HeaderMap, body: Bytes, said: &mut Value) -> Answer {
    match caller.post("/entries", passed, body).await {
        Ok((status, next)) => {
            said["next"] = next;
            json_answer(status, said)
        }
        Err(error) => {
            said["error"] = json!(error.to_string());
            json_answer(StatusCode::BAD_GATEWAY, said)
        }
    }
}

/// The header of this name, if it is there.
fn only(headers: &HeaderMap, name: &'static str) -> HeaderMap {
    let found = headers.get(name).map(|value| (HeaderName::from_static(name), value.clone()));
    found.into_iter().collect()
}

/// One line a call: the demo reads here what reached an app at all.
fn log<B>(app: &App, request: &Request<B>, told: &Value) {
    let line = json!({
        "event": "call",
        "app": app.name,
        "method": request.method().as_str(),
        "path": request.uri().path(),
        "told": told,
    });
    println!("{line}");
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(http::header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// A message, and the outcome in trailers, where gRPC has it.
fn grpc(message: Bytes, told: &Value) -> Answer {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let caller = told["caller"].as_str().unwrap_or_default();
    if let Ok(caller) = HeaderValue::from_str(caller) {
        trailers.insert("told-caller", caller);
    }
    let body = Full::new(message).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut answer = Response::new(body.boxed());
    let kind = HeaderValue::from_static("application/grpc");
    answer.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    answer
}

fn json_answer(status: StatusCode, value: &Value) -> Answer {
    let mut answer = Response::new(Full::from(value.to_string()).boxed());
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    answer
}
