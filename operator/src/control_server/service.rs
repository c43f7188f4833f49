//! The calls of the control protocol: who may make them, and how a refusal is told.

use std::sync::Arc;
use std::time::Duration;

use control::pb;
use control::pb::control_server::Control;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::Deps;
use super::stream::PodStream;
use crate::caller::Caller;
use crate::enroll::{EnrollRefusal, TokenRefused};
use crate::limits::{Limits, Rate};
use crate::newest::Newest;
use crate::replicas::{self, Ends};
use crate::revocations::ShutOut;

/// A review, a signature, and a busy machine.
const ENROLL: Duration = Duration::from_secs(10);
/// Messages on their way to a slow reader; everything behind them is merged to the newest.
const OUTSTANDING: usize = 4;
/// Streams of one pod: the one in use, the one that takes over from it, and one that has ended without a word.
const STREAMS: usize = 3;
/// How often a pod may open one. Sidecars wait longer each time that it does not last.
const OPENED: Rate = Rate { burst: 32, per_second: 1 };
/// Other replicas, and those before them that have not gone yet.
const REPLICAS: usize = 32;

/// The service behind every connection.
pub(super) struct ControlService {
    deps: Arc<Deps>,
    replicas: Arc<Semaphore>,
    /// By pod uid.
    streams: Newest<Arc<str>>,
    opened: Limits,
    shutdown: watch::Receiver<bool>,
}

impl ControlService {
    pub(super) fn new(deps: Arc<Deps>, shutdown: watch::Receiver<bool>) -> Self {
        let (replicas, streams) = (Arc::new(Semaphore::new(REPLICAS)), Newest::new(STREAMS));
        Self { deps, replicas, streams, opened: Limits::new(OPENED), shutdown }
    }

    /// The caller of a replica's stream: with a current certificate of the operator itself, which no enrolment issues.
    fn replica_caller<T>(&self, request: &Request<T>) -> Result<Arc<Caller>, Status> {
        let caller = caller(request).filter(|caller| caller.peer.spiffe_id == self.deps.operator);
        let caller = caller.ok_or_else(|| Status::permission_denied("this is for replicas of the operator"))?;
        if caller.peer.not_after <= self.deps.clock.now() {
            return Err(Status::unauthenticated("the certificate of this connection has ended; connect again"));
        }
        if self.deps.leadership.holds() { Ok(caller) } else { Err(replicas::not_holder()) }
    }

    /// The caller of a stream: with a current certificate, of a pod that lives.
    fn pod_caller<T>(&self, request: &Request<T>) -> Result<Arc<Caller>, Status> {
        let caller = caller(request)
            .ok_or_else(|| Status::unauthenticated("a control stream needs a client certificate; enrol first"))?;
        let view = self.deps.view.borrow();
        if !view.synced() {
            return Err(Status::unavailable("the operator has not read the desired state yet; try again"));
        }
        if caller.peer.not_after <= self.deps.clock.now() {
            return Err(Status::unauthenticated("the certificate of this connection has ended; renew it"));
        }
        if caller.pod(&view).is_none() {
            return Err(unknown_pod());
        }
        let revocations = self.deps.revocations.in_force();
        revocations.shuts_out(&caller.peer, self.deps.clock.now()).map_or(Ok(caller), |out| Err(shut_out(out)))
    }
}

/// The answer to a certificate whose pod the mesh does not have (any more).
pub(super) fn unknown_pod() -> Status {
    Status::permission_denied("the pod of this certificate is not in the mesh")
}

/// The answer to what was revoked.
pub(super) fn shut_out(out: ShutOut) -> Status {
    match out {
        ShutOut::Certificate => Status::unauthenticated("the certificate of this connection is revoked; renew it"),
        ShutOut::Workload => Status::permission_denied("the pod of this certificate, or its identity, is revoked"),
    }
}

fn caller<T>(request: &Request<T>) -> Option<Arc<Caller>> {
    request.extensions().get::<Arc<Caller>>().cloned()
}

#[tonic::async_trait]
impl Control for ControlService {
    type ConnectStream = ReceiverStream<Result<pb::OperatorMessage, Status>>;
    type ShareStream = ReceiverStream<Result<pb::ReplicaMessage, Status>>;

    async fn enroll(&self, request: Request<pb::EnrollRequest>) -> Result<Response<pb::EnrollResponse>, Status> {
        let caller = caller(&request);
        let pb::EnrollRequest { token, csr_der } = request.into_inner();
        let enrolled = tokio::time::timeout(ENROLL, self.deps.enroller.enroll(&token, &csr_der, caller.as_deref()))
            .await
            .map_err(|_| Status::deadline_exceeded("the enrolment took too long; try again"))?
            .map_err(|refusal| Status::new(code(&refusal), refusal.to_string()))?;
        Ok(Response::new(pb::EnrollResponse {
            chain_der: enrolled.issued.chain.iter().map(|certificate| certificate.to_vec()).collect(),
            not_after: enrolled.issued.not_after.as_secs(),
            trust_bundle_pem: enrolled.bundle_pem.to_string(),
        }))
    }

    async fn connect(
        &self,
        request: Request<Streaming<pb::SidecarMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let caller = self.pod_caller(&request)?;
        let pod_uid = caller.peer.pod_uid.clone().ok_or_else(unknown_pod)?;
        self.opened.take(&pod_uid, self.deps.clock.now()).map_err(|_| {
            Status::resource_exhausted("this pod opens streams too often; wait longer before each of them")
        })?;
        let (outgoing, messages) = mpsc::channel(OUTSTANDING);
        let place = self.streams.open(pod_uid);
        let stream = PodStream::new(self.deps.clone(), caller, place, self.shutdown.clone());
        tokio::spawn(stream.run(request.into_inner(), outgoing));
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn share(
        &self,
        request: Request<Streaming<pb::ReplicaMessage>>,
    ) -> Result<Response<Self::ShareStream>, Status> {
        let caller = self.replica_caller(&request)?;
        let slot = self.replicas.clone().try_acquire_owned();
        let slot = slot.map_err(|_| Status::resource_exhausted("there are too many replicas"))?;
        let ends = Ends {
            caller,
            clock: self.deps.clock.clone(),
            revocations: self.deps.revocations.subscribe(),
            leadership: self.deps.leadership.clone(),
            shutdown: self.shutdown.clone(),
        };
        let (outgoing, messages) = mpsc::channel(OUTSTANDING);
        let books = self.deps.books();
        tokio::spawn(async move {
            let _slot = slot;
            replicas::serve(books, ends, request.into_inner(), outgoing).await;
        });
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

/// What a sidecar should make of a refusal: try again, read its token again, or tell somebody.
fn code(refusal: &EnrollRefusal) -> Code {
    match refusal {
        EnrollRefusal::NotReady | EnrollRefusal::Token(TokenRefused::Unavailable) | EnrollRefusal::AuthorityLost => {
            Code::Unavailable
        }
        EnrollRefusal::Busy => Code::ResourceExhausted,
        EnrollRefusal::Token(_) | EnrollRefusal::CertificateEnded | EnrollRefusal::CertificateRevoked => {
            Code::Unauthenticated
        }
        EnrollRefusal::PodUnknown => Code::NotFound,
        EnrollRefusal::Revoked
        | EnrollRefusal::PodMismatch
        | EnrollRefusal::Terminating
        | EnrollRefusal::NotMeshed
        | EnrollRefusal::Reserved
        | EnrollRefusal::OtherPod => Code::PermissionDenied,
        EnrollRefusal::Csr(_) | EnrollRefusal::KeyReused => Code::InvalidArgument,
        EnrollRefusal::Authority(_) => Code::Internal,
    }
}
