//! One question to the app, asked in the kubelet's place.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use control::{
    pod::probes::{LONGEST, Place, Probe, ProbeKind},
    tls::TlsError,
};
use http::StatusCode;
use tokio::{net::TcpStream, time::timeout};

use super::{grpc, http_get::Get};

/// A probe, ready to be asked.
pub(crate) struct Question {
    kind: ProbeKind,
    port: u16,
    within: Duration,
    how: How,
}

enum How {
    Http(Get),
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
    #[error("a redirection to what is no URL")]
    Location,
    #[error("too many redirections")]
    Redirections,
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
            Probe::Http(http) => (http.port, http.timeout, How::Http(Get::new(http, kind)?)),
            Probe::Tcp(tcp) => (tcp.port, tcp.timeout, How::Tcp),
            Probe::Grpc(grpc) => (grpc.port, grpc.timeout, How::Grpc(grpc.service.clone())),
        };
        let within = Duration::from_secs(seconds.clamp(1, LONGEST).into());
        Ok(Self { kind, port, within, how })
    }

    /// Whether the app does something, where others only ask how it is.
    pub(super) fn is_hook(&self) -> bool {
        self.kind.is_hook()
    }

    /// Asks the app at this address; whether all is well.
    pub(crate) async fn ask(&self, app: IpAddr) -> bool {
        let address = SocketAddr::new(app, self.port);
        let answer = timeout(self.within, self.answer(address)).await.unwrap_or(Err(Unanswered::TooSlow));
        if let Err(why) = &answer {
            tracing::debug!(%address, %why, "a probe of the app failed");
        }
        answer.is_ok()
    }

    async fn answer(&self, address: SocketAddr) -> Result<(), Unanswered> {
        match &self.how {
            How::Tcp => TcpStream::connect(address).await.map(drop).map_err(Unanswered::from),
            How::Http(get) => {
                let status = get.ask(address).await?;
                // A kubelet hears of a hook that it was answered, not what.
                let is_good = self.is_hook() || status.is_success() || status.is_redirection();
                if is_good { Ok(()) } else { Err(Unanswered::Status(status)) }
            }
            How::Grpc(service) => grpc::check(TcpStream::connect(address).await?, address, service).await,
        }
    }
}
