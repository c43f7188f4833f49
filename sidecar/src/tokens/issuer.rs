//! The client of one token endpoint: mutual TLS, one request, bounded in size, time and number.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use fapi::{CertThumbprint, ProofClaims, ProofSigner, SpiffeId, TokenHash};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{sync::Semaphore, time::timeout};

use super::{
    Constraint, FetchError, ProofMaterial, Token, TokenKey,
    answer::{self, Binding, Granted},
    keeper, lock, request,
};
use crate::{clock::monotonic, control_client::dial, identity::Certificate, random, state::Shared};

/// Most requests at one time: a rotation with a thousand tokens must not become a thousand handshakes.
const AT_ONCE: usize = 8;
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_BYTES: usize = 64 * 1024;
const NONCE_BYTES: usize = 256;

const DPOP: HeaderName = HeaderName::from_static("dpop");
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

type Sender = http1::SendRequest<Full<Bytes>>;

/// The client of one token endpoint.
pub(super) struct IssuerClient {
    /// The endpoint as configured: also `htu` of its proofs.
    url: String,
    target: String,
    host: HeaderValue,
    path: Uri,
    /// The identity that its certificate must name.
    expect: SpiffeId,
    /// The key of this issuer's `DPoP` tokens. In memory only; it outlives every token bound to it.
    signer: Arc<ProofSigner>,
    nonce: Mutex<Option<String>>,
    idle: Mutex<Vec<(CertThumbprint, Sender)>>,
    permits: Semaphore,
}

/// One answer, read to its end.
struct Answered {
    status: StatusCode,
    body: Bytes,
}

impl IssuerClient {
    /// A client of the endpoint `url`, which must be an https URL.
    pub(super) fn new(url: &str, expect: SpiffeId) -> Result<Self, &'static str> {
        let uri: Uri = url.parse().map_err(|_| "it is not a URL")?;
        let authority =
            uri.authority().filter(|_| uri.scheme_str() == Some("https")).ok_or("it is not an https URL")?;
        let path = uri.path_and_query().cloned().ok_or("it has no path")?;
        Ok(Self {
            url: url.to_owned(),
            target: format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(443)),
            host: HeaderValue::from_str(authority.as_str()).map_err(|_| "its host cannot stand in a header")?,
            path: Uri::from(path),
            expect,
            signer: Arc::new(ProofSigner::generate().map_err(|_| "no key for its proofs could be made")?),
            nonce: Mutex::default(),
            idle: Mutex::default(),
            permits: Semaphore::new(AT_ONCE),
        })
    }

    /// Fetches a token that is bound to `certificate`, in exchange for `subject` if there is one (RFC 8693).
    pub(super) async fn fetch(
        &self,
        shared: &Shared,
        certificate: &Certificate,
        key: &TokenKey,
        subject: Option<&str>,
    ) -> Result<Token, FetchError> {
        let fetched = self.fetch_counted(shared, certificate, key, subject).await;
        let attempts = &shared.metrics.tokens;
        if fetched.is_ok() { &attempts.succeeded } else { &attempts.failed }.add(1);
        fetched
    }

    async fn fetch_counted(
        &self,
        shared: &Shared,
        certificate: &Certificate,
        key: &TokenKey,
        subject: Option<&str>,
    ) -> Result<Token, FetchError> {
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await;
        let late = |_| FetchError::Unreachable(format!("{} did not answer within {ANSWER_WITHIN:?}", self.target));
        let granted = timeout(ANSWER_WITHIN, self.ask(shared, certificate, key, subject)).await.map_err(late)??;
        self.token(shared, certificate, key, granted)
    }

    /// Asks; once more if the issuer wants its nonce (RFC 9449 section 8).
    async fn ask(
        &self,
        shared: &Shared,
        certificate: &Certificate,
        key: &TokenKey,
        subject: Option<&str>,
    ) -> Result<Granted, FetchError> {
        let form = Bytes::from(request::form(certificate.spiffe_id.as_str(), key, subject));
        let proof_key = (key.constraint == Constraint::Dpop).then(|| self.signer.thumbprint());
        let binding = Binding { certificate: certificate.thumbprint, proof_key };
        let now = || shared.clock.now();
        let mut answered = self.post(shared, certificate, key.constraint, &form).await?;
        let mut read = answer::read(answered.status, &answered.body, &binding, subject.is_some(), now());
        if let Err(FetchError::Nonce) = read {
            answered = self.post(shared, certificate, key.constraint, &form).await?;
            read = answer::read(answered.status, &answered.body, &binding, subject.is_some(), now());
        }
        read
    }

    fn token(
        &self,
        shared: &Shared,
        certificate: &Certificate,
        key: &TokenKey,
        granted: Granted,
    ) -> Result<Token, FetchError> {
        let scheme = match key.constraint {
            Constraint::Certificate => "Bearer",
            Constraint::Dpop => "DPoP",
        };
        let unusable = |_| FetchError::Answer("access_token cannot stand in a header");
        let mut authorization =
            HeaderValue::try_from(format!("{scheme} {}", granted.access_token)).map_err(unusable)?;
        authorization.set_sensitive(true);
        let proof = (key.constraint == Constraint::Dpop)
            .then(|| ProofMaterial { signer: self.signer.clone(), ath: TokenHash::of(&granted.access_token) });
        let expires = granted.expires.min(certificate.not_after);
        let refresh_at = keeper::refresh_at(monotonic(), shared.clock.until(expires));
        Ok(Token { certificate: certificate.thumbprint, authorization, proof, expires, refresh_at })
    }
}

// Transport.
impl IssuerClient {
    /// Closes idle connections that were made with another certificate.
    pub(super) fn keep_only(&self, certificate: CertThumbprint) {
        lock(&self.idle).retain(|(made_with, _)| *made_with == certificate);
    }

    async fn post(
        &self,
        shared: &Shared,
        certificate: &Certificate,
        constraint: Constraint,
        form: &Bytes,
    ) -> Result<Answered, FetchError> {
        if let Some(mut sender) = self.reuse(certificate.thumbprint).await {
            let request = self.request(shared, constraint, form)?;
            // A connection that lay idle may be dead; asking for a token twice harms nobody.
            if let Ok(response) = sender.send_request(request).await {
                return self.read(certificate.thumbprint, sender, response).await;
            }
        }
        let mut sender = self.connect(shared, certificate).await?;
        let request = self.request(shared, constraint, form)?;
        let response = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
        self.read(certificate.thumbprint, sender, response).await
    }

    fn request(
        &self,
        shared: &Shared,
        constraint: Constraint,
        form: &Bytes,
    ) -> Result<Request<Full<Bytes>>, FetchError> {
        let mut request = Request::new(Full::new(form.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.host.clone());
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if constraint == Constraint::Dpop {
            headers.insert(DPOP, self.proof(shared)?);
        }
        Ok(request)
    }

    fn proof(&self, shared: &Shared) -> Result<HeaderValue, FetchError> {
        let unmade = |_| FetchError::Unreachable("no proof could be made".to_owned());
        let jti = URL_SAFE_NO_PAD.encode(random::bytes::<16>().map_err(|_| unmade(()))?);
        let nonce = lock(&self.nonce).clone();
        let proof = self
            .signer
            .proof(&ProofClaims {
                htm: "POST",
                htu: &self.url,
                ath: None,
                nonce: nonce.as_deref(),
                jti: &jti,
                now: shared.clock.now(),
            })
            .map_err(|_| unmade(()))?;
        HeaderValue::try_from(proof).map_err(|_| unmade(()))
    }

    async fn reuse(&self, certificate: CertThumbprint) -> Option<Sender> {
        loop {
            let found = {
                let mut idle = lock(&self.idle);
                let at = idle.iter().position(|(made_with, _)| *made_with == certificate)?;
                idle.swap_remove(at)
            };
            let mut sender = found.1;
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    async fn connect(&self, shared: &Shared, certificate: &Certificate) -> Result<Sender, FetchError> {
        let unreachable = |error: dial::DialError| FetchError::Unreachable(error.to_string());
        let bundle = shared.bundle().ok_or_else(|| FetchError::Unreachable("there is no trust bundle yet".into()))?;
        let config = certificate.client_config(&bundle, self.expect.clone(), &[b"http/1.1"]);
        let config = config.map_err(|error| unreachable(error.into()))?;
        let stream = dial::by_name(&self.target, config).await.map_err(unreachable)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        // Ends with the sender; what broke it shows at the sender.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn read(
        &self,
        certificate: CertThumbprint,
        sender: Sender,
        response: Response<Incoming>,
    ) -> Result<Answered, FetchError> {
        let status = response.status();
        if let Some(nonce) = response.headers().get(&DPOP_NONCE).and_then(|value| value.to_str().ok())
            && nonce.len() <= NONCE_BYTES
        {
            *lock(&self.nonce) = Some(nonce.to_owned());
        }
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        let body = body.map_err(|_| FetchError::Answer("it broke off, or is longer than 64 KiB"))?.to_bytes();
        let mut idle = lock(&self.idle);
        if idle.len() < AT_ONCE {
            idle.push((certificate, sender));
        }
        Ok(Answered { status, body })
    }

    fn broken(&self, error: &hyper::Error) -> FetchError {
        FetchError::Unreachable(format!("{}: {error}", self.target))
    }
}
