//! The client of one authorization server: how it authenticates, and what it asks.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use control::ClientAuthentication;
use fapi::{CertThumbprint, ProofClaims, ProofSigner, SpiffeId, TokenHash};
use http::{HeaderName, HeaderValue, Method, Request, header};
use http_body_util::Full;
use tokio::{sync::Semaphore, time::timeout};

use super::{
    Constraint, FetchError, ProofMaterial, Token, TokenKey,
    answer::{self, Binding, Granted, Wanted},
    keeper, lock, request,
    server::{AuthorizationServer, Place},
    transport::{Answered, Transport},
};
use crate::{
    clock::monotonic,
    identity::Certificate,
    issuers::{Endpoint, Metadata},
    random,
    state::Shared,
};

/// Most requests at one time: a rotation with a thousand tokens must not become a thousand handshakes.
const AT_ONCE: usize = 8;
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const NONCE_BYTES: usize = 256;

const DPOP: HeaderName = HeaderName::from_static("dpop");
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// The client of one authorization server.
pub(super) struct IssuerClient {
    server: Arc<AuthorizationServer>,
    transport: Transport,
    /// The key of this issuer's `DPoP` tokens. In memory only; it outlives every token bound to it.
    signer: Arc<ProofSigner>,
    nonce: Mutex<Option<String>>,
    permits: Semaphore,
}

impl IssuerClient {
    /// A client of `server`; the mesh's own has the identity `operator`.
    pub(super) fn new(
        server: Arc<AuthorizationServer>,
        operator: &SpiffeId,
        roots: PathBuf,
    ) -> Result<Self, &'static str> {
        Ok(Self {
            transport: Transport::new(&server.place, operator, roots)?,
            server,
            signer: Arc::new(ProofSigner::generate().map_err(|_| "no key for its proofs could be made")?),
            nonce: Mutex::default(),
            permits: Semaphore::new(AT_ONCE),
        })
    }

    /// Whether the server is none of ours, and to be spared.
    pub(super) fn is_outside(&self) -> bool {
        self.server.is_outside()
    }

    /// Closes idle connections that were made with another certificate.
    pub(super) fn keep_only(&self, certificate: CertThumbprint) {
        self.transport.keep_only(certificate);
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
        let issuer = self.server.issuer();
        let late = |_| FetchError::Unreachable(format!("{issuer} did not answer within {ANSWER_WITHIN:?}"));
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
        let endpoint = self.transport.endpoint(Metadata::token_endpoint).await?;
        match self.ask_once(shared, certificate, key, subject, &endpoint).await {
            Err(FetchError::Nonce) => self.ask_once(shared, certificate, key, subject, &endpoint).await,
            asked => asked,
        }
    }

    async fn ask_once(
        &self,
        shared: &Shared,
        certificate: &Certificate,
        key: &TokenKey,
        subject: Option<&str>,
        endpoint: &Arc<Endpoint>,
    ) -> Result<Granted, FetchError> {
        let make = || self.request(shared, certificate, key, subject, endpoint);
        let answered = self.transport.send(shared, certificate, endpoint, make).await?;
        self.take_nonce(&answered);
        let proof_key = (key.constraint == Constraint::Dpop).then(|| self.signer.thumbprint());
        let binding = Binding { certificate: certificate.thumbprint, proof_key };
        let (opaque, exchanged) = (self.server.is_opaque(), subject.is_some());
        let wanted = Wanted { binding, scope: &key.scope, opaque, exchanged };
        answer::read(answered.status, &answered.body, &wanted, shared.clock.now())
    }

    fn take_nonce(&self, answered: &Answered) {
        if let Some(nonce) = answered.headers.get(&DPOP_NONCE).and_then(|value| value.to_str().ok())
            && nonce.len() <= NONCE_BYTES
        {
            *lock(&self.nonce) = Some(nonce.to_owned());
        }
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

// Requests.
impl IssuerClient {
    /// One request. Assertion and proof are new in each: a server takes them once.
    fn request(
        &self,
        shared: &Shared,
        certificate: &Certificate,
        key: &TokenKey,
        subject: Option<&str>,
        endpoint: &Endpoint,
    ) -> Result<Request<Full<Bytes>>, FetchError> {
        let client_id = match &self.server.place {
            Place::Mesh { .. } => certificate.spiffe_id.as_str(),
            Place::Outside { client_id, .. } => client_id,
        };
        let mut form = request::form(client_id, key, subject);
        if self.server.authentication == ClientAuthentication::PrivateKeyJwt {
            request::add_assertion(&mut form, &self.assertion(shared, client_id)?);
        }
        let mut request = endpoint.request(Full::new(form.into()));
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if key.constraint == Constraint::Dpop {
            headers.insert(DPOP, self.proof(shared, endpoint)?);
        }
        Ok(request)
    }

    fn assertion(&self, shared: &Shared, client_id: &str) -> Result<String, FetchError> {
        let (key, now) = (&shared.assertion_key, shared.clock.now());
        fapi::sign_assertion(key, client_id, self.server.issuer(), &new_id()?, now).map_err(|_| unmade())
    }

    fn proof(&self, shared: &Shared, endpoint: &Endpoint) -> Result<HeaderValue, FetchError> {
        let (jti, nonce) = (new_id()?, lock(&self.nonce).clone());
        let claims = ProofClaims {
            htm: "POST",
            htu: &endpoint.url,
            ath: None,
            nonce: nonce.as_deref(),
            jti: &jti,
            now: shared.clock.now(),
        };
        let proof = self.signer.proof(&claims).map_err(|_| unmade())?;
        HeaderValue::try_from(proof).map_err(|_| unmade())
    }
}

fn new_id() -> Result<String, FetchError> {
    random::bytes::<16>().map(|bytes| URL_SAFE_NO_PAD.encode(bytes)).map_err(|_| unmade())
}

fn unmade() -> FetchError {
    FetchError::Unreachable("no proof could be made".to_owned())
}
