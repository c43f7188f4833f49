//! A peer: another sidecar as ours sees it. It judges every request by [`fapi::decide`].

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use control::{
    identity::peer_from_leaf,
    tls::{ClientAuth, Identity, TrustBundle},
};
use fapi::{IssuerKeys, NonceMinter, Peer, PortPolicy, ProvenTokens, ReplaySet, SpiffeId, Verdict, decide};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::{clock::Clock, local::LocalExecutor, outbound, random};

pub(crate) const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

pub(crate) struct TestPeer {
    pub(crate) address: SocketAddr,
    config: ArcSwap<ServerConfig>,
    keys: IssuerKeys,
    policy: RefCell<PortPolicy>,
    generation: Cell<u64>,
    nonces: RefCell<NonceMinter>,
    replay: ReplaySet,
    clock: Clock,
    /// Each answer brings a nonce of its own, and the one before is forgotten.
    pub(crate) forgets_nonces: Cell<bool>,
    /// No proof has the nonce that it wants.
    pub(crate) always_asks: Cell<bool>,
    /// Callers may use proofs: every answer carries a nonce.
    pub(crate) dpop: Cell<bool>,
    pub(crate) connections: Cell<u32>,
    pub(crate) primers: Cell<u32>,
    /// Ids of refusals and how often they came.
    pub(crate) refused: RefCell<BTreeMap<&'static str, u32>>,
    pub(crate) served: Cell<u32>,
    /// The head of the last request that was let in.
    pub(crate) last: RefCell<Option<(String, HeaderMap)>>,
    /// Closes each HTTP/1.1 connection right after its answer, without saying so before.
    pub(crate) closes_silently: Cell<bool>,
}

impl TestPeer {
    pub(crate) async fn start(
        bundle: &TrustBundle,
        identity: &Identity,
        keys: IssuerKeys,
        policy: PortPolicy,
    ) -> Rc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = control::tls::server_config(bundle, identity, ClientAuth::Required, ALPN).unwrap();
        let peer = Rc::new(Self {
            address: listener.local_addr().unwrap(),
            config: ArcSwap::from_pointee(config),
            keys,
            policy: RefCell::new(policy),
            generation: Cell::new(1),
            nonces: RefCell::new(NonceMinter::new(random::bytes().unwrap())),
            replay: ReplaySet::new(100_000, 100_000),
            clock: Clock::default(),
            forgets_nonces: Cell::new(false),
            always_asks: Cell::new(false),
            dpop: Cell::new(false),
            connections: Cell::new(0),
            primers: Cell::new(0),
            refused: RefCell::default(),
            served: Cell::new(0),
            last: RefCell::default(),
            closes_silently: Cell::new(false),
        });
        tokio::task::spawn_local(peer.clone().accept(listener));
        peer
    }

    /// Shows another certificate to new connections.
    pub(crate) fn rotate(&self, bundle: &TrustBundle, identity: &Identity) {
        let config = control::tls::server_config(bundle, identity, ClientAuth::Required, ALPN).unwrap();
        self.config.store(Arc::new(config));
    }

    /// Judges by another policy from now on. Gives the one before.
    pub(crate) fn set_policy(&self, policy: PortPolicy) -> PortPolicy {
        self.generation.set(self.generation.get() + 1);
        self.policy.replace(policy)
    }

    async fn accept(self: Rc<Self>, listener: TcpListener) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let peer = self.clone();
            tokio::task::spawn_local(async move {
                let Ok(stream) = TlsAcceptor::from(peer.config.load_full()).accept(stream).await else { return };
                peer.connections.set(peer.connections.get() + 1);
                let session = stream.get_ref().1;
                let caller = peer_from_leaf(session.peer_certificates().unwrap().first().unwrap()).unwrap();
                let h2 = session.alpn_protocol() == Some(b"h2");
                let state = Rc::new((caller, RefCell::new(ProvenTokens::new())));
                let service = service_fn(|request| {
                    let (peer, state) = (peer.clone(), state.clone());
                    async move { Ok::<_, Infallible>(peer.answer(&state.0, &state.1, request)) }
                });
                let io = TokioIo::new(stream);
                if h2 {
                    let _ = http2::Builder::new(LocalExecutor).serve_connection(io, service).await;
                } else if peer.closes_silently.get() {
                    let connection = http1::Builder::new().serve_connection(io, service);
                    let served = peer.served.get();
                    tokio::pin!(connection);
                    tokio::select! {
                        _ = &mut connection => {}
                        () = super::until("a request", || peer.served.get() > served) => {
                            let _ = tokio::time::timeout(Duration::from_millis(50), connection).await;
                        }
                    }
                } else {
                    let _ = http1::Builder::new().serve_connection(io, service).with_upgrades().await;
                }
            });
        }
    }

    fn answer(&self, caller: &Peer, proven: &RefCell<ProvenTokens>, request: Request<Incoming>) -> Response<TestBody> {
        let (head, body) = request.into_parts();
        let request = Request::from_parts(head, ());
        let mut response = if request.uri().path() == outbound::PRIMER_PATH {
            self.primers.set(self.primers.get() + 1);
            answer(StatusCode::NO_CONTENT, TestBody::Text(None))
        } else {
            match self.judge(caller, &mut proven.borrow_mut(), &request) {
                Ok(()) => self.serve(request, body),
                Err(response) => response,
            }
        };
        if self.dpop.get() {
            if self.forgets_nonces.get() {
                self.forget_nonces();
            }
            let nonce = HeaderValue::try_from(self.nonces.borrow().mint(self.clock.now())).unwrap();
            response.headers_mut().insert("dpop-nonce", nonce);
        }
        response
    }

    fn forget_nonces(&self) {
        self.nonces.replace(NonceMinter::new(random::bytes().unwrap()));
    }

    fn judge(&self, caller: &Peer, proven: &mut ProvenTokens, request: &Request<()>) -> Result<(), Response<TestBody>> {
        if self.always_asks.get() {
            self.forget_nonces();
        }
        let context = fapi::Context {
            policy: &self.policy.borrow(),
            keys: &self.keys,
            keys_fresh: true,
            peer: caller,
            nonces: &self.nonces.borrow(),
            replay: &self.replay,
            revocations: &fapi::Revocations::none(),
            generation: self.generation.get(),
            now: self.clock.now(),
        };
        let (method, headers) = (request.method(), request.headers());
        let asked = fapi::Request { method, path: request.uri().path(), query: request.uri().query(), headers };
        match decide(&context, &asked, proven) {
            Verdict::Admit(_) => Ok(()),
            Verdict::Refuse(refusal) => {
                *self.refused.borrow_mut().entry(refusal.rejection.id()).or_default() += 1;
                let text = TestBody::Text(Some(Bytes::from_static(b"{\"error\":\"refused\"}")));
                let mut response = answer(refusal.answer.status, text);
                if let Some(challenge) = refusal.answer.www_authenticate {
                    let challenge = HeaderValue::try_from(challenge).unwrap();
                    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
                }
                Err(response)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Echoes the body, its trailers too.
    fn serve(&self, mut request: Request<()>, body: Incoming) -> Response<TestBody> {
        self.served.set(self.served.get() + 1);
        *self.last.borrow_mut() = Some((request.uri().to_string(), request.headers().clone()));
        if request.headers().contains_key(header::UPGRADE) {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::task::spawn_local(async move {
                let (mut read, mut write) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
            let mut response = answer(StatusCode::SWITCHING_PROTOCOLS, TestBody::Text(None));
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            return response;
        }
        let mut response = answer(StatusCode::OK, TestBody::Echo(body));
        response.headers_mut().insert("x-peer", HeaderValue::try_from(self.address.to_string()).unwrap());
        response
    }
}

/// A policy for `service` in namespace `bank` that takes these callers.
pub(crate) fn policy(
    service: &str,
    issuer: &str,
    callers: &[&SpiffeId],
    constraints: &[fapi::SenderConstraint],
) -> PortPolicy {
    let audience = format!("https://{service}.bank");
    let callers = callers.iter().map(|id| fapi::WireCaller {
        namespace: id.namespace().to_owned(),
        service_account: Some(id.service_account().to_owned()),
    });
    let wire = fapi::WirePolicy {
        name: format!("bank/{service}"),
        mode: fapi::Mode::Enforce,
        resources: vec![fapi::WireResource { audience: audience.clone(), origins: vec![audience] }],
        issuers: vec![issuer.to_owned()],
        external: Vec::new(),
        sender_constraints: constraints.to_vec(),
        rules: vec![fapi::WireRule { callers: callers.collect(), ..fapi::WireRule::default() }],
        exempt: Vec::new(),
    };
    PortPolicy::Policy(Arc::new(fapi::Policy::compile(&super::authority::trust_domain(), &wire).unwrap()))
}

fn answer(status: StatusCode, body: TestBody) -> Response<TestBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

pub(crate) enum TestBody {
    Text(Option<Bytes>),
    Echo(Incoming),
}

impl Body for TestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Echo(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_none(),
            Self::Echo(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Echo(body) => body.size_hint(),
        }
    }
}
