//! One question to the app, asked in the kubelet's place.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use control::{
    pod::probes::{HttpProbe, LONGEST, Place, Probe, ProbeKind, Scheme},
    tls::{TlsError, danger::unverified_client_config},
};
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::grpc;
use crate::local::answer_over;

/// Applications know the probes of a kubelet by it.
const USER_AGENT: HeaderValue = HeaderValue::from_static("kube-probe/fapi-sidecar");
/// No answer of an app begins with more.
const HEAD_BYTES: usize = 64 * 1024;

/// A probe, ready to be asked.
pub(crate) struct Question {
    kind: ProbeKind,
    port: u16,
    within: Duration,
    how: How,
}

enum How {
    Http(Request<()>),
    Https(Request<()>, Arc<ClientConfig>),
    Tcp,
    Grpc(String),
}

/// Why a probe cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum InvalidProbe {
    /// It stands nowhere, or everybody could have a hook run.
    #[error("its path is not /probes/CONTAINER/KIND, with 32 hexadecimal digits more for a hook")]
    Path,
    /// It cannot be written as a request.
    #[error("path, query or headers cannot be sent: {0}")]
    Request(#[from] http::Error),
    /// The library gives no TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Why an app did not answer; nobody but the log is told.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    #[error("no connection: {0}")]
    Io(#[from] io::Error),
    #[error("no HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("status {0}")]
    Status(StatusCode),
    #[error("not serving")]
    NotServing,
    #[error("no answer in time")]
    TooSlow,
}

impl Question {
    /// Reads a probe and its path.
    ///
    /// # Errors
    /// See [`InvalidProbe`].
    pub(crate) fn new(path: &str, probe: &Probe) -> Result<Self, InvalidProbe> {
        let place = Place::at(path).filter(|place| place.kind.is_hook() == place.secret.is_some());
        let kind = place.ok_or(InvalidProbe::Path)?.kind;
        let (port, seconds, how) = match probe {
            Probe::Http(http) => (http.port, http.timeout, how(http)?),
            Probe::Tcp(tcp) => (tcp.port, tcp.timeout, How::Tcp),
            Probe::Grpc(grpc) => (grpc.port, grpc.timeout, How::Grpc(grpc.service.clone())),
        };
        Ok(Self { kind, port, within: Duration::from_secs(seconds.clamp(1, LONGEST).into()), how })
    }

    /// Whether the app does something, where others only ask how it is.
    pub(super) fn is_hook(&self) -> bool {
        self.kind.is_hook()
    }

    /// Asks the app at this address; whether all is well.
    pub(crate) async fn ask(&self, app: IpAddr) -> bool {
        let address = SocketAddr::new(app, self.port);
        let asked = timeout(self.within, self.answer(address)).await;
        match asked.unwrap_or(Err(Unanswered::TooSlow)) {
            Ok(()) => true,
            Err(why) => {
                tracing::debug!(%address, %why, "a probe of the app failed");
                false
            }
        }
    }

    async fn answer(&self, address: SocketAddr) -> Result<(), Unanswered> {
        let stream = TcpStream::connect(address).await?;
        match &self.how {
            How::Tcp => Ok(()),
            How::Http(request) => get(stream, addressed(request, address)).await,
            How::Https(request, config) => {
                let name = ServerName::IpAddress(address.ip().into());
                let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
                get(stream, addressed(request, address)).await
            }
            How::Grpc(service) => grpc::check(stream, address, service).await,
        }
    }
}

fn how(probe: &HttpProbe) -> Result<How, InvalidProbe> {
    // The kubelet takes a path without its slash too.
    let slash = if probe.path.starts_with('/') { "" } else { "/" };
    let uri = Uri::try_from([slash, &probe.path].concat()).map_err(http::Error::from)?;
    let mut request = Request::get(uri).body(())?;
    request.headers_mut().insert(header::USER_AGENT, USER_AGENT);
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    for (at, given) in probe.headers.iter().enumerate() {
        let name = HeaderName::try_from(&given.name).map_err(http::Error::from)?;
        let value = HeaderValue::try_from(&given.value).map_err(http::Error::from)?;
        // The first of a name takes the place of ours.
        if probe.headers.iter().take(at).any(|other| other.name.eq_ignore_ascii_case(&given.name)) {
            request.headers_mut().append(name, value);
        } else {
            request.headers_mut().insert(name, value);
        }
    }
    Ok(match probe.scheme {
        Scheme::Http => How::Http(request),
        Scheme::Https => How::Https(request, Arc::new(unverified_client_config()?)),
    })
}

fn addressed(request: &Request<()>, address: SocketAddr) -> Request<Empty<Bytes>> {
    let mut request = request.clone().map(|()| Empty::new());
    if !request.headers().contains_key(header::HOST)
        && let Ok(host) = HeaderValue::try_from(address.to_string())
    {
        request.headers_mut().insert(header::HOST, host);
    }
    request
}

/// Good is what a kubelet takes for good; a redirection is, and is not followed.
async fn get<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<(), Unanswered>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(TokioIo::new(stream)).await?;
    let status = answer_over(connection, sender.send_request(request)).await?.status();
    if status.is_success() || status.is_redirection() { Ok(()) } else { Err(Unanswered::Status(status)) }
}
