//! An API server whose answers a test makes up.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::Value as Json;

/// What was asked.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Json,
}

/// Status and body of an answer.
pub(crate) type Answer = (u16, String);

/// A client of a server that answers so.
pub(crate) fn client(answer: impl Fn(Asked) -> Answer + Send + Sync + 'static) -> Client {
    slow_client(move |asked| (Duration::ZERO, answer(asked)))
}

/// A client of a server that answers so, after this time.
pub(crate) fn slow_client(answer: impl Fn(Asked) -> (Duration, Answer) + Send + Sync + 'static) -> Client {
    Client::new(Server(Arc::new(answer)), "default")
}

/// The body of a refusal.
pub(crate) fn failure(code: u16) -> Answer {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        _ => "InternalError",
    };
    let status = serde_json::json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "message": "no", "reason": reason,
    });
    (code, status.to_string())
}

#[derive(Clone)]
struct Server(Arc<dyn Fn(Asked) -> (Duration, Answer) + Send + Sync>);

impl tower_service::Service<Request<Body>> for Server {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let bytes = body.collect().await.unwrap().to_bytes();
            let asked = Asked {
                method: head.method,
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
                body: serde_json::from_slice(&bytes).unwrap_or_default(),
            };
            let (after, (status, body)) = server.0(asked);
            tokio::time::sleep(after).await;
            Ok(Response::builder().status(status).body(Body::from(body.into_bytes())).unwrap())
        })
    }
}
