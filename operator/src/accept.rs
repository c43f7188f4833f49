//! Accepting TLS connections for the operator's servers: bounded in number, with a deadline on the handshake,
//! ended with the certificate of the other side.
//!
//! Where members call, whoever shows no certificate, or has not yet, has a part of the room, and the newest of them is served:
//! however many connections strangers hold, members of the mesh come in. Where everybody calls, who comes takes the room of one
//! that is idle.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use control::OpenConnections;
use control::identity::peer_from_leaf;
use control::tls::{ClientAuth, Identity, TlsError};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::caller::Caller;
use crate::clock::Clock;
use crate::newest::{Newest, Open};
use crate::pki::Roots;

/// A handshake takes milliseconds; more than this is a caller that holds a place.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// A caller without a certificate enrols or reads public documents: a few short requests.
const WITHOUT_CERTIFICATE: Duration = Duration::from_secs(60);
/// What a connection gets to finish its requests once it must end.
const DRAIN: Duration = Duration::from_secs(5);
/// After a failure to accept (no file handles left): give others time to end.
const PAUSE: Duration = Duration::from_millis(50);

/// How many connections a server has at one time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    /// All of them; one more waits.
    pub(crate) all: usize,
    /// Those without a certificate, or still before it is shown. Half of them may come from one address; for one more the
    /// oldest ends.
    pub(crate) strangers: usize,
    /// Those of one pod; for one more its oldest ends.
    pub(crate) of_a_pod: usize,
}

/// Who has connections.
struct Holders {
    strangers: Newest<()>,
    addresses: Newest<IpAddr>,
    pods: Newest<Arc<str>>,
}

/// The place of a connection that has shown no certificate.
struct Stranger(Open<()>, Open<IpAddr>);

/// How a server proves its identity and checks its callers.
pub(crate) struct Tls {
    identity: watch::Receiver<Arc<Identity>>,
    /// Whose certificates callers may present; `None`: they are asked for none.
    roots: Option<watch::Receiver<Arc<Roots>>>,
    alpn: &'static [&'static [u8]],
}

impl Tls {
    /// Serves with the current `identity`; callers may present a certificate of the current `roots`.
    pub(crate) fn new(
        identity: watch::Receiver<Arc<Identity>>,
        roots: watch::Receiver<Arc<Roots>>,
        alpn: &'static [&'static [u8]],
    ) -> Self {
        Self { identity, roots: Some(roots), alpn }
    }

    /// Serves callers outside the mesh with the current `identity`.
    pub(crate) fn public(identity: watch::Receiver<Arc<Identity>>, alpn: &'static [&'static [u8]]) -> Self {
        Self { identity, roots: None, alpn }
    }

    fn acceptor(&mut self) -> Result<TlsAcceptor, TlsError> {
        let identity = self.identity.borrow_and_update().clone();
        let config = match &mut self.roots {
            Some(roots) => {
                let roots = roots.borrow_and_update().clone();
                control::tls::server_config(&roots.bundle, &identity, ClientAuth::Optional, self.alpn)?
            }
            None => control::tls::public_server_config(&identity, self.alpn)?,
        };
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    fn renewed(&self) -> bool {
        let other_roots = self.roots.as_ref().is_some_and(|roots| roots.has_changed().unwrap_or(false));
        other_roots || self.identity.has_changed().unwrap_or(false)
    }
}

/// A connection whose handshake is done.
pub(crate) struct Connection {
    pub(crate) stream: TlsStream<TcpStream>,
    /// Who is at the other end; `None` if it presented no certificate.
    pub(crate) caller: Option<Arc<Caller>>,
    /// What is being done on it.
    pub(crate) work: Work,
    lifetime: Duration,
    shutdown: watch::Receiver<bool>,
}

/// How many connections there may be, and what becomes of one more.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Room {
    /// For members of the mesh: it waits until one ends.
    Members(Places),
    /// For everybody: an idle one ends for it. `most` in all, `from_one` from one address.
    Everybody { most: usize, from_one: usize },
}

/// What is being done on a connection; one on which nothing is, is idle. Clones speak of the same connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Work(Arc<AtomicUsize>);

/// Something that is being done, until this is dropped.
pub(crate) struct Doing(Work);

/// When a connection must end: at shutdown, or with the certificate of its caller.
pub(crate) struct Ending {
    lifetime: Duration,
    shutdown: watch::Receiver<bool>,
}

/// Accepts until `shutdown` says true (or its sender is gone), then waits a little for what is in progress.
///
/// # Errors
/// Only if the first TLS configuration cannot be built.
pub(crate) async fn run<F, Served>(
    listener: TcpListener,
    mut tls: Tls,
    room: Room,
    clock: Clock,
    mut shutdown: watch::Receiver<bool>,
    serve: F,
) -> Result<(), TlsError>
where
    F: Fn(Connection) -> Served + Clone + Send + 'static,
    Served: Future<Output = ()> + Send + 'static,
{
    let (slots, holders, mut open) = room.split();
    let mut acceptor = tls.acceptor()?;
    let mut tasks = JoinSet::new();
    while let Some((tcp, remote, slot)) = next(&listener, &slots, &mut shutdown).await {
        while tasks.try_join_next().is_some() {}
        if tls.renewed() {
            match tls.acceptor() {
                Ok(renewed) => acceptor = renewed,
                Err(error) => {
                    tracing::error!(%error, "the renewed identity or roots cannot be used; serving with the old ones");
                }
            }
        }
        let (acceptor, clock, shutdown, serve) = (acceptor.clone(), clock.clone(), shutdown.clone(), serve.clone());
        let stranger = holders.as_ref().map(|holders| (holders.clone(), holders.stranger(remote.ip())));
        let work = Work::default();
        let its_work = work.clone();
        let task = tasks.spawn(async move {
            let _slot = slot;
            let shaking = handshake(tcp, remote, &acceptor, &clock, its_work, shutdown);
            if let Some((holders, stranger)) = stranger {
                holders.hold(stranger, shaking, serve).await;
            } else if let Some(connection) = shaking.await {
                serve(connection).await;
            }
        });
        let is_over = |(task, _): &(AbortHandle, Work)| task.is_finished();
        let in_its_way = open
            .as_mut()
            .and_then(|open| open.take_in_sparing(remote.ip(), (task, work), is_over, |(_, work)| work.is_done()));
        if let Some((idle, _)) = in_its_way {
            idle.abort();
        }
    }
    drop(listener);
    let drained = timeout(DRAIN + PAUSE, async { while tasks.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tasks.shutdown().await;
    }
    Ok(())
}

/// The next connection, once there is room for it; `None` at shutdown.
async fn next(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    shutdown: &mut watch::Receiver<bool>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let accepted = async {
        let slot = slots.clone().acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((tcp, remote)) => return Some((tcp, remote, slot)),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        accepted = accepted => accepted,
        _ = shutdown.wait_for(|end| *end) => None,
    }
}

async fn handshake(
    tcp: TcpStream,
    remote: SocketAddr,
    acceptor: &TlsAcceptor,
    clock: &Clock,
    work: Work,
    shutdown: watch::Receiver<bool>,
) -> Option<Connection> {
    // Requests are small and answered at once; waiting to fill a packet only adds delay.
    let _ = tcp.set_nodelay(true);
    let stream = match timeout(HANDSHAKE, acceptor.accept(tcp)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return refuse(remote, &error),
        Err(_) => return refuse(remote, &io::ErrorKind::TimedOut.into()),
    };
    let caller = match stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()) {
        None => None,
        Some(leaf) => match peer_from_leaf(leaf) {
            Ok(peer) => Some(Arc::new(Caller { peer, leaf: leaf.clone().into_owned() })),
            Err(error) => return refuse(remote, &io::Error::other(error)),
        },
    };
    let lifetime = caller.as_ref().map_or(WITHOUT_CERTIFICATE, |caller| clock.until(caller.peer.not_after));
    Some(Connection { stream, caller, work, lifetime, shutdown })
}

fn refuse(remote: SocketAddr, error: &io::Error) -> Option<Connection> {
    let reason = control::tls::rejection_of(error).map_or("failed", |rejection| rejection.id());
    tracing::info!(event = "handshake", outcome = "refused", reason, peer = %remote, %error);
    None
}

impl Room {
    /// The places that connections wait for, and whose they are.
    fn split(self) -> (Arc<Semaphore>, Option<Arc<Holders>>, Option<OpenConnections<(AbortHandle, Work)>>) {
        let (all, holders, open) = match self {
            Self::Members(places) => (places.all, Some(Arc::new(Holders::new(places))), None),
            Self::Everybody { most, from_one } => {
                (Semaphore::MAX_PERMITS, None, Some(OpenConnections::new(most, from_one)))
            }
        };
        (Arc::new(Semaphore::new(all)), holders, open)
    }
}

impl Work {
    /// Something is begun on the connection.
    pub(crate) fn begin(&self) -> Doing {
        self.0.fetch_add(1, Ordering::Relaxed);
        Doing(self.clone())
    }

    fn is_done(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Doing {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Holders {
    fn new(places: Places) -> Self {
        Self {
            strangers: Newest::new(places.strangers),
            addresses: Newest::new(places.strangers.div_ceil(2)),
            pods: Newest::new(places.of_a_pod),
        }
    }

    fn stranger(&self, address: IpAddr) -> Stranger {
        Stranger(self.strangers.open(()), self.addresses.open(address))
    }

    /// Serves a connection for as long as it has its place: that of a stranger, or one of its pod.
    async fn hold<Served: Future<Output = ()>>(
        &self,
        stranger: Stranger,
        shaking: impl Future<Output = Option<Connection>>,
        serve: impl FnOnce(Connection) -> Served,
    ) {
        let connection = tokio::select! { connection = shaking => connection, () = stranger.replaced() => None };
        let Some(connection) = connection else { return };
        // Certificates of the operator itself name no pod.
        let Some(caller) = &connection.caller else {
            return tokio::select! { () = serve(connection) => {}, () = stranger.replaced() => {} };
        };
        drop(stranger);
        let Some(pod_uid) = caller.peer.pod_uid.clone() else { return serve(connection).await };
        let of_pod = self.pods.open(pod_uid);
        tokio::select! { () = serve(connection) => {}, () = of_pod.replaced() => {} }
    }
}

impl Stranger {
    /// Returns when a newer one has taken its place.
    async fn replaced(&self) {
        tokio::select! { () = self.0.replaced() => {}, () = self.1.replaced() => {} }
    }
}

impl Connection {
    /// Takes the connection apart: the stream, its caller, and when it must end.
    pub(crate) fn split(self) -> (TlsStream<TcpStream>, Option<Arc<Caller>>, Ending) {
        (self.stream, self.caller, Ending { lifetime: self.lifetime, shutdown: self.shutdown })
    }
}

impl Ending {
    /// Returns when the connection must end.
    pub(crate) async fn reached(mut self) {
        tokio::select! {
            () = sleep(self.lifetime) => {}
            _ = self.shutdown.wait_for(|end| *end) => {}
        }
    }
}

/// Drives a connection to its end. When `ending` comes, `wind_down` tells it to take no more requests, and
/// what is in progress gets a few seconds.
pub(crate) async fn drive<C: Future>(connection: C, ending: Ending, wind_down: impl FnOnce(Pin<&mut C>)) {
    let mut connection = pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = ending.reached() => {}
    }
    wind_down(connection.as_mut());
    let _ = timeout(DRAIN, connection).await;
}
