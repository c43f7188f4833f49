//! HTTP probes and hooks: a `GET` as a kubelet sends it, and what it follows.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use control::{
    pod::probes::{HttpProbe, ProbeKind, Scheme},
    tls::danger::unverified_client_config,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri,
    header::{ACCEPT, CONNECTION, CONTENT_LENGTH, HOST, LOCATION, TRAILER, TRANSFER_ENCODING, USER_AGENT},
    response::Parts,
};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{
    probe::{InvalidProbe, Unanswered},
    target,
};
use crate::local::answer_over;

/// Applications know the probes and the hooks of a kubelet by these.
pub(super) const PROBE: HeaderValue = HeaderValue::from_static("kube-probe/fapi-sidecar");
const HOOK: HeaderValue = HeaderValue::from_static("kube-lifecycle/fapi-sidecar");
/// No answer of an app begins with more.
const HEAD_BYTES: usize = 64 * 1024;
/// So much of its content a kubelet reads.
const BODY_BYTES: usize = 10 * 1024;
/// So many requests a kubelet sends for one probe.
const REQUESTS: usize = 10;
/// What the connection alone decides.
const FRAMING: [HeaderName; 3] = [CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER];

/// A `GET`, ready to be sent to the app at any address.
pub(super) struct Get {
    first: Step,
    headers: HeaderMap,
    tls: Arc<ClientConfig>,
}

/// What is asked for by one request.
#[derive(Clone)]
struct Step {
    scheme: Scheme,
    port: u16,
    /// Path and query.
    target: Uri,
    /// The address, if there is none.
    host: Option<HeaderValue>,
}

impl Get {
    pub(super) fn new(probe: &HttpProbe, kind: ProbeKind) -> Result<Self, InvalidProbe> {
        let mut headers = HeaderMap::new();
        for given in &probe.headers {
            let name = HeaderName::try_from(&given.name).map_err(http::Error::from)?;
            let value = HeaderValue::try_from(&given.value).map_err(http::Error::from)?;
            headers.append(name, value);
        }
        let host = headers.get(HOST).filter(|host| !host.is_empty()).cloned();
        let ours = if kind.is_hook() { HOOK } else { PROBE };
        for (name, value) in [
            (USER_AGENT, ours),
            (ACCEPT, HeaderValue::from_static("*/*")),
            (CONNECTION, HeaderValue::from_static("close")),
        ] {
            headers.entry(name).or_insert(value);
        }
        // An empty one is none, so that it can be left out.
        for name in [USER_AGENT, ACCEPT] {
            if headers.get(&name).is_some_and(HeaderValue::is_empty) {
                headers.remove(name);
            }
        }
        for name in FRAMING.iter().chain([&HOST]) {
            headers.remove(name);
        }
        let target = Uri::try_from(target::target(&probe.path)).map_err(http::Error::from)?;
        let first = Step { scheme: probe.scheme, port: probe.port, target, host };
        Ok(Self { first, headers, tls: Arc::new(unverified_client_config()?) })
    }

    /// What is asked for, without its query: that is the app's business alone.
    pub(super) fn url(&self, address: SocketAddr) -> String {
        format!("{}://{address}{}", name(self.first.scheme), self.first.target.path())
    }

    /// The status of the app at this address. A redirection within it is followed.
    pub(super) async fn ask(&self, address: SocketAddr) -> Result<StatusCode, Unanswered> {
        let mut step = self.first.clone();
        for _ in 0..REQUESTS {
            let answer = self.send(&step, SocketAddr::new(address.ip(), step.port)).await?;
            match step.next(&answer, address.ip())? {
                Some(next) => step = next,
                None => return Ok(answer.status),
            }
        }
        Err(Unanswered::Redirections)
    }

    async fn send(&self, step: &Step, address: SocketAddr) -> Result<Parts, Unanswered> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = step.target.clone();
        *request.headers_mut() = self.headers.clone();
        // Digits and dots are a legal value.
        let host = step.host.clone().or_else(|| HeaderValue::try_from(address.to_string()).ok());
        request.headers_mut().extend(host.map(|host| (HOST, host)));
        let stream = TcpStream::connect(address).await?;
        match step.scheme {
            Scheme::Http => exchange(stream, request).await,
            Scheme::Https => {
                let name = ServerName::IpAddress(address.ip().into());
                let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await;
                exchange(stream.map_err(Unanswered::Tls)?, request).await
            }
        }
    }
}

impl Step {
    /// Where an answer leads; `None` if it is the last one, as is one that leads to another host.
    fn next(&self, answer: &Parts, app: IpAddr) -> Result<Option<Self>, Unanswered> {
        let leads = matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308);
        let Some(location) = answer.headers.get(LOCATION).filter(|location| leads && !location.is_empty()) else {
            return Ok(None);
        };
        let location = location.to_str().map_err(|_| Unanswered::Location)?;
        let is_authority = location.starts_with("//");
        if !is_authority && target::scheme(location).is_none() {
            let folder = self.target.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            let path = if location.starts_with('/') { location.to_owned() } else { format!("{folder}/{location}") };
            return Ok(Some(Self { target: parsed(&target::target(&path))?, ..self.clone() }));
        }
        let whole = if is_authority { format!("{}:{location}", name(self.scheme)) } else { location.to_owned() };
        let there = parsed(whole.split(['?', '#']).next().unwrap_or_default())?;
        let (scheme, usual) = match there.scheme_str() {
            Some("http") => (Scheme::Http, 80),
            Some("https") => (Scheme::Https, 443),
            _ => return Err(Unanswered::Location),
        };
        let host = there.host().unwrap_or_default().trim_matches(['[', ']']);
        if host.parse::<IpAddr>().ok() != Some(app) {
            return Ok(None);
        }
        let host = there.authority().and_then(|authority| HeaderValue::try_from(authority.as_str()).ok());
        Ok(Some(Self {
            scheme,
            port: there.port_u16().unwrap_or(usual),
            target: parsed(&target::target(&whole))?,
            host,
        }))
    }
}

fn parsed(text: &str) -> Result<Uri, Unanswered> {
    Uri::try_from(text).map_err(|_| Unanswered::Location)
}

const fn name(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    }
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Parts, Unanswered>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        // A hook may say by its end that it is done. What it holds, and whether it is whole, is nobody's business here.
        drop(Limited::new(body, BODY_BYTES).collect().await);
        Ok(head)
    };
    answer_over(connection, answer).await
}
