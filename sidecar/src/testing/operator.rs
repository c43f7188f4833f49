//! An operator: enrols any pod, streams one snapshot, answers lookups from a table.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use control::{
    Destination, DestinationKind, MeshIssuer, Snapshot, WorkloadName,
    pb::{
        self,
        control_server::{Control, ControlServer},
        operator_message::Kind,
        sidecar_message,
    },
    tls::{ClientAuth, Identity},
};
use fapi::SpiffeId;
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::CertificateSigningRequestParams;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, codegen::Service as _};

use super::authority::{Authority, TRUST_DOMAIN};
use crate::identity::Settings;

/// What the operator says and saw; shared with its tasks.
pub(crate) struct TestOperator {
    pub(crate) address: SocketAddr,
    authority: Arc<Authority>,
    workload: SpiffeId,
    issuer: MeshIssuer,
    jwks: Vec<u8>,
    pub(crate) state: Mutex<State>,
    /// Each change tells all streams to end.
    away: watch::Sender<bool>,
    /// Each change is said on all streams.
    push: watch::Sender<Option<pb::OperatorMessage>>,
}

#[derive(Default)]
pub(crate) struct State {
    /// How long certificates live.
    pub(crate) life: Duration,
    pub(crate) enrolments: u32,
    pub(crate) renewals: u32,
    pub(crate) tokens: Vec<String>,
    pub(crate) streams: u32,
    pub(crate) open_streams: u32,
    /// The fewest streams that were open after the first one.
    pub(crate) acks: Vec<pb::Ack>,
    pub(crate) bundle_acks: Vec<pb::BundleAck>,
    pub(crate) hellos: Vec<pb::Hello>,
    /// The epochs of the revocations that are in force, as they were told.
    pub(crate) revoked: Vec<u64>,
    /// What policies in `Audit` have let pass.
    pub(crate) would_refuse: Vec<pb::WouldRefuse>,
    pub(crate) lookups: Vec<String>,
    pub(crate) destinations: HashMap<String, DestinationKind>,
    /// Silence: lookups get no answer.
    pub(crate) mute: bool,
    /// Certificates in use are revoked: they are not renewed.
    pub(crate) refuse_renewals: bool,
    /// So many enrolments find no place.
    pub(crate) busy: u32,
    /// Messages of [`TestOperator::say`] that have left; one that comes too soon after another replaces it.
    pub(crate) pushed: u32,
}

impl TestOperator {
    pub(crate) async fn start(
        authority: Arc<Authority>,
        identity: &Identity,
        workload: SpiffeId,
        issuer: MeshIssuer,
        jwks: Vec<u8>,
    ) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config =
            control::tls::server_config(&authority.bundle(), identity, ClientAuth::Optional, &[b"h2"]).unwrap();
        let operator = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            authority,
            workload,
            issuer,
            jwks,
            state: Mutex::new(State { life: Duration::from_secs(600), ..State::default() }),
            away: watch::Sender::new(false),
            push: watch::Sender::new(None),
        });
        tokio::spawn(operator.clone().accept(listener, TlsAcceptor::from(Arc::new(config))));
        operator
    }

    /// What a sidecar of this mesh is started with. The files are in a folder of their own.
    pub(crate) fn settings(&self) -> Settings {
        let folder = folder();
        let (trust_bundle, token) = (folder.join("bundle.pem"), folder.join("token"));
        std::fs::write(&trust_bundle, &self.authority.pem).unwrap();
        std::fs::write(&token, "workload-token\n").unwrap();
        Settings {
            control: self.address.to_string(),
            operator: super::authority::operator(),
            trust_bundle,
            token,
            roots: "/nowhere".into(),
        }
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }

    pub(crate) fn say(&self, kind: Kind) {
        self.push.send_replace(Some(pb::OperatorMessage { kind: Some(kind) }));
    }

    pub(crate) fn revoke(&self, epoch: u64, all: &[fapi::Revocation]) {
        let document = serde_json::to_vec(all).unwrap().into();
        self.say(Kind::Revocations(pb::Revocations { digest: format!("r{epoch}"), epoch, document }));
    }

    pub(crate) fn renew(&self) {
        self.say(Kind::Renew(pb::Renew {}));
    }

    /// Ends all connections and refuses new ones, or comes back.
    pub(crate) fn set_away(&self, away: bool) {
        self.away.send_replace(away);
    }

    pub(crate) fn destination(&self, authority: &str) -> Destination {
        let kind = self.with(|state| state.destinations.get(authority).cloned()).unwrap_or(DestinationKind::Unknown);
        Destination { authority: authority.to_owned(), kind }
    }

    /// Changes what an authority stands for and tells all streams.
    pub(crate) fn set_destination(&self, authority: &str, kind: DestinationKind) {
        self.with(|state| state.destinations.insert(authority.to_owned(), kind));
        self.say(Kind::Destination(message(&self.destination(authority))));
    }

    pub(crate) fn snapshot(&self, order: u64) -> pb::Snapshot {
        let document = Snapshot {
            trust_domain: TRUST_DOMAIN.to_owned(),
            spiffe_id: self.workload.to_string(),
            pod_uid: "uid-1".to_owned(),
            workload: WorkloadName { namespace: "bank".to_owned(), name: "shop-1".to_owned() },
            mesh_issuer: self.issuer.clone(),
            external_issuers: Vec::new(),
            token_exchange: false,
            ports: vec![],
        };
        pb::Snapshot {
            version: format!("v{order}"),
            order,
            required_features: vec![],
            document: serde_json::to_vec(&document).unwrap(),
            revocation_epoch: 0,
            versions: vec![],
        }
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, acceptor: TlsAcceptor) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if *self.away.borrow() {
                continue;
            }
            let (operator, acceptor, mut away) = (self.clone(), acceptor.clone(), self.away.subscribe());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let certified = stream.get_ref().1.peer_certificates().is_some();
                let server = ControlServer::new(Service { operator, certified });
                let service = service_fn(move |request| {
                    let mut server = server.clone();
                    async move { Ok::<_, Infallible>(server.call(request).await.unwrap()) }
                });
                tokio::select! {
                    _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service) => {}
                    _ = away.wait_for(|away| *away) => {}
                }
            });
        }
    }
}

#[derive(Clone)]
struct Service {
    operator: Arc<TestOperator>,
    certified: bool,
}

#[tonic::async_trait]
impl Control for Service {
    type ConnectStream = ReceiverStream<Result<pb::OperatorMessage, Status>>;
    type ShareStream = ReceiverStream<Result<pb::ReplicaMessage, Status>>;

    async fn enroll(&self, request: Request<pb::EnrollRequest>) -> Result<Response<pb::EnrollResponse>, Status> {
        let operator = &self.operator;
        let request = request.into_inner();
        let csr = CertificateSigningRequestParams::from_der(&request.csr_der.into()).unwrap();
        if self.certified && operator.with(|state| state.refuse_renewals) {
            return Err(Status::unauthenticated("revoked"));
        }
        let busy = operator.with(|state| {
            let before = state.busy;
            state.busy = before.saturating_sub(1);
            before > 0
        });
        if busy {
            return Err(Status::resource_exhausted("try again"));
        }
        let life = operator.with(|state| {
            state.tokens.push(request.token);
            *(if self.certified { &mut state.renewals } else { &mut state.enrolments }) += 1;
            state.life
        });
        let leaf = operator.authority.leaf(&operator.workload, &csr.public_key, life);
        let not_after = control::identity::peer_from_leaf(&leaf).unwrap().not_after.as_secs();
        let trust_bundle_pem = operator.authority.pem.clone();
        Ok(Response::new(pb::EnrollResponse { chain_der: vec![leaf.to_vec()], not_after, trust_bundle_pem }))
    }

    async fn connect(
        &self,
        request: Request<Streaming<pb::SidecarMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        assert!(self.certified);
        let (outgoing, messages) = mpsc::channel(64);
        tokio::spawn(follow(self.operator.clone(), request.into_inner(), outgoing));
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn share(&self, _: Request<Streaming<pb::ReplicaMessage>>) -> Result<Response<Self::ShareStream>, Status> {
        Err(Status::permission_denied("no sidecar asks for this"))
    }
}

async fn follow(
    operator: Arc<TestOperator>,
    mut incoming: Streaming<pb::SidecarMessage>,
    outgoing: mpsc::Sender<Result<pb::OperatorMessage, Status>>,
) {
    operator.with(|state| (state.streams, state.open_streams) = (state.streams + 1, state.open_streams + 1));
    let send = async |kind| drop(outgoing.send(Ok(pb::OperatorMessage { kind: Some(kind) })).await);
    send(Kind::TrustBundle(pb::TrustBundle { digest: "b1".into(), pem: operator.authority.pem.clone() })).await;
    let (issuer, jwks) = (operator.issuer.issuer.clone(), operator.jwks.clone());
    send(Kind::KeySet(pb::KeySet { issuer, digest: "k1".into(), jwks })).await;
    send(Kind::Snapshot(operator.snapshot(1))).await;
    let mut push = operator.push.subscribe();
    push.mark_unchanged();
    loop {
        tokio::select! {
            message = incoming.message() => match message {
                Ok(Some(message)) => match message.kind.unwrap() {
                    sidecar_message::Kind::Hello(hello) => operator.with(|state| state.hellos.push(hello)),
                    sidecar_message::Kind::Ack(ack) => operator.with(|state| state.acks.push(ack)),
                    sidecar_message::Kind::RevocationsApplied(applied) => {
                        operator.with(|state| state.revoked.push(applied.epoch));
                    }
                    sidecar_message::Kind::WouldRefuse(told) => operator.with(|state| state.would_refuse.push(told)),
                    sidecar_message::Kind::BundleAck(ack) => operator.with(|state| state.bundle_acks.push(ack)),
                    sidecar_message::Kind::Lookup(lookup) => {
                        let mute = operator.with(|state| {
                            state.lookups.push(lookup.authority.clone());
                            state.mute
                        });
                        if !mute {
                            send(Kind::Destination(message_of(&operator, &lookup.authority))).await;
                        }
                    }
                },
                _ => break,
            },
            _ = push.changed() => {
                let message = push.borrow_and_update().clone().unwrap();
                let _ = outgoing.send(Ok(message)).await;
                operator.with(|state| state.pushed += 1);
            }
        }
    }
    operator.with(|state| state.open_streams -= 1);
}

fn message_of(operator: &TestOperator, authority: &str) -> pb::Destination {
    message(&operator.destination(authority))
}

fn message(destination: &Destination) -> pb::Destination {
    let document = serde_json::to_vec(destination).unwrap();
    pb::Destination { authority: destination.authority.clone(), document }
}

/// A folder that no other test uses.
fn folder() -> PathBuf {
    let name = crate::random::bytes::<8>().unwrap().map(|byte| format!("{byte:02x}")).concat();
    let folder = std::env::temp_dir().join(format!("fapi-sidecar-test-{name}"));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
