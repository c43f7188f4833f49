//! An issuer: client certificates, bound tokens, DPoP nonces.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use control::{
    identity::peer_from_leaf,
    tls::{ClientAuth, Identity, TrustBundle},
};
use fapi::{
    Issuer, IssuerKeys, JwkThumbprint, KeySet, NonceMinter, Peer, ReplaySet, SigningKey, UnixTime,
    check_token_endpoint_proof,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::{clock::Clock, random};

pub(crate) struct TestIssuer {
    pub(crate) address: SocketAddr,
    key: SigningKey,
    nonces: NonceMinter,
    replay: ReplaySet,
    clock: Clock,
    /// Seconds that a token lives.
    pub(crate) life: Cell<u64>,
    /// The OAuth error to answer with; empty: 503 without an OAuth error; `slow_down`: 429.
    pub(crate) refuse: RefCell<Option<&'static str>>,
    /// Binds tokens to nobody.
    pub(crate) unbound: Cell<bool>,
    /// Binds tokens to this key as well.
    pub(crate) also_to: Cell<Option<JwkThumbprint>>,
    pub(crate) issued: Cell<u32>,
    pub(crate) forms: RefCell<Vec<String>>,
    /// The thumbprints of the keys that proofs were made with.
    pub(crate) proof_keys: RefCell<Vec<String>>,
}

impl TestIssuer {
    pub(crate) async fn start(bundle: &TrustBundle, identity: &Identity) -> Rc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = Rc::new(Self {
            address: listener.local_addr().unwrap(),
            key: SigningKey::generate().unwrap(),
            nonces: NonceMinter::new(random::bytes().unwrap()),
            replay: ReplaySet::new(10_000, 10_000),
            clock: Clock::default(),
            life: Cell::new(300),
            refuse: RefCell::default(),
            unbound: Cell::new(false),
            also_to: Cell::default(),
            issued: Cell::new(0),
            forms: RefCell::default(),
            proof_keys: RefCell::default(),
        });
        let alpn: &[&[u8]] = &[b"h2", b"http/1.1"];
        let config = control::tls::server_config(bundle, identity, ClientAuth::Required, alpn).unwrap();
        let (acceptor, server) = (TlsAcceptor::from(Arc::new(config)), issuer.clone());
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, issuer) = (acceptor.clone(), server.clone());
                tokio::task::spawn_local(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let leaf = stream.get_ref().1.peer_certificates().unwrap().first().unwrap();
                    let peer = Rc::new(peer_from_leaf(leaf).unwrap());
                    let service = service_fn(|request| {
                        let (issuer, peer) = (issuer.clone(), peer.clone());
                        async move { Ok::<_, Infallible>(issuer.answer(&peer, request).await) }
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        issuer
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) fn token_endpoint(&self) -> String {
        format!("{}/token", self.url())
    }

    pub(crate) fn jwks(&self) -> Vec<u8> {
        let mut jwk = self.key.public_jwk();
        jwk["kid"] = self.key.kid().into();
        json!({ "keys": [jwk] }).to_string().into_bytes()
    }

    pub(crate) fn keys(&self) -> IssuerKeys {
        let mut keys = IssuerKeys::new();
        keys.insert(Issuer::parse(&self.url()).unwrap(), KeySet::from_jwks_json(&self.jwks()).unwrap());
        keys
    }

    async fn answer(&self, peer: &Peer, request: Request<Incoming>) -> Response<Full<Bytes>> {
        assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/token"));
        let (head, body) = request.into_parts();
        let form = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        self.forms.borrow_mut().push(form.clone());
        let now = self.clock.now();
        let (status, body) = match *self.refuse.borrow() {
            Some("") => (StatusCode::SERVICE_UNAVAILABLE, json!({})),
            Some("slow_down") => (StatusCode::TOO_MANY_REQUESTS, json!({ "error": "temporarily_unavailable" })),
            Some(error) => (StatusCode::BAD_REQUEST, json!({ "error": error })),
            None => self.grant(peer, &head.headers, &form, now),
        };
        let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
        *response.status_mut() = status;
        if status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
        }
        response.headers_mut().insert("dpop-nonce", HeaderValue::try_from(self.nonces.mint(now)).unwrap());
        response
    }

    fn grant(&self, peer: &Peer, headers: &HeaderMap, form: &str, now: UnixTime) -> (StatusCode, Value) {
        let jkt = if headers.contains_key("dpop") {
            match self.proof(peer, headers, now) {
                Ok(jkt) => {
                    self.proof_keys.borrow_mut().push(jkt.to_string());
                    Some(jkt)
                }
                Err(error) => return (StatusCode::BAD_REQUEST, json!({ "error": error })),
            }
        } else {
            None
        };
        let field = |name: &str| {
            form.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default().to_owned()
        };
        let audience = field("resource").replace("%3A", ":").replace("%2F", "/");
        let subject = Some(field("subject_token")).filter(|subject| !subject.is_empty());
        let (token, exp) = self.sign(peer, &audience, &field("scope").replace('+', " "), jkt, subject.as_deref(), now);
        let token_type = if jkt.is_some() { "DPoP" } else { "Bearer" };
        let expires_in = exp.as_secs() - now.as_secs();
        let mut answer = json!({ "access_token": token, "token_type": token_type, "expires_in": expires_in });
        if subject.is_some() {
            answer["issued_token_type"] = "urn:ietf:params:oauth:token-type:access_token".into();
        }
        (StatusCode::OK, answer)
    }

    /// A token that is bound to the certificate of `peer`.
    pub(crate) fn mint(&self, peer: &Peer, audience: &str) -> String {
        self.sign(peer, audience, "", None, None, self.clock.now()).0
    }

    fn sign(
        &self,
        peer: &Peer,
        audience: &str,
        scope: &str,
        jkt: Option<JwkThumbprint>,
        subject: Option<&str>,
        now: UnixTime,
    ) -> (String, UnixTime) {
        let exp = now.plus(self.life.get()).min(peer.not_after);
        let mut claims = json!({
            "iss": self.url(), "sub": peer.spiffe_id.as_str(), "client_id": peer.spiffe_id.as_str(), "aud": audience,
            "iat": now.as_secs(), "exp": exp.as_secs(), "jti": self.issued.get().to_string(),
            "scope": scope,
        });
        if let Some(subject) = subject {
            // Of this issuer, so only what is needed is read.
            let payload = URL_SAFE_NO_PAD.decode(subject.split('.').nth(1).unwrap()).unwrap();
            let before: Value = serde_json::from_slice(&payload).unwrap();
            claims["sub"] = before["sub"].clone();
            claims["act"] = json!({ "sub": peer.spiffe_id.as_str() });
        }
        if !self.unbound.get() {
            claims["cnf"] = match &jkt {
                Some(jkt) => json!({ "jkt": jkt.to_string() }),
                None => json!({ "x5t#S256": peer.thumbprint.to_string() }),
            };
            if let Some(key) = self.also_to.get() {
                claims["cnf"]["jkt"] = key.to_string().into();
            }
        }
        self.issued.set(self.issued.get() + 1);
        (self.key.sign_jwt("at+jwt", &claims).unwrap(), exp)
    }

    fn proof(&self, peer: &Peer, headers: &HeaderMap, now: UnixTime) -> Result<JwkThumbprint, &'static str> {
        let (post, url) = (Method::POST, self.token_endpoint());
        check_token_endpoint_proof(headers, &post, &url, &self.nonces, &self.replay, &peer.spiffe_id, now)
            .map_err(|rejection| if rejection.id().contains("nonce") { "use_dpop_nonce" } else { "invalid_dpop_proof" })
    }
}
