//! Requests to an authorization server: mutual TLS, connections kept for one more request, bounded in size. No redirect is
//! followed.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use control::ExternalIssuer;
use fapi::{CertThumbprint, Issuer, SpiffeId};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::{FetchError, lock, server::Place};
use crate::{
    clock::monotonic,
    control_client::dial,
    identity::Certificate,
    issuers::{Endpoint, Metadata, Server, ServerError},
    state::Shared,
};

/// Connections kept for the next request.
const IDLE: usize = 8;
const ANSWER_BYTES: usize = 64 * 1024;
const METADATA_WITHIN: Duration = Duration::from_secs(4);
/// Metadata is read again after this, and after every failure that it might explain.
const METADATA_FOR: Duration = Duration::from_secs(600);
/// However long a server wants to be left alone, it is asked again after this.
const REST_AT_MOST: Duration = Duration::from_secs(300);
/// Where it does not say how long.
const REST: Duration = Duration::from_secs(5);

type Sender = http1::SendRequest<Full<Bytes>>;

/// The way to one server.
pub(crate) struct Transport {
    way: Way,
    idle: Mutex<Vec<(CertThumbprint, Arc<Endpoint>, Sender)>>,
    /// It has too much to do; until then it is not asked.
    rests_until: Mutex<Option<Instant>>,
}

enum Way {
    /// By its identity, at the place that the operator named.
    Mesh { endpoint: Arc<Endpoint>, expect: SpiffeId },
    /// By its name, at the place that its metadata names.
    Outside { server: Server, found: Mutex<Option<(Arc<Metadata>, Instant)>> },
}

/// One answer, read to its end.
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Transport {
    /// The way to `place`; the mesh's own server has the identity `operator`.
    pub(crate) fn new(place: &Place, operator: &SpiffeId, roots: PathBuf) -> Result<Self, &'static str> {
        match place {
            Place::Mesh { token_endpoint, .. } => {
                let endpoint = Endpoint::parse(token_endpoint).ok_or("its token endpoint is no https URL")?;
                Ok(Self::of(Way::Mesh { endpoint: Arc::new(endpoint), expect: operator.clone() }))
            }
            Place::Outside { server, .. } => Self::outside(server, roots),
        }
    }

    /// The way to a server outside the mesh.
    pub(crate) fn outside(server: &ExternalIssuer, roots: PathBuf) -> Result<Self, &'static str> {
        let issuer = Issuer::parse(&server.issuer).map_err(|_| "it is no issuer identifier")?;
        let server = Server::new(issuer, server.clone(), roots);
        Ok(Self::of(Way::Outside { server, found: Mutex::default() }))
    }

    fn of(way: Way) -> Self {
        Self { way, idle: Mutex::default(), rests_until: Mutex::default() }
    }

    /// Where to send requests: the endpoint of the mesh's own server, or the one that `of` picks of the metadata.
    pub(crate) async fn endpoint(
        &self,
        of: fn(&Metadata) -> Result<Endpoint, ServerError>,
    ) -> Result<Arc<Endpoint>, FetchError> {
        self.check_rest()?;
        let (server, found) = match &self.way {
            Way::Mesh { endpoint, .. } => return Ok(Arc::clone(endpoint)),
            Way::Outside { server, found } => (server, found),
        };
        let known = lock(found).as_ref().filter(|(_, until)| monotonic() < *until).map(|(known, _)| Arc::clone(known));
        let metadata = match known {
            Some(known) => known,
            None => {
                let fetched = server.metadata(METADATA_WITHIN).await.map_err(unreachable)?;
                let fetched = Arc::new(fetched);
                *lock(found) = Some((Arc::clone(&fetched), monotonic() + METADATA_FOR));
                fetched
            }
        };
        of(&metadata).map(Arc::new).map_err(unreachable)
    }

    /// Sends what `make` makes, anew for each connection that is tried, and reads the answer.
    ///
    /// # Errors
    /// There is no whole answer, or the server wants to be left alone for a while.
    pub(crate) async fn send(
        &self,
        shared: &Shared,
        certificate: &Certificate,
        endpoint: &Arc<Endpoint>,
        make: impl Fn() -> Result<Request<Full<Bytes>>, FetchError>,
    ) -> Result<Answered, FetchError> {
        let sent = self.try_send(shared, certificate, endpoint, make).await;
        match &sent {
            Ok(answered) if wants_rest(answered) => {
                let (status, rest) = (answered.status, rest(&answered.headers));
                *lock(&self.rests_until) = Some(monotonic() + rest);
                Err(FetchError::Busy { status, rest })
            }
            // It may have moved.
            Ok(Answered {
                status: StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::GONE, ..
            })
            | Err(_) => {
                self.forget();
                sent
            }
            Ok(_) => sent,
        }
    }

    /// Closes idle connections that were made with another certificate.
    pub(crate) fn keep_only(&self, certificate: CertThumbprint) {
        lock(&self.idle).retain(|(made_with, ..)| *made_with == certificate);
    }

    fn check_rest(&self) -> Result<(), FetchError> {
        let rest = lock(&self.rests_until).map(|until| until.saturating_duration_since(monotonic()));
        match rest.filter(|rest| !rest.is_zero()) {
            Some(rest) => Err(FetchError::Busy { status: StatusCode::TOO_MANY_REQUESTS, rest }),
            None => Ok(()),
        }
    }

    fn forget(&self) {
        if let Way::Outside { found, .. } = &self.way {
            *lock(found) = None;
        }
    }

    async fn try_send(
        &self,
        shared: &Shared,
        certificate: &Certificate,
        endpoint: &Arc<Endpoint>,
        make: impl Fn() -> Result<Request<Full<Bytes>>, FetchError>,
    ) -> Result<Answered, FetchError> {
        if let Some(mut sender) = self.reuse(certificate.thumbprint, endpoint).await {
            // A connection that lay idle may be dead; asking for a token twice harms nobody.
            if let Ok(response) = sender.send_request(make()?).await {
                return self.read(certificate.thumbprint, endpoint, sender, response).await;
            }
        }
        let mut sender = self.connect(shared, certificate, endpoint).await?;
        let response = sender.send_request(make()?).await.map_err(|error| broken(endpoint, &error))?;
        self.read(certificate.thumbprint, endpoint, sender, response).await
    }

    async fn reuse(&self, certificate: CertThumbprint, endpoint: &Arc<Endpoint>) -> Option<Sender> {
        loop {
            let mut found = {
                let mut idle = lock(&self.idle);
                let fits = |(with, to, _): &(CertThumbprint, Arc<Endpoint>, Sender)| {
                    *with == certificate && to.host == endpoint.host && to.port == endpoint.port
                };
                let at = idle.iter().position(fits)?;
                idle.swap_remove(at).2
            };
            if found.ready().await.is_ok() {
                return Some(found);
            }
        }
    }

    async fn connect(
        &self,
        shared: &Shared,
        certificate: &Certificate,
        endpoint: &Endpoint,
    ) -> Result<Sender, FetchError> {
        let stream = match &self.way {
            Way::Mesh { expect, .. } => {
                let bundle = shared.bundle().ok_or(FetchError::Unreachable("there is no trust bundle yet".into()))?;
                let config = certificate.client_config(&bundle, expect.clone(), &[b"http/1.1"]);
                let config = config.map_err(|error| unreachable(dial::DialError::from(error)))?;
                dial::by_name(&endpoint.target(), config).await
            }
            Way::Outside { server, .. } => {
                let config = server.tls(Some(&certificate.identity)).await.map_err(unreachable)?;
                dial::by_dns_name(&endpoint.host, endpoint.port, config).await
            }
        };
        let stream = stream.map_err(unreachable)?;
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| broken(endpoint, &error))?;
        // Ends with the sender; what broke it shows at the sender.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn read(
        &self,
        certificate: CertThumbprint,
        endpoint: &Arc<Endpoint>,
        sender: Sender,
        response: Response<Incoming>,
    ) -> Result<Answered, FetchError> {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES).collect().await;
        let body = body.map_err(|_| FetchError::Answer("it broke off, or is longer than 64 KiB"))?.to_bytes();
        let mut idle = lock(&self.idle);
        if idle.len() < IDLE {
            idle.push((certificate, Arc::clone(endpoint), sender));
        }
        Ok(Answered { status: head.status, headers: head.headers, body })
    }
}

/// Whether the server has too much to do (RFC 6585 section 4, RFC 9110 section 15.6.4).
fn wants_rest(answered: &Answered) -> bool {
    answered.status == StatusCode::TOO_MANY_REQUESTS
        || (answered.status == StatusCode::SERVICE_UNAVAILABLE && answered.headers.contains_key(header::RETRY_AFTER))
}

/// `Retry-After` in seconds (RFC 9110 section 10.2.3), within bounds. A date is not read: our clocks may differ.
fn rest(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    seconds.map_or(REST, Duration::from_secs).min(REST_AT_MOST)
}

fn unreachable(error: impl Into<ServerError>) -> FetchError {
    FetchError::Unreachable(error.into().to_string())
}

fn broken(endpoint: &Endpoint, error: &hyper::Error) -> FetchError {
    FetchError::Unreachable(format!("{}: {error}", endpoint.target()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_how_long_it_wants_to_rest_within_bounds() {
        let says = |text: &str| rest(&HeaderMap::from_iter([(header::RETRY_AFTER, text.parse().unwrap())]));
        assert_eq!(says("7"), Duration::from_secs(7));
        assert_eq!(says("86400"), REST_AT_MOST);
        for text in ["-1", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", ""] {
            assert_eq!(says(text), REST, "{text}");
        }
        assert_eq!(rest(&HeaderMap::new()), REST);
    }
}
