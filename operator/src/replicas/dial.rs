//! One connection to the replica that holds the Lease, with the operator's own identity on both sides.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use control::pb::control_client::ControlClient;
use control::tls::{Identity, TlsError, TrustBundle};
use fapi::SpiffeId;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::client::GrpcService;

use crate::control_server::{ALPN, PING, PONG};

/// Name, TCP, TLS and HTTP together.
const CONNECT: Duration = Duration::from_secs(5);

/// Why there is no stream, or no longer.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// It is not there, or not who it should be.
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    /// Our own side cannot begin.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It does not speak HTTP/2.
    #[error("cannot connect: {0}")]
    Http(#[from] hyper::Error),
    /// It ended the stream, and says why.
    #[error("it ended the stream: {}", .0.message())]
    Ended(#[from] Box<tonic::Status>),
    /// It is gone.
    #[error("the stream has ended")]
    Gone,
    /// It took too long.
    #[error("it takes too long to {0}")]
    TooSlow(&'static str),
}

/// One HTTP/2 connection as tonic wants it. What breaks it shows at the calls.
#[derive(Clone)]
pub(crate) struct Channel(pub(crate) http2::SendRequest<Body>);

/// Connects to `address`, where `operator` must be at home.
pub(super) async fn connect(
    address: SocketAddr,
    bundle: &TrustBundle,
    identity: &Identity,
    operator: &SpiffeId,
) -> Result<ControlClient<Channel>, LinkError> {
    let config = control::tls::client_config(bundle, Some(identity), vec![operator.clone()], ALPN)?;
    let connecting = async {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let stream = TlsConnector::from(Arc::new(config)).connect(ServerName::from(address.ip()), tcp).await?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PONG);
        Ok::<_, LinkError>(builder.handshake(TokioIo::new(stream)).await?)
    };
    let connected = tokio::time::timeout(CONNECT, connecting).await;
    let (sender, connection) = connected.map_err(|_| LinkError::TooSlow("connect"))??;
    // Ends with the last sender.
    tokio::spawn(connection);
    // The authority says nothing: the server is known by its certificate.
    let origin = format!("https://{address}").parse().unwrap_or_default();
    Ok(ControlClient::with_origin(Channel(sender), origin))
}

impl GrpcService<Body> for Channel {
    type ResponseBody = Incoming;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
