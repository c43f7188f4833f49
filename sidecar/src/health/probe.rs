//! One question to the app, asked in the kubelet's place.

use std::{
    cell::Cell,
    error::Error as _,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use control::{
    pod::probes::{LONGEST, Place, Probe, ProbeKind},
    tls::TlsError,
};
use http::StatusCode;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{grpc, http_get::Get};

/// The log hears of a probe once in this time at most, however often it changes and whoever asks.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// A probe, ready to be asked.
pub(crate) struct Question {
    container: String,
    kind: ProbeKind,
    port: u16,
    within: Duration,
    how: How,
    told: Told,
}

enum How {
    Http(Box<Get>),
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
    #[error("no TLS 1.3, the only one that is spoken here: {0}")]
    Tls(io::Error),
    #[error("no HTTP: {}", with_cause(.0))]
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

/// The library says the cause only where it is asked for it.
fn with_cause(error: &hyper::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

impl Question {
    /// Reads a probe and its path.
    ///
    /// # Errors
    /// See [`InvalidProbe`].
    pub(crate) fn new(path: &str, probe: &Probe) -> Result<Self, InvalidProbe> {
        let place = Place::at(path).filter(|place| place.kind.is_hook() == place.secret.is_some());
        let Place { container, kind, .. } = place.ok_or(InvalidProbe::Path)?;
        let (port, seconds, how) = match probe {
            Probe::Http(http) => (http.port, http.timeout, How::Http(Get::new(http, kind)?.into())),
            Probe::Tcp(tcp) => (tcp.port, tcp.timeout, How::Tcp),
            Probe::Grpc(grpc) => (grpc.port, grpc.timeout, How::Grpc(grpc.service.clone())),
        };
        let within = Duration::from_secs(seconds.clamp(1, LONGEST).into());
        Ok(Self { container: container.to_owned(), kind, port, within, how, told: Told::default() })
    }

    /// Whether the app does something, where others only ask how it is.
    pub(super) fn is_hook(&self) -> bool {
        self.kind.is_hook()
    }

    /// Asks the app at this address; whether all is well.
    pub(crate) async fn ask(&self, app: IpAddr) -> bool {
        let address = SocketAddr::new(app, self.port);
        let mut wait = Wait { question: self, address, since: Instant::now(), is_over: false };
        let answer = timeout(self.within, self.answer(address)).await.unwrap_or(Err(Unanswered::TooSlow));
        wait.is_over = true;
        self.tell(address, &answer);
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

    fn tell(&self, address: SocketAddr, answer: &Result<(), Unanswered>) {
        if !self.told.is_news(answer.is_ok(), Instant::now()) {
            return;
        }
        let (container, probe) = (&self.container, self.kind.name());
        let asked = match &self.how {
            How::Http(get) => get.url(address),
            How::Tcp => address.to_string(),
            How::Grpc(service) => format!("grpc.health.v1.Health at {address}, service {service:?}"),
        };
        match answer {
            Ok(()) => tracing::info!(container, probe, asked, "the app passes this probe again"),
            Err(why) => tracing::warn!(container, probe, asked, %why, "the app fails this probe"),
        }
    }
}

/// Waiting for the app. A kubelet has the same patience and began before, so it is often gone when the time is over.
struct Wait<'a> {
    question: &'a Question,
    address: SocketAddr,
    since: Instant,
    is_over: bool,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        // Whoever left early has not seen it fail.
        if !self.is_over && self.since.elapsed() >= self.question.within * 3 / 4 {
            self.question.tell(self.address, &Err(Unanswered::TooSlow));
        }
    }
}

/// What the log was told last about a probe, and when.
struct Told(Cell<(bool, Option<Instant>)>);

impl Default for Told {
    /// That a probe passes is told only of one that failed.
    fn default() -> Self {
        Self(Cell::new((true, None)))
    }
}

impl Told {
    /// Whether to tell it now. What comes too soon is told the next time, if it is still so.
    fn is_news(&self, passes: bool, now: Instant) -> bool {
        let (passed, at) = self.0.get();
        let is_news = passes != passed && at.is_none_or(|at| now.duration_since(at) >= TOLD_EVERY);
        if is_news {
            self.0.set((passes, Some(now)));
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_told_of_changes_and_not_of_each_of_many() {
        let (told, start) = (Told::default(), Instant::now());
        let news = |passes: bool, second: u64| told.is_news(passes, start + Duration::from_secs(second));
        assert!(!news(true, 0), "nobody waits for that");
        assert!(news(false, 1));
        assert!(!news(false, 2), "it is known");
        assert!(!news(true, 3) && !news(false, 4) && !news(true, 5), "too soon");
        assert!(news(true, 11), "and told as soon as it may be");
        assert!(!news(false, 20) && news(false, 21));
    }
}
