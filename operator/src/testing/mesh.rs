//! A whole operator for tests with sockets: authority, issuer and control server on loopback, each on a free port.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use control::identity::peer_from_leaf;
use control::tls::{Identity, TrustBundle, client_config};
use fapi::{Peer, SpiffeId, UnixTime};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::bank::{bank, view};
use super::{TempDir, authority, domain};
use crate::accept::Tls;
use crate::acks::Acks;
use crate::audits::Audits;
use crate::behind::Behind;
use crate::client_keys::ClientKeys;
use crate::clock::Clock;
use crate::control_server::{self, Deps};
use crate::enroll::{DirectoryTokens, Enroller};
use crate::issuer::{self, Kept, Keys, MeshAuthorizationServer, Rotation};
use crate::kubernetes::Leadership;
use crate::model::{Model, Pod};
use crate::pki::{Authority, PublicKey, Serving, identity_of};
use crate::replicas::{Books, Follower};
use crate::revocations::Revocations;
use crate::shelf::Shelf;
use crate::view::View;

/// However busy the machine: by then it has happened, or it never will.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A running operator without sources.
pub(crate) struct Mesh {
    pub(crate) clock: Clock,
    pub(crate) tokens: Arc<DirectoryTokens>,
    pub(crate) view: watch::Sender<Arc<View>>,
    pub(crate) acks: Arc<Acks>,
    pub(crate) audits: Arc<Audits>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) revocations: Arc<Revocations>,
    pub(crate) renew: watch::Sender<UnixTime>,
    /// Up to when it holds the Lease.
    pub(crate) leads: watch::Sender<Option<Instant>>,
    pub(crate) issuer: SocketAddr,
    pub(crate) control: SocketAddr,
    pub(crate) shutdown: watch::Sender<bool>,
    pub(crate) authority: Arc<Authority>,
    operator: SpiffeId,
    books: Books,
    servers: JoinSet<()>,
    serving: Serving,
    issuer_listener: std::net::TcpListener,
    pub(crate) dir: TempDir,
}

/// A pod with its certificate.
pub(crate) struct Member {
    pub(crate) identity: Identity,
    pub(crate) peer: Peer,
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Mesh {
    pub(crate) async fn start() -> Self {
        // TLS looks at the machine's clock; from there on the test moves ours.
        let clock = Clock::manual(Clock::system().now());
        Self::start_in(TempDir::new(), clock, listen().await).await
    }

    /// Ends the servers and starts others, at the same address of the issuer and on the same state.
    pub(crate) async fn restart(mut self) -> Self {
        self.stop().await;
        let view = self.view.borrow().clone();
        let issuer = TcpListener::from_std(self.issuer_listener).unwrap();
        let again = Self::start_in(self.dir, self.clock, issuer).await;
        again.view.send_replace(view);
        again
    }

    async fn start_in(dir: TempDir, clock: Clock, issuer_listener: TcpListener) -> Self {
        let authority = Arc::new(authority(dir.path(), &domain(), clock.now()).unwrap());
        let operator = identity_of(&authority, "fapi-mesh").unwrap();
        let tokens = Arc::new(DirectoryTokens::open(dir.path(), clock.clone()).unwrap());
        let view = watch::Sender::new(Arc::new(view(bank())));
        let revocations =
            Arc::new(Revocations::open(Shelf::Folder(dir.path().to_owned()), true, clock.clone()).unwrap());
        let kept =
            Kept::open(Shelf::Folder(dir.path().join("issuer")), Rotation::every(Rotation::DEFAULT), &clock).unwrap();
        let keys = kept.keys.clone();
        let serving = Serving::start(authority.clone(), operator.clone(), "127.0.0.1", clock.clone()).unwrap();
        let tls = |alpn| Tls::new(serving.identity(), authority.roots(), alpn);
        let control_listener = listen().await;
        // Kept open, so that nobody else takes the address before a restart.
        let (issuer_listener, kept_listener) = twice(issuer_listener);
        let (issuer, control) = (issuer_listener.local_addr().unwrap(), control_listener.local_addr().unwrap());
        let names = issuer::names(&format!("https://{issuer}"));
        let (shutdown, renew, acks) =
            (watch::Sender::new(false), watch::Sender::new(UnixTime::default()), Arc::new(Acks::default()));

        let leads = watch::Sender::new(Some(Instant::now() + 100 * SOON));
        let audits = Arc::<Audits>::default();
        let client_keys = Arc::new(ClientKeys::default());
        let server = MeshAuthorizationServer::new(
            names.clone(),
            kept,
            client_keys.clone(),
            view.subscribe(),
            revocations.clone(),
            clock.clone(),
        );
        let enroller = Enroller::new(
            authority.clone(),
            tokens.clone(),
            view.subscribe(),
            revocations.clone(),
            clock.clone(),
            operator.clone(),
        );
        let deps = Deps {
            enroller: Arc::new(enroller),
            view: view.subscribe(),
            revocations: revocations.clone(),
            acks: acks.clone(),
            audits: audits.clone(),
            client_keys,
            keys: keys.published(),
            delivered: keys.delivered(),
            issuer: names,
            roots: authority.roots(),
            behind: Behind::default(),
            renew: renew.subscribe(),
            operator: operator.clone(),
            leadership: Leadership::until(leads.subscribe()),
            clock: clock.clone(),
        };
        let books = deps.books();
        let mut servers = JoinSet::new();
        let issuing = issuer::serve(issuer_listener, tls(issuer::ALPN), Arc::new(server), shutdown.subscribe());
        let controlling =
            control_server::serve(control_listener, tls(control_server::ALPN), deps, shutdown.subscribe());
        servers.spawn(async { issuing.await.unwrap() });
        servers.spawn(async { controlling.await.unwrap() });
        Self {
            clock,
            tokens,
            view,
            acks,
            audits,
            keys,
            revocations,
            renew,
            leads,
            issuer,
            control,
            shutdown,
            authority,
            operator,
            books,
            servers,
            serving,
            issuer_listener: kept_listener,
            dir,
        }
    }

    /// Another one like it: of the same authority, with books of its own.
    pub(crate) async fn replica(&self) -> Self {
        let dir = TempDir::new();
        for folder in ["pki", "issuer"] {
            copy(&self.dir.path().join(folder), &dir.path().join(folder));
        }
        Self::start_in(dir, self.clock.clone(), listen().await).await
    }

    /// What makes it report to a holder of the Lease.
    pub(crate) fn follower(&self, holder: watch::Receiver<Option<SocketAddr>>) -> Follower {
        Follower {
            books: self.books.clone(),
            holder,
            roots: self.authority.roots(),
            identity: self.serving.identity(),
            operator: self.operator.clone(),
        }
    }

    /// What another server of the operator would serve with.
    pub(crate) fn tls(&self, alpn: &'static [&'static [u8]]) -> Tls {
        Tls::new(self.serving.identity(), self.authority.roots(), alpn)
    }

    /// The roots of the mesh, PEM.
    pub(crate) fn roots(&self) -> Arc<str> {
        self.authority.bundle_pem()
    }

    /// The keys of sidecars that it knows, as the issuer sees them.
    pub(crate) fn client_keys(&self) -> &ClientKeys {
        &self.books.client_keys
    }

    /// Publishes the view of a bank that differs.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Model)) {
        let mut model = bank();
        change(&mut model);
        self.view.send_replace(Arc::new(view(model)));
    }

    /// A pod of the present view.
    pub(crate) fn pod(&self, name: &str) -> Pod {
        self.view.borrow().pods().find(|pod| pod.name == name).unwrap().clone()
    }

    /// A pod with a certificate for an hour.
    pub(crate) fn member(&self, name: &str) -> Member {
        self.member_for(name, Duration::from_secs(3600))
    }

    pub(crate) fn member_for(&self, name: &str, lifetime: Duration) -> Member {
        let pod = self.pod(name);
        let (csr, key) = csr();
        let id = SpiffeId::new(&domain(), &pod.namespace, &pod.service_account).unwrap();
        let public = PublicKey::from_csr(&csr).unwrap();
        let issued = self.authority.issue_pod(&id, &pod.uid, &public, lifetime, self.clock.now()).unwrap();
        let peer = peer_from_leaf(&issued.chain[0]).unwrap();
        Member { identity: Identity::new(issued.chain, key).unwrap(), peer }
    }

    /// A TLS connection to one of the servers, whose identity is verified.
    pub(crate) async fn connect(
        &self,
        address: SocketAddr,
        identity: Option<&Identity>,
        alpn: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let bundle = TrustBundle::from_pem(&domain(), &self.authority.bundle_pem()).unwrap();
        let config = client_config(&bundle, identity, vec![self.operator.clone()], alpn).unwrap();
        let tcp = TcpStream::connect(address).await?;
        let name = ServerName::from(address.ip());
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }

    /// Sends the bytes of an HTTP/1.1 request to the issuer and reads its answer to the end.
    pub(crate) async fn http(&self, member: Option<&Member>, request: &str) -> Reply {
        let identity = member.map(|member| &member.identity);
        let stream = self.connect(self.issuer, identity, &[b"http/1.1"]).await.unwrap();
        exchange(stream, request).await
    }

    /// Ends the servers and waits for them.
    pub(crate) async fn end(mut self) {
        self.stop().await;
    }

    async fn stop(&mut self) {
        self.shutdown.send_replace(true);
        tokio::time::timeout(SOON, async { while self.servers.join_next().await.is_some() {} }).await.unwrap();
    }
}

impl Reply {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// A header of the answer; header names here are lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// Sends a request over a connection of its own and reads the answer to the end.
pub(crate) async fn exchange(mut stream: TlsStream<TcpStream>, request: &str) -> Reply {
    let exchange = async {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A server that hangs up early may not say goodbye; what it said is what counts.
        let _ = stream.read_to_end(&mut answer).await;
        Reply::parse(&String::from_utf8(answer).unwrap())
    };
    tokio::time::timeout(SOON, exchange).await.unwrap()
}

/// Copies a folder of files, which stays closed to others.
fn copy(from: &Path, to: &Path) {
    crate::files::private_folder(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// Two handles of one listener.
fn twice(listener: TcpListener) -> (TcpListener, std::net::TcpListener) {
    let one = listener.into_std().unwrap();
    let other = one.try_clone().unwrap();
    (TcpListener::from_std(one).unwrap(), other)
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// A certificate request and its private key.
pub(crate) fn csr() -> (Vec<u8>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
    (csr, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))
}
