//! Connections to operator, issuer and peers: name, TCP, TLS, each with a deadline.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use control::tls::TlsError;
use fapi::Rejection;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const RESOLVE_WITHIN: Duration = Duration::from_secs(2);
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(4);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The name has no address.
    #[error("{target} cannot be resolved: {source}")]
    Resolve { target: String, source: io::Error },
    /// Nobody accepts there.
    #[error("{target} does not accept connections: {source}")]
    Connect { target: String, source: io::Error },
    /// The handshake failed, on either side.
    #[error("the TLS handshake with {target} failed: {source}")]
    Handshake { target: String, source: io::Error },
    /// A step took too long.
    #[error("{target} took too long to {step}")]
    TooSlow { target: String, step: &'static str },
    /// TLS is up, HTTP is not.
    #[error("{target} does not speak HTTP as expected: {source}")]
    Http { target: String, source: hyper::Error },
    /// Our own side cannot begin a handshake.
    #[error(transparent)]
    Config(#[from] TlsError),
}

impl DialError {
    /// The reason if we refused the other side's certificate.
    pub(crate) fn rejection(&self) -> Option<Rejection> {
        match self {
            Self::Handshake { source, .. } => control::tls::rejection_of(source),
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::TooSlow { .. }
            | Self::Http { .. }
            | Self::Config(_) => None,
        }
    }
}

/// Connects to `target`, `host:port`, trying each of its addresses. Whom to expect is part of `config`.
pub(crate) async fn by_name(target: &str, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, DialError> {
    let (stream, address) = first_of(target).await?;
    tls(stream, address, config).await
}

/// Connects to a server outside the mesh, whose certificate must name `host` (RFC 9525).
pub(crate) async fn by_dns_name(
    host: &str,
    port: u16,
    config: Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, DialError> {
    let target = format!("{host}:{port}");
    let resolve = |source| DialError::Resolve { target: target.clone(), source };
    // An address of IPv6 stands in brackets in a URL.
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(bare).map_err(|error| resolve(io::Error::other(error)))?;
    let (stream, _) = first_of(&target).await?;
    shake_hands(stream, &target, name, config).await
}

/// The first address of a name that accepts.
async fn first_of(target: &str) -> Result<(TcpStream, SocketAddr), DialError> {
    let resolve = |source| DialError::Resolve { target: target.to_owned(), source };
    let addresses = within(RESOLVE_WITHIN, target, "resolve", lookup_host(target)).await?.map_err(resolve)?;
    let mut last = resolve(io::ErrorKind::NotFound.into());
    for address in addresses {
        match tcp(address).await {
            Ok(stream) => return Ok((stream, address)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Connects to `address`.
pub(crate) async fn tcp(address: SocketAddr) -> Result<TcpStream, DialError> {
    let failed = |source| DialError::Connect { target: address.to_string(), source };
    let stream = within(CONNECT_WITHIN, address, "connect", TcpStream::connect(address)).await?.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}

/// The client's side of a handshake. Whom to expect is part of `config`.
pub(crate) async fn tls(
    stream: TcpStream,
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, DialError> {
    shake_hands(stream, &address.to_string(), ServerName::IpAddress(address.ip().into()), config).await
}

async fn shake_hands(
    stream: TcpStream,
    target: &str,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, DialError> {
    let handshake = TlsConnector::from(config).connect(name, stream);
    within(HANDSHAKE_WITHIN, target, "finish the TLS handshake", handshake)
        .await?
        .map_err(|source| DialError::Handshake { target: target.to_owned(), source })
}

async fn within<F: Future>(
    limit: Duration,
    target: impl ToString,
    step: &'static str,
    future: F,
) -> Result<F::Output, DialError> {
    timeout(limit, future).await.map_err(|_| DialError::TooSlow { target: target.to_string(), step })
}
