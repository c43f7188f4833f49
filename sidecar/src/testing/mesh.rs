//! Everything together, around one sidecar's outbound side.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use control::{DestinationKind, EndpointDoc, GrantType, MeshIssuer, TokenDoc, TokenSource, destination::Meshed};
use fapi::{PortPolicy, SenderConstraint, SpiffeId};
use tokio::net::TcpListener;

use super::{
    app::App,
    authority::{self, Authority, trust_domain, workload},
    issuer::TestIssuer,
    operator::TestOperator,
    peer::{TestPeer, policy},
    until,
};
use crate::{
    control_client::ControlPlane,
    local::Local,
    outbound::{Between, Outbound},
    state::Shared,
    stop::{Stop, StopSource},
};

pub(crate) const LONG: Duration = Duration::from_secs(600);

/// A mesh in which `shop` calls.
pub(crate) struct Mesh {
    pub(crate) authority: Arc<Authority>,
    pub(crate) issuer: Rc<TestIssuer>,
    pub(crate) operator: Arc<TestOperator>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) outbound: Rc<Outbound>,
    pub(crate) app: App,
    pub(crate) stop: StopSource,
}

impl Mesh {
    /// Starts everything and waits until the sidecar has a certificate and a snapshot. Needs local tasks.
    pub(crate) async fn start(between: Between) -> Self {
        Self::start_with(between, LONG).await
    }

    /// As [`start`](Self::start), with certificates of this life.
    pub(crate) async fn start_with(between: Between, life: Duration) -> Self {
        let authority = Arc::new(Authority::new());
        let bundle = authority.bundle();
        let operator_identity = authority.identity(&authority::operator(), LONG);
        let issuer = TestIssuer::start(&bundle, &operator_identity).await;
        let names = MeshIssuer { issuer: issuer.url(), token_endpoint: issuer.token_endpoint() };
        let shop = workload("shop");
        let operator = TestOperator::start(authority.clone(), &operator_identity, shop, names, issuer.jwks()).await;
        operator.with(|state| state.life = life);
        let (shared, _ends) = Shared::new(trust_domain(), crate::interception::Interception::None).unwrap();
        let control = ControlPlane::new(shared.clone(), operator.settings());
        let local = Local::new(shared.clone());
        let outbound = Outbound::new(local, control.lookups(), between);
        tokio::task::spawn_local(control.run());
        until("the sidecar is ready", || shared.unready().is_none()).await;
        let (stop, stopped) = StopSource::new();
        let app = App::new(listen(outbound.clone(), stopped).await);
        Self { authority, issuer, operator, shared, outbound, app, stop }
    }

    /// A service `name.bank` with one more pod, which takes calls of `shop`.
    pub(crate) async fn serve(&self, name: &str, constraint: SenderConstraint) -> Rc<TestPeer> {
        let peer = self.peer(name, constraint).await;
        self.operator.set_destination(&format!("{name}.bank"), meshed(name, constraint, &[&peer]));
        peer
    }

    /// A pod, not yet in any service.
    pub(crate) async fn peer(&self, name: &str, constraint: SenderConstraint) -> Rc<TestPeer> {
        let identity = self.authority.identity(&workload(name), LONG);
        let shop = workload("shop");
        let policy: PortPolicy = policy(name, &self.issuer.url(), &[&shop], &[constraint]);
        let peer = TestPeer::start(&self.authority.bundle(), &identity, self.issuer.keys(), policy).await;
        peer.dpop.set(constraint == SenderConstraint::Dpop);
        peer
    }

    /// The place of a server outside the mesh, called `old.example`.
    pub(crate) async fn outside(&self) -> TcpListener {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = vec![listener.local_addr().unwrap()];
        self.operator.set_destination("old.example", DestinationKind::Unmeshed { addresses });
        listener
    }
}

/// The answer to a lookup of `name.bank`.
pub(crate) fn meshed(name: &str, constraint: SenderConstraint, peers: &[&Rc<TestPeer>]) -> DestinationKind {
    meshed_as(name, &workload(name), constraint, peers)
}

pub(crate) fn meshed_as(
    name: &str,
    id: &SpiffeId,
    constraint: SenderConstraint,
    peers: &[&Rc<TestPeer>],
) -> DestinationKind {
    let addresses: Vec<_> = peers.iter().map(|peer| peer.address).collect();
    meshed_at(name, id, constraint, &addresses)
}

pub(crate) fn meshed_at(
    name: &str,
    id: &SpiffeId,
    constraint: SenderConstraint,
    addresses: &[SocketAddr],
) -> DestinationKind {
    let endpoint = |address: &SocketAddr| EndpointDoc {
        address: *address,
        others: Vec::new(),
        spiffe_id: id.to_string(),
        ready: true,
    };
    DestinationKind::Meshed(Box::new(Meshed {
        service: format!("{name}.bank"),
        audience: format!("https://{name}.bank"),
        endpoints: addresses.iter().map(endpoint).collect(),
        token: Some(token(constraint)),
        opaque: false,
    }))
}

/// A token of the mesh's own issuer.
pub(crate) fn token(constraint: SenderConstraint) -> TokenDoc {
    TokenDoc {
        scopes: vec![],
        authorization_details: None,
        sender_constraint: constraint,
        grant_type: GrantType::ClientCredentials,
        source: TokenSource::Mesh,
        authentication: Default::default(),
    }
}

/// The same, called with tokens that are exchanged.
pub(crate) fn by_exchange(kind: DestinationKind) -> DestinationKind {
    match kind {
        DestinationKind::Meshed(mut meshed) => {
            meshed.token.as_mut().unwrap().grant_type = GrantType::TokenExchange;
            DestinationKind::Meshed(meshed)
        }
        other => other,
    }
}

async fn listen(outbound: Rc<Outbound>, stop: Stop) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(outbound.clone().serve(stream, stop.clone()));
        }
    });
    address
}
