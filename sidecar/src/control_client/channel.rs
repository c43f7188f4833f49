//! One HTTP/2 connection to the operator, for tonic.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use control::{
    pb::control_client::ControlClient,
    tls::{Identity, TrustBundle},
};
use fapi::SpiffeId;
use http::{Request, Response, Uri, uri::Scheme};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tonic::{body::Body, client::GrpcService};

use super::dial::{self, DialError};

/// A half-open connection to a dead operator must not look alive: meanwhile nothing is learned of endpoints that died with it, and
/// no new destination is found.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEP_ALIVE_WITHIN: Duration = Duration::from_secs(10);

/// A connection that ends when it breaks; there is no reconnecting below the calls, since a call knows what to say
/// again.
#[derive(Clone)]
pub(crate) struct Channel {
    sender: http2::SendRequest<Body>,
}

/// Connects to the operator at `target`, which must be `expect`; shows `identity` if there is one.
pub(crate) async fn connect(
    target: &str,
    bundle: &TrustBundle,
    identity: Option<&Identity>,
    expect: &SpiffeId,
) -> Result<ControlClient<Channel>, DialError> {
    let config = control::tls::client_config(bundle, identity, vec![expect.clone()], &[b"h2"])?;
    let stream = dial::by_name(target, config.into()).await?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_WITHIN)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| DialError::Http { target: target.to_owned(), source: error })?;
    // Ends with the last sender; what broke it shows at the calls.
    tokio::spawn(connection);
    Ok(ControlClient::with_origin(Channel { sender }, origin(target)))
}

/// The authority says nothing: the server is known by its certificate.
fn origin(target: &str) -> Uri {
    Uri::builder().scheme(Scheme::HTTPS).authority(target).path_and_query("/").build().unwrap_or_default()
}

impl GrpcService<Body> for Channel {
    type ResponseBody = Incoming;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}
