//! The called side: this sidecar's inbound, before a plain app that tells what it saw.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use control::{MeshIssuer, Port, PortPolicyDoc, Snapshot, WorkloadName, tls::Identity};
use fapi::{Mode, SenderConstraint, SpiffeId, WireCaller, WireExemption, WirePolicy, WireResource, WireRule};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    authority::{Authority, TRUST_DOMAIN, trust_domain, workload},
    issuer::TestIssuer,
    mesh::{LONG, Mesh},
    peer::TestBody,
};
use crate::{inbound::Inbound, local::Local, local::LocalExecutor, state::Shared};

/// What the app speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
}

/// A pod of `name.bank`: a sidecar and its app.
pub(crate) struct Side {
    pub(crate) address: SocketAddr,
    pub(crate) shared: Arc<Shared>,
    pub(crate) inbound: Rc<Inbound>,
    pub(crate) app: Rc<SeenByApp>,
    pub(crate) constraint: Cell<SenderConstraint>,
    /// Whether the app hands calls on, from the next snapshot on.
    pub(crate) hands_on: Cell<bool>,
    /// What passes without certificate and token, from the next snapshot on.
    pub(crate) exempt: RefCell<Vec<WireExemption>>,
    name: String,
    issuer: String,
    order: Cell<u64>,
    /// Where the app is, from the next snapshot on.
    pub(crate) app_address: Cell<SocketAddr>,
    pub(crate) authority: Arc<Authority>,
}

/// The requests that reached the app.
#[derive(Default)]
pub(crate) struct SeenByApp {
    pub(crate) requests: RefCell<Vec<(String, HeaderMap)>>,
    pub(crate) connections: Cell<u32>,
}

impl SeenByApp {
    pub(crate) fn count(&self) -> usize {
        self.requests.borrow().len()
    }

    /// The only request so far.
    pub(crate) fn only(&self) -> (String, HeaderMap) {
        let requests = self.requests.borrow();
        assert_eq!(requests.len(), 1);
        requests[0].clone()
    }
}

impl Side {
    /// A pod that takes calls of `shop`, in a service that the mesh knows.
    pub(crate) async fn start(mesh: &Mesh, name: &str, constraint: SenderConstraint, speaks: Speaks) -> Rc<Self> {
        let side = Self::alone(&mesh.authority, &mesh.issuer, name, constraint, speaks).await;
        let kind = super::mesh::meshed_at(name, &workload(name), constraint, &[side.address]);
        mesh.operator.set_destination(&format!("{name}.bank"), kind);
        side
    }

    /// A pod that nobody is told of.
    pub(crate) async fn alone(
        authority: &Arc<Authority>,
        issuer: &TestIssuer,
        name: &str,
        constraint: SenderConstraint,
        speaks: Speaks,
    ) -> Rc<Self> {
        let (shared, _ends) = Shared::new(trust_domain(), crate::interception::Interception::None).unwrap();
        shared.install_bundle(authority.bundle()).unwrap();
        shared.install_identity(authority.identity(&workload(name), LONG)).unwrap();
        let url = fapi::Issuer::parse(&issuer.url()).unwrap();
        shared.install_keys(url, fapi::KeySet::from_jwks_json(&issuer.jwks()).unwrap());
        Self::around(shared, authority, issuer, name, constraint, speaks).await
    }

    /// A pod with this state, which has a certificate already.
    pub(crate) async fn around(
        shared: Arc<Shared>,
        authority: &Arc<Authority>,
        issuer: &TestIssuer,
        name: &str,
        constraint: SenderConstraint,
        speaks: Speaks,
    ) -> Rc<Self> {
        let app = Rc::<SeenByApp>::default();
        let app_address = serve_app(app.clone(), speaks).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let side = Rc::new(Self {
            // The listener that the snapshot brings is bound beside it and stays unused.
            address: listener.local_addr().unwrap(),
            inbound: Inbound::new(Local::new(shared.clone())),
            shared,
            app,
            constraint: Cell::new(constraint),
            hands_on: Cell::new(false),
            exempt: RefCell::default(),
            name: name.to_owned(),
            issuer: issuer.url(),
            order: Cell::new(0),
            app_address: Cell::new(app_address),
            authority: authority.clone(),
        });
        side.apply("shop", Mode::Enforce);
        tokio::task::spawn_local(side.clone().accept(listener));
        side
    }

    /// Takes calls of `caller` alone from now on.
    pub(crate) fn apply(&self, caller: &str, mode: Mode) {
        self.apply_with(caller, mode, Vec::new());
    }

    /// As [`Side::apply`], and takes tokens of these issuers too.
    pub(crate) fn apply_with(&self, caller: &str, mode: Mode, external: Vec<fapi::WireExternal>) {
        let audience = format!("https://{}.bank", self.name);
        let rule = WireRule {
            callers: vec![WireCaller { namespace: "bank".to_owned(), service_account: Some(caller.to_owned()) }],
            ..WireRule::default()
        };
        let policy = WirePolicy {
            name: format!("bank/{}", self.name),
            mode,
            resources: vec![WireResource { audience: audience.clone(), origins: vec![audience] }],
            issuers: vec![self.issuer.clone()],
            external,
            sender_constraints: vec![self.constraint.get()],
            rules: vec![rule],
            exempt: self.exempt.borrow().clone(),
        };
        self.apply_doc(PortPolicyDoc::Policy(policy), self.app_address.get());
    }

    /// Joins connections of `caller` alone with a server at `app` from now on, without HTTP.
    pub(crate) fn apply_tcp(&self, caller: &str, app: SocketAddr) {
        self.apply_tcp_in(Mode::Enforce, caller, app);
    }

    /// As [`Side::apply_tcp`], in either mode.
    pub(crate) fn apply_tcp_in(&self, mode: Mode, caller: &str, app: SocketAddr) {
        let caller = WireCaller { namespace: "bank".to_owned(), service_account: Some(caller.to_owned()) };
        let name = format!("bank/{}", self.name);
        let policy = fapi::WireTcpPolicy { name, mode, callers: vec![caller] };
        self.apply_doc(PortPolicyDoc::Tcp(policy), app);
    }

    fn apply_doc(&self, policy: PortPolicyDoc, app: SocketAddr) {
        self.order.set(self.order.get() + 1);
        let snapshot = Snapshot {
            trust_domain: TRUST_DOMAIN.to_owned(),
            spiffe_id: workload(&self.name).to_string(),
            pod_uid: "pod".to_owned(),
            workload: WorkloadName { namespace: "bank".to_owned(), name: self.name.clone() },
            mesh_issuer: MeshIssuer { issuer: self.issuer.clone(), token_endpoint: format!("{}/token", self.issuer) },
            external_issuers: Vec::new(),
            token_exchange: self.hands_on.get(),
            ports: vec![Port {
                name: "http".to_owned(),
                port: 80,
                listen: SocketAddr::from(([127, 0, 0, 1], 0)),
                app,
                policy,
            }],
        };
        let order = self.order.get();
        self.shared.apply(&format!("v{order}"), order.into(), snapshot).unwrap();
    }

    /// What its policies in `Audit` let pass, a line for each reason and caller.
    pub(crate) fn would_refuse(&self) -> Vec<String> {
        let told: Vec<_> =
            self.shared.applied().iter().flat_map(|applied| applied.audits.told().collect::<Vec<_>>()).collect();
        let line = |policy: &str, line: &control::pb::RefusedCaller| {
            format!("{policy}: {} by {} {}", line.reason, line.caller, line.count)
        };
        told.iter().flat_map(|told| told.callers.iter().map(|caller| line(&told.policy, caller))).collect()
    }

    async fn accept(self: Rc<Self>, listener: TcpListener) {
        let port = SocketAddr::from(([127, 0, 0, 1], 0));
        loop {
            let (stream, address) = listener.accept().await.unwrap();
            let side = self.clone();
            tokio::task::spawn_local(async move { side.inbound.carry(stream, (port, address), ()).await });
        }
    }

    /// A raw connection of somebody with this certificate.
    pub(crate) async fn dial(&self, identity: &Identity, alpn: &[u8]) -> TlsStream<TcpStream> {
        let expect: Vec<SpiffeId> = vec![workload(&self.name)];
        let config = control::tls::client_config(&self.authority.bundle(), Some(identity), expect, &[alpn]).unwrap();
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = rustls::pki_types::ServerName::from(self.address.ip());
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }
}

pub(crate) async fn serve_app(seen: Rc<SeenByApp>, speaks: Speaks) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            seen.connections.set(seen.connections.get() + 1);
            let seen = seen.clone();
            let service = service_fn(move |request| {
                let seen = seen.clone();
                async move { Ok::<_, Infallible>(tell(&seen, request)) }
            });
            let io = TokioIo::new(stream);
            tokio::task::spawn_local(async move {
                match speaks {
                    Speaks::Http1 => drop(http1::Builder::new().serve_connection(io, service).with_upgrades().await),
                    Speaks::Http2 => drop(http2::Builder::new(LocalExecutor).serve_connection(io, service).await),
                }
            });
        }
    });
    address
}

/// Echoes the body, its trailers too; takes upgrades; breaks connections and keeps silent where the path asks for it.
fn tell(seen: &SeenByApp, mut request: Request<Incoming>) -> Response<TestBody> {
    seen.requests.borrow_mut().push((request.uri().to_string(), request.headers().clone()));
    let mut response = Response::new(TestBody::Text(None));
    response.headers_mut().insert("x-fapi-interaction-id", HeaderValue::from_static("made up by the app"));
    response.headers_mut().insert("x-fapi-context", HeaderValue::from_static("made up by the app"));
    response.headers_mut().insert("dpop-nonce", HeaderValue::from_static("made-up-by-the-app"));
    if request.headers().contains_key(header::UPGRADE) {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::task::spawn_local(async move {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        return response;
    }
    response.headers_mut().insert(header::TRAILER, HeaderValue::from_static("x-sum"));
    *response.body_mut() = TestBody::Echo(request.into_body());
    response
}

/// A certificate of `account`, and a token for `audience` that is bound to it.
pub(crate) async fn caller(mesh: &Mesh, account: &str, audience: &str) -> (Arc<Identity>, String) {
    let identity = mesh.authority.identity(&workload(account), Duration::from_secs(600));
    let peer = control::identity::peer_from_leaf(identity.leaf().unwrap()).unwrap();
    let token = mesh.issuer.mint(&peer, audience);
    (identity, token)
}

/// Bytes as the head of a request.
pub(crate) fn raw(lines: &[&str]) -> Bytes {
    Bytes::from(lines.join("\r\n") + "\r\n\r\n")
}
