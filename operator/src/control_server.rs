//! The control server: certificates for pods, and one stream per sidecar with what it must enforce.
//!
//! Which pod a stream belongs to is read from the certificate of its connection, never from a message: a pod can
//! only ever read its own policy.

mod outbox;
mod pace;
mod renewal;
mod service;
mod stream;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use control::MeshIssuer;
use control::pb::control_server::ControlServer;
use control::tls::TlsError;
use fapi::{SpiffeId, UnixTime};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::codegen::Service;

use crate::accept::{self, Connection, Places, Room, Tls, drive};
use crate::acks::Acks;
use crate::audits::Audits;
use crate::behind::Behind;
use crate::client_keys::ClientKeys;
use crate::clock::Clock;
use crate::enroll::Enroller;
use crate::issuer::{Delivered, Published};
use crate::kubernetes::Leadership;
use crate::pki::Roots;
use crate::replicas::Books;
use crate::revocations::Revocations;
use crate::view::View;
use service::ControlService;

/// The protocol of the control server over TLS.
pub(crate) const ALPN: &[&[u8]] = &[b"h2"];

/// One per sidecar, and one more while it renews its certificate; a few more of one that lost its connections without a word.
const PLACES: Places = Places { all: 20_000, strangers: 2_000, of_a_pod: 8 };
/// A sidecar needs two: its stream, and one call to renew.
const STREAMS: u32 = 16;
/// Without a certificate there is one call: to enrol.
const STREAMS_OF_A_STRANGER: u32 = 1;
/// The largest message of a sidecar is an enrolment: a token and a request of a few KB.
const MAX_MESSAGE: usize = 64 * 1024;
const MAX_HEADERS: u32 = 16 * 1024;
/// What may wait for a slow reader: a few snapshots. Whatever waits is outdated.
const SEND_BUFFER: usize = 64 * 1024;
/// A peer that is gone without a word is noticed within these two.
pub(crate) const PING: Duration = Duration::from_secs(30);
pub(crate) const PONG: Duration = Duration::from_secs(10);

/// What the control server serves from.
pub(crate) struct Deps {
    pub(crate) enroller: Arc<Enroller>,
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) revocations: Arc<Revocations>,
    pub(crate) acks: Arc<Acks>,
    pub(crate) audits: Arc<Audits>,
    pub(crate) client_keys: Arc<ClientKeys>,
    /// The issuer's public keys.
    pub(crate) keys: watch::Receiver<Arc<Published>>,
    /// Told which keys each stream was sent.
    pub(crate) delivered: Arc<Delivered>,
    /// The mesh issuer, as snapshots name it.
    pub(crate) issuer: MeshIssuer,
    /// The roots of the mesh.
    pub(crate) roots: watch::Receiver<Arc<Roots>>,
    /// Told of sidecars that run newer snapshots than the view has.
    pub(crate) behind: Behind,
    /// Sidecars whose certificates were not issued after this second are told to renew them: those with an open stream soon,
    /// others when they connect.
    pub(crate) renew: watch::Receiver<UnixTime>,
    /// Who other replicas are.
    pub(crate) operator: SpiffeId,
    /// Whether they report to this one.
    pub(crate) leadership: Leadership,
    pub(crate) clock: Clock,
}

impl Deps {
    /// What replicas tell each other of.
    pub(crate) fn books(&self) -> Books {
        Books {
            view: self.view.clone(),
            acks: self.acks.clone(),
            audits: self.audits.clone(),
            client_keys: self.client_keys.clone(),
            keys: self.keys.clone(),
            delivered: self.delivered.clone(),
            clock: self.clock.clone(),
        }
    }
}

/// Serves until `shutdown` says true; open streams are then ended in order.
///
/// # Errors
/// If the TLS configuration cannot be built.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Tls,
    deps: Deps,
    shutdown: watch::Receiver<bool>,
) -> Result<(), TlsError> {
    let clock = deps.clock.clone();
    let service = ControlService::new(Arc::new(deps), shutdown.clone());
    let server = ControlServer::new(service).max_decoding_message_size(MAX_MESSAGE);
    let serve = move |accepted| connection(server.clone(), accepted);
    accept::run(listener, tls, Room::Members(PLACES), clock, shutdown, serve).await
}

async fn connection(server: ControlServer<ControlService>, connection: Connection) {
    let (stream, caller, ending) = connection.split();
    let streams = if caller.is_some() { STREAMS } else { STREAMS_OF_A_STRANGER };
    let service = service_fn(move |mut request: Request<Incoming>| {
        let mut server = server.clone();
        if let Some(caller) = &caller {
            request.extensions_mut().insert(caller.clone());
        }
        async move { Ok::<_, Infallible>(server.call(request).await.unwrap_or_else(|never| match never {})) }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .max_concurrent_streams(streams)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEADERS);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    drive(connection, ending, http2::Connection::graceful_shutdown).await;
}
