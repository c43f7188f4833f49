//! An authorization server outside the mesh, under the name `localhost`, good or bad: metadata and keys, and what
//! [`Desk`] does.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use control::{ExternalIssuer, identity::peer_from_leaf};
use fapi::{Issuer, Peer, SigningKey};
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{
    authority::Authority,
    desk::{Desk, text},
};
use crate::clock::Clock;

/// What the server does with whoever asks for keys.
#[derive(Clone, Debug)]
pub(crate) enum Serves {
    /// The key set.
    Keys,
    /// This status, with this body.
    Text(u16, String),
    /// A redirect to the place where the keys are.
    Redirect,
    /// Nothing, for ever.
    Silence,
}

pub(crate) struct KeyServer {
    address: SocketAddr,
    pem: String,
    pub(crate) key: RefCell<SigningKey>,
    pub(crate) serves: RefCell<Serves>,
    /// The issuer that the metadata names; its own if there is none.
    pub(crate) names: RefCell<Option<String>>,
    /// Whether metadata is at the place of RFC 8414, and not only at that of OpenID Connect.
    pub(crate) rfc8414: Cell<bool>,
    /// Whether it has other endpoints for clients with certificates.
    pub(crate) aliases: Cell<bool>,
    pub(crate) desk: Desk,
    /// How often the key set was asked for.
    pub(crate) asked: Cell<u32>,
    clock: Clock,
}

impl KeyServer {
    pub(crate) async fn start() -> Rc<Self> {
        Self::start_for(None).await
    }

    /// A server that asks for certificates of this authority.
    pub(crate) async fn start_for(authority: Option<&Authority>) -> Rc<Self> {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let builder = ServerConfig::builder_with_provider(control::tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap();
        let builder = match authority {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
                let provider = control::tls::provider();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
            }
        };
        let config = builder
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Rc::new(Self {
            address: listener.local_addr().unwrap(),
            pem: certificate.pem(),
            key: RefCell::new(SigningKey::generate().unwrap()),
            serves: RefCell::new(Serves::Keys),
            names: RefCell::default(),
            rfc8414: Cell::new(true),
            aliases: Cell::new(false),
            desk: Desk::new(),
            asked: Cell::new(0),
            clock: Clock::default(),
        });
        let (acceptor, answering) = (TlsAcceptor::from(Arc::new(config)), server.clone());
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, server) = (acceptor.clone(), answering.clone());
                tokio::task::spawn_local(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                    let peer = leaf.map(|leaf| peer_from_leaf(leaf).unwrap());
                    let service = service_fn(|request| {
                        let (server, peer) = (server.clone(), peer.clone());
                        async move { Ok::<_, Infallible>(server.answer(peer, request).await) }
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/realms/bank", self.address.port())
    }

    pub(crate) fn issuer(&self) -> Issuer {
        Issuer::parse(&self.url()).unwrap()
    }

    /// As a snapshot names it.
    pub(crate) fn document(&self) -> ExternalIssuer {
        ExternalIssuer { issuer: self.url(), jwks_uri: None, ca_bundle: Some(self.pem.clone()), introspect_as: None }
    }

    /// Signs with another key from now on, and publishes that alone.
    pub(crate) fn rotate(&self) {
        self.key.replace(SigningKey::generate().unwrap());
    }

    /// A token of client `shop-7`, bound to the certificate of `peer`.
    pub(crate) fn mint(&self, peer: &Peer, audience: &str) -> String {
        let now = self.clock.now().as_secs();
        let claims = json!({
            "iss": self.url(), "sub": "user", "azp": "shop-7", "aud": audience, "iat": now, "exp": now + 300,
            "jti": "1", "cnf": {"x5t#S256": peer.thumbprint.to_string()},
        });
        self.key.borrow().sign_jwt("at+jwt", &claims).unwrap()
    }

    async fn answer(&self, peer: Option<Peer>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() == Method::POST {
            let (head, body) = request.into_parts();
            let form = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
            let url = format!("https://localhost:{}{}", self.address.port(), head.uri.path());
            let key = self.key.borrow().to_pkcs8_der().unwrap();
            let key = SigningKey::from_pkcs8_der(key.as_ref()).unwrap();
            return self.desk.answer((&self.url(), &url), &key, peer, &head.headers, &form).await;
        }
        let oidc = "/realms/bank/.well-known/openid-configuration";
        let oauth = "/.well-known/oauth-authorization-server/realms/bank";
        match request.uri().path() {
            path if path == oidc || (path == oauth && self.rfc8414.get()) => {
                let issuer = self.names.borrow().clone().unwrap_or_else(|| self.url());
                let mut metadata = json!({"issuer": issuer, "jwks_uri": format!("{}/keys", self.url())});
                let aliases = self.aliases.get();
                for endpoint in ["token", "introspection"] {
                    let (plain, alias) =
                        (format!("{}/{endpoint}", self.url()), format!("{}/mtls/{endpoint}", self.url()));
                    metadata[format!("{endpoint}_endpoint")] = plain.into();
                    if aliases {
                        metadata["mtls_endpoint_aliases"][format!("{endpoint}_endpoint")] = alias.into();
                    }
                }
                text(200, metadata.to_string())
            }
            "/realms/bank/keys" => {
                self.asked.set(self.asked.get() + 1);
                let serves = self.serves.borrow().clone();
                match serves {
                    Serves::Keys => self.keys(),
                    Serves::Text(status, body) => text(status, body),
                    Serves::Redirect => {
                        let mut response = text(302, String::new());
                        let place = HeaderValue::try_from(format!("{}/elsewhere", self.url())).unwrap();
                        response.headers_mut().insert(header::LOCATION, place);
                        response
                    }
                    Serves::Silence => {
                        tokio::time::sleep(Duration::from_secs(3600)).await;
                        text(200, String::new())
                    }
                }
            }
            "/realms/bank/elsewhere" => self.keys(),
            _ => text(404, "<html>".to_owned()),
        }
    }

    /// The key, among others that cannot be used here.
    fn keys(&self) -> Response<Full<Bytes>> {
        let key = self.key.borrow();
        let mut jwk = key.public_jwk();
        jwk["kid"] = key.kid().into();
        let strange = json!({"kty": "RSA", "use": "enc", "kid": "e", "n": "AQAB", "e": "AQAB"});
        text(200, json!({"keys": [strange, jwk]}).to_string())
    }
}
