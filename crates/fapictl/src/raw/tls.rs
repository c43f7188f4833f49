//! One TLS connection of an attacker: its own certificate or none, its own idea of ALPN.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::danger::anyone;
use super::{Ask, Reply, exchange};
use crate::crypto;

/// Everything on a connection must happen within this time.
const LIMIT: Duration = Duration::from_secs(5);

/// How to open connections: with which certificate, speaking what.
#[derive(Clone)]
pub(crate) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Shows `identity`, or no certificate at all, and offers `alpn`.
    pub(crate) fn new(
        identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
        alpn: &[u8],
    ) -> Result<Self, rustls::Error> {
        let provider = crypto::provider();
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(anyone(provider));
        let mut config = match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }

    /// A client for a server that is verified as `config` says.
    pub(crate) fn verified(config: ClientConfig) -> Self {
        Self(Arc::new(config))
    }
}

/// The server ended the connection instead of answering. In TLS 1.3 a refused client certificate is
/// seen only here: for the client the handshake is over before the server has looked at it.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Our own address on the refused connection; the server's log names it as the peer.
    pub(crate) local: SocketAddr,
    /// What our side saw.
    pub(crate) error: io::Error,
}

/// One open connection.
pub(crate) struct Line {
    /// Our own address on it.
    pub(crate) local: SocketAddr,
    stream: TlsStream<TcpStream>,
}

/// Opens a connection to `server`. The outer error is for a server that is not there.
pub(crate) async fn connect(server: SocketAddr, tls: &Tls) -> io::Result<Result<Line, Refused>> {
    let tcp = timeout(LIMIT, TcpStream::connect(server)).await??;
    tcp.set_nodelay(true)?;
    let local = tcp.local_addr()?;
    let name = ServerName::IpAddress(server.ip().into());
    let connecting = TlsConnector::from(tls.0.clone()).connect(name, tcp);
    Ok(match timeout(LIMIT, connecting).await? {
        Ok(stream) => Ok(Line { local, stream }),
        Err(error) => Err(Refused { local, error }),
    })
}

/// Sends one request without TLS and reads one answer.
pub(crate) async fn exchange_plain(server: SocketAddr, ask: &Ask) -> io::Result<Reply> {
    let mut tcp = timeout(LIMIT, TcpStream::connect(server)).await??;
    timeout(LIMIT, exchange(&mut tcp, &ask.bytes())).await?
}

impl Line {
    /// Sends one request and reads one answer.
    pub(crate) async fn ask(&mut self, ask: &Ask) -> Result<Reply, Refused> {
        self.send(&ask.bytes()).await
    }

    /// Sends exactly these bytes and reads one answer.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<Reply, Refused> {
        let answer = timeout(LIMIT, exchange(&mut self.stream, request)).await;
        let late = |_| Err(io::Error::from(io::ErrorKind::TimedOut));
        answer.unwrap_or_else(late).map_err(|error| Refused { local: self.local, error })
    }

    /// The certificate that the server showed.
    pub(crate) fn server_leaf(&self) -> Option<&CertificateDer<'static>> {
        self.stream.get_ref().1.peer_certificates()?.first()
    }

    /// The bare stream, for another protocol on top.
    pub(crate) fn into_stream(self) -> TlsStream<TcpStream> {
        self.stream
    }
}
