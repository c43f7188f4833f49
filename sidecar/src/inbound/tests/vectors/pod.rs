//! A sidecar in the world of a vector, and a caller with a real certificate.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use control::{
    MeshIssuer, Port, PortPolicyDoc, Snapshot, WorkloadName,
    tls::{Identity, TrustBundle},
};
use fapi::{Issuer, KeySet, NonceMinter, ReplaySet, UnixTime};
use http::HeaderMap;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    format::{Asked, Case, Connected, Expected, Step, VectorFile, World, load},
    peers,
};
use crate::{
    inbound::Inbound,
    local::Local,
    log::Writer,
    state::Shared,
    testing::{
        authority::{Authority, trust_domain, workload},
        local,
        mesh::LONG,
        side::{SeenByApp, Speaks, serve_app},
        until,
    },
};

/// The private key of all callers.
const KEY: &str = include_str!("../../../../../crates/fapi/tests/vectors/peers/key.pem");
/// A body with a token in it, for requests that say they have a form.
const FORM: &str = "access_token=x";

pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/fapi/vectors")
}

/// Sends every request of a file over TLS to a sidecar, and compares status, challenge and logged reason.
pub(super) async fn holds(name: &str) {
    let file = load(&folder(), name);
    assert!(file.cases.len() > 1, "{name}");
    let authority = Authority::new();
    local(async {
        for case in &file.cases {
            let what = format!("{name}: {}", case.name);
            let pod = Pod::start(&authority, &file, case).await;
            let mut caller = None;
            for step in case.steps() {
                pod.step(step, &mut caller, &what).await;
            }
        }
    })
    .await;
}

/// The bank's payments.
struct Pod {
    shared: Arc<Shared>,
    inbound: Rc<Inbound>,
    log: Writer,
    app: Rc<SeenByApp>,
    address: SocketAddr,
    world: World,
    server_root: Arc<TrustBundle>,
}

/// What came back over a connection.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
}

impl Pod {
    async fn start(authority: &Authority, file: &VectorFile, case: &Case) -> Rc<Self> {
        let world = World::of(file, case);
        let asks = |step: &Step| matches!(step.expect, Expected::NeedKeys { .. }) && step.connected.is_none();
        assert!(
            world.keys_fresh || !case.steps().any(asks),
            "{}: say what a sidecar does, which fetches none",
            case.name
        );
        let (mut shared, ends) = Shared::new(trust_domain(), crate::interception::Interception::None).unwrap();
        let own = Arc::get_mut(&mut shared).unwrap();
        own.nonces = NonceMinter::new(world.nonce_secret());
        own.replay = ReplaySet::new(world.replay_capacity, world.replay_capacity);
        own.clock.set(UnixTime::from_secs(world.clock));
        let roots = authority.pem.clone() + peers::ROOT;
        shared.install_bundle(Arc::new(TrustBundle::from_pem(&trust_domain(), &roots).unwrap())).unwrap();
        shared.install_identity(authority.identity(&workload("payments"), LONG)).unwrap();
        for (issuer, keys) in &world.issuers {
            let keys = KeySet::from_jwks_json(keys.to_string().as_bytes()).unwrap();
            shared.install_keys(Issuer::parse(issuer).unwrap(), keys);
        }
        let app = Rc::<SeenByApp>::default();
        let app_address = serve_app(app.clone(), Speaks::Http1).await;
        shared.apply("v1", 1.into(), snapshot(&world, app_address)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pod = Rc::new(Self {
            address: listener.local_addr().unwrap(),
            inbound: Inbound::new(Local::new(shared.clone())),
            shared,
            log: ends.log_writer,
            app,
            world,
            server_root: authority.bundle(),
        });
        let inbound = pod.inbound.clone();
        tokio::task::spawn_local(async move {
            while let Ok((stream, address)) = listener.accept().await {
                let inbound = inbound.clone();
                tokio::task::spawn_local(async move { inbound.carry(stream, (LISTEN, address), ()).await });
            }
        });
        pod
    }

    /// One request; the connection stays for the next.
    async fn step(&self, step: &Step, caller: &mut Option<TlsStream<TcpStream>>, what: &str) {
        self.shared.clock.set(UnixTime::from_secs(step.clock.unwrap_or(self.world.clock)));
        assert_eq!(self.shared.clock.now().as_secs(), step.clock.unwrap_or(self.world.clock), "{what}: time goes back");
        if !step.revoked.is_empty() {
            self.shared.install_revocations(1, step.revoked.iter().cloned().collect()).unwrap();
        }
        let seen = self.app.count();
        let mut stream = match caller.take() {
            Some(stream) => stream,
            None => self.dial().await,
        };
        // A handshake that is refused breaks the pipe, now or at the next read.
        let written = stream.write_all(raw(&step.request).as_bytes()).await;
        let answer = answer(&mut stream, written.is_ok()).await;
        let admitted = match (&step.connected, &step.expect) {
            (Some(Connected::Handshake(reason)), _) => {
                assert!(answer.is_none(), "{what}: {answer:?}");
                let line = self.line("handshake").await;
                assert_eq!((&line["outcome"], &line["reason"]), (&"refused".into(), &reason.as_str().into()), "{what}");
                false
            }
            (Some(Connected::Unreadable), _) => {
                let answer = answer.unwrap_or_else(|| panic!("{what}: no answer"));
                assert_eq!((answer.status, answer.headers.get("www-authenticate")), (400, None), "{what}");
                let line = self.line("decision").await;
                let logged = (&line["outcome"], &line["reason"], &line["path"]);
                assert_eq!(logged, (&"refused".into(), &"request_malformed".into(), &Value::Null), "{what}");
                false
            }
            (Some(Connected::Decided(expected)), _) | (None, expected) => {
                let answer = answer.unwrap_or_else(|| panic!("{what}: no answer"));
                let line = self.line("decision").await;
                *caller = Some(stream);
                check(expected, &answer, &line, what)
            }
        };
        assert_eq!(self.app.count() - seen, usize::from(admitted), "{what}: requests that reached the app");
        if admitted {
            self.check_what_the_app_saw(what);
        }
    }

    /// A connection of the vector's caller, which shows the very certificate that the token is bound to.
    async fn dial(&self) -> TlsStream<TcpStream> {
        let leaf = peers::der(peers::certificate(&self.world.peer.spiffe_id));
        let known = control::identity::peer_from_leaf(&leaf).unwrap();
        assert_eq!(
            (known.thumbprint.to_string(), known.not_after.as_secs()),
            (self.world.peer.thumbprint.clone(), self.world.peer.not_after)
        );
        let identity =
            Identity::new(vec![CertificateDer::from(leaf)], PrivateKeyDer::Pkcs8(peers::der(KEY).into())).unwrap();
        self.connect(Some(&identity)).await
    }

    async fn connect(&self, identity: Option<&Identity>) -> TlsStream<TcpStream> {
        let expect = vec![workload("payments")];
        let config = control::tls::client_config(&self.server_root, identity, expect, &[b"http/1.1"]).unwrap();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = rustls::pki_types::ServerName::from(self.address.ip());
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    /// The one line that was logged since the last.
    async fn line(&self, event: &str) -> Value {
        let text = std::cell::RefCell::new(String::new());
        until("a line is logged", || {
            self.inbound.local.log.flush();
            text.borrow_mut().push_str(&self.log.queued());
            !text.borrow().is_empty()
        })
        .await;
        let line: Value = serde_json::from_str(&text.borrow()).unwrap();
        assert_eq!(line["event"], event, "{line}");
        line
    }

    /// Neither credentials nor what a stranger says of itself, and the caller as its certificate names it.
    fn check_what_the_app_saw(&self, what: &str) {
        let requests = self.app.requests.borrow();
        let (_, headers) = requests.last().unwrap();
        let taken_out = ["authorization", "dpop", "x-forwarded-client-cert", "client-cert", "ssl-client-cert"];
        for name in taken_out {
            assert!(!headers.contains_key(name), "{what}: the app sees {name}");
        }
        assert_eq!(headers["x-fapi-caller"], self.world.peer.spiffe_id, "{what}");
    }
}

/// A caller without a certificate says in headers that it has one.
pub(super) async fn a_header_is_no_certificate(name: &str) {
    let file = load(&folder(), name);
    let authority = Authority::new();
    local(async {
        for case in &file.cases {
            let pod = Pod::start(&authority, &file, case).await;
            let mut stream = pod.connect(None).await;
            let written = stream.write_all(raw(&case.last.request).as_bytes()).await;
            assert!(answer(&mut stream, written.is_ok()).await.is_none(), "{}", case.name);
            let line = pod.line("handshake").await;
            assert_eq!(line["reason"], "peer_certificate_missing", "{}", case.name);
            assert_eq!(pod.app.count(), 0, "{}", case.name);
        }
    })
    .await;
}

/// Compares an answer and its line with what the vector says; whether it was admitted.
fn check(expected: &Expected, answer: &Answer, line: &Value, what: &str) -> bool {
    let challenges = answer.headers.get_all("www-authenticate").iter();
    let challenges: Vec<_> = challenges.map(|challenge| challenge.to_str().unwrap().to_owned()).collect();
    let nonces = answer.headers.get_all("dpop-nonce").iter().count();
    let logged = (line["outcome"].as_str(), line["reason"].as_str(), line["status"].as_u64());
    match expected {
        Expected::Admitted => {
            assert_eq!((answer.status, logged), (200, (Some("admitted"), None, Some(200))), "{what}: {line}");
            true
        }
        Expected::Refused { reason, status, www_authenticate, nonce } => {
            let wanted = (Some("refused"), Some(reason.as_str()), Some(u64::from(*status)));
            assert_eq!((answer.status, logged), (*status, wanted), "{what}: {line}");
            assert_eq!(challenges, www_authenticate.as_slice(), "{what}");
            assert_eq!(answer.headers["cache-control"], "no-store", "{what}");
            assert!(nonces == 1 || (nonces == 0 && !nonce), "{what}: {nonces} nonces");
            false
        }
        Expected::NeedKeys { .. } => panic!("{what}: a sidecar never asks for keys"),
    }
}

/// The bytes of a request, however odd it is.
fn raw(asked: &Asked) -> String {
    let query = asked.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    let mut text = format!("{} {}{query} HTTP/1.1\r\n", asked.method, asked.path);
    let has = |wanted: &str| asked.headers.iter().any(|(name, _)| name == wanted);
    if !has("host") {
        text.push_str("host: payments.bank\r\n");
    }
    for (name, value) in &asked.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    match has("content-type") {
        true => text + &format!("content-length: {}\r\n\r\n{FORM}", FORM.len()),
        false => text + "\r\n",
    }
}

/// The answer, read to the end of its body; `None` if the connection ends before one.
async fn answer(stream: &mut TlsStream<TcpStream>, written: bool) -> Option<Answer> {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let read = if written { stream.read(&mut buffer).await.unwrap_or(0) } else { 0 };
        bytes.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8(bytes.clone()).unwrap();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let answer = Answer::of(head);
            let length = answer.headers.get("content-length").map(|length| length.to_str().unwrap().parse().unwrap());
            if length == Some(body.len()) || (length.is_none() && body.ends_with("0\r\n\r\n")) {
                return Some(answer);
            }
        }
        if read == 0 {
            assert_eq!(text, "", "half an answer");
            return None;
        }
    }
}

impl Answer {
    fn of(head: &str) -> Self {
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in lines.map(|line| line.split_once(": ").unwrap_or((line.trim_end_matches(':'), ""))) {
            headers.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        Self { status, headers }
    }
}

fn snapshot(world: &World, app: SocketAddr) -> Snapshot {
    let issuer = world.policy.issuers[0].clone();
    Snapshot {
        trust_domain: world.trust_domain.clone(),
        spiffe_id: workload("payments").to_string(),
        pod_uid: "pod".to_owned(),
        workload: WorkloadName { namespace: "bank".to_owned(), name: "payments".to_owned() },
        mesh_issuer: MeshIssuer { token_endpoint: format!("{issuer}/token"), issuer },
        external_issuers: vec![],
        token_exchange: false,
        ports: vec![Port {
            name: "http".to_owned(),
            port: 80,
            listen: LISTEN,
            app,
            policy: PortPolicyDoc::Policy(world.policy.clone()),
        }],
    }
}

/// The snapshot binds a listener here, which stays unused; the test accepts on one beside it.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
