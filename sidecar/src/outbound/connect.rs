//! New connections: TLS that shows our certificate to exactly the expected peer, or plaintext to what is not in the mesh.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use fapi::{Rejection, UnixTime};
use hyper::{
    client::conn::{http1, http2},
    rt::{Read, Write},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep_until,
};
use tokio_rustls::client::TlsStream;

use super::{
    body::AppBody,
    failure::Failure,
    own::{Own, Protocol},
    peer::Peer,
    pool::{Connection, H1, OpenGuard, Plan, Terms},
};
use crate::{control_client::dial, local::LocalExecutor, state::Shared};

/// The largest head that a peer may answer with.
const HEAD_BYTES: usize = 64 * 1024;
const H2_STREAM_WINDOW: u32 = 1024 * 1024;
const H2_CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// What was sent and is not acknowledged by TCP for so long ends a connection of HTTP/2. When a node dies nobody says so, and
/// every request on the connection waits. Without HTTP/2 a peer that reads nothing for so long may be alive.
#[cfg(target_os = "linux")]
const ACKNOWLEDGED_WITHIN_MS: u32 = 15_000;

/// What a connection is asked for.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) protocol: Protocol,
    /// Our side of it; `None` for plaintext.
    pub(super) own: Option<Rc<Own>>,
    /// Not one that has served a request before.
    pub(super) fresh: bool,
}

impl Wanted {
    fn number(&self) -> u64 {
        self.own.as_ref().map_or(0, |own| own.number)
    }
}

/// How long a connection lives: within its terms, and until its peer is revoked.
pub(super) struct Life {
    pub(super) terms: Terms,
    /// `None` for plaintext.
    peer: Option<fapi::Peer>,
}

impl Life {
    fn plaintext() -> Self {
        Self { terms: Terms::plaintext(), peer: None }
    }
}

/// A connection that carries no HTTP.
pub(super) struct Opaque {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) life: Life,
}

/// A connection of its own to a peer that takes no HTTP.
pub(super) async fn opaque(shared: &Shared, peer: &Peer, own: &Own) -> Result<Opaque, Failure> {
    let made = async {
        let (stream, life) = tls(shared, tcp(shared, peer).await?, peer, own, None).await?;
        Ok(Opaque { stream, life })
    };
    counted(shared, peer, made.await)
}

/// A connection to `peer` from its pool, or a new one.
pub(super) async fn checkout(
    shared: &Arc<Shared>,
    peer: &Rc<Peer>,
    wanted: &Wanted,
    now: UnixTime,
) -> Result<Connection, Failure> {
    match wanted.protocol {
        Protocol::H1 => {
            if !wanted.fresh
                && let Some(idle) = peer.pool.take_h1(wanted.number(), now)
            {
                return Ok(Connection::H1(idle));
            }
            let guard = peer.pool.enter_h1().ok_or(Failure::Busy)?;
            // Boxed, as everything rare on the way of a call: its state would be a part of every call's.
            let made = Box::pin(h1(shared.clone(), peer, wanted, guard)).await;
            counted(shared, peer, made).map(Connection::H1)
        }
        Protocol::H2 => shared_h2(shared, peer, wanted, now).await,
    }
}

async fn shared_h2(
    shared: &Arc<Shared>,
    peer: &Rc<Peer>,
    wanted: &Wanted,
    now: UnixTime,
) -> Result<Connection, Failure> {
    loop {
        match peer.pool.h2().plan(wanted.number(), now, wanted.fresh) {
            Plan::Use(connection) => return Ok(Connection::H2(connection)),
            Plan::Wait(connecting) => connecting.done().await?,
            Plan::Connect(connecting) => {
                // A task of its own: others wait for it too, so it must not end with this request.
                let (shared, peer, wanted) = (shared.clone(), peer.clone(), wanted.clone());
                tokio::task::spawn_local(async move {
                    let made = counted(&shared, &peer, h2(shared.clone(), &peer, &wanted).await);
                    peer.pool.h2().connected(made);
                });
                connecting.done().await?;
            }
        }
    }
}

fn counted<T>(shared: &Shared, peer: &Peer, made: Result<T, Failure>) -> Result<T, Failure> {
    let attempts = &shared.metrics.peer_connects;
    if made.is_ok() {
        attempts.succeeded.add(1);
    } else {
        attempts.failed.add(1);
        peer.load.failed();
    }
    made
}

async fn h1(shared: Arc<Shared>, peer: &Peer, wanted: &Wanted, guard: OpenGuard) -> Result<H1, Failure> {
    let stream = tcp(&shared, peer).await?;
    match &wanted.own {
        None => speak_h1(shared, stream, Life::plaintext(), guard).await,
        Some(own) => {
            let (stream, life) = tls(&shared, stream, peer, own, Some(Protocol::H1)).await?;
            speak_h1(shared, stream, life, guard).await
        }
    }
}

async fn h2(
    shared: Arc<Shared>,
    peer: &Peer,
    wanted: &Wanted,
) -> Result<(http2::SendRequest<AppBody>, Terms), Failure> {
    let stream = tcp(&shared, peer).await?;
    end_when_unacknowledged(&stream).map_err(|error| {
        tracing::warn!(%error, "no connection to a peer");
        Failure::Unreachable
    })?;
    Ok(match &wanted.own {
        None => {
            let life = Life::plaintext();
            let terms = life.terms;
            (speak_h2(shared, stream, life).await?, terms)
        }
        Some(own) => {
            let (stream, life) = tls(&shared, stream, peer, own, Some(Protocol::H2)).await?;
            let terms = life.terms;
            (speak_h2(shared, stream, life).await?, terms)
        }
    })
}

async fn tcp(shared: &Shared, peer: &Peer) -> Result<TcpStream, Failure> {
    if shared.is_own_port(peer.address) {
        return to_ourselves(shared, peer.address).await.map_err(|error| {
            tracing::warn!(%error, "no connection to our own inbound side");
            Failure::Unreachable
        });
    }
    dial::tcp(peer.address).await.map_err(|error| {
        tracing::debug!(%error, "no connection to a peer");
        Failure::Unreachable
    })
}

#[cfg(target_os = "linux")]
fn end_when_unacknowledged(stream: &TcpStream) -> io::Result<()> {
    rustix::net::sockopt::set_tcp_user_timeout(stream, ACKNOWLEDGED_WITHIN_MS).map_err(io::Error::from)
}

/// The pings of HTTP/2 find it out, later.
#[cfg(not(target_os = "linux"))]
fn end_when_unacknowledged(_: &TcpStream) -> io::Result<()> {
    Ok(())
}

/// A connection to our own inbound side, as a peer would have it.
async fn to_ourselves(shared: &Shared, port: SocketAddr) -> io::Result<TcpStream> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let (ours, (theirs, address)) = tokio::try_join!(TcpStream::connect(listener.local_addr()?), listener.accept())?;
    // Anybody in the pod could have come first.
    if address != ours.local_addr()? || !shared.call_own_port(port, theirs) {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    ours.set_nodelay(true)?;
    Ok(ours)
}

/// Proves both sides. The peer must show exactly the expected identity: an address alone says nothing.
async fn tls(
    shared: &Shared,
    stream: TcpStream,
    peer: &Peer,
    own: &Own,
    protocol: Option<Protocol>,
) -> Result<(TlsStream<TcpStream>, Life), Failure> {
    let expect = peer.expect.as_ref().ok_or(Failure::Rejected(Rejection::PlaintextNotAllowed))?;
    let config = own.client_config(expect, protocol).map_err(|error| {
        tracing::error!(%error, "no TLS configuration for a peer");
        Failure::Unreachable
    })?;
    let stream = dial::tls(stream, peer.address, config).await.map_err(|error| {
        tracing::warn!(%error, expect = %expect, "the handshake with a peer failed");
        // Whatever is wrong with the peer's certificate: it is not the workload that was expected.
        error.rejection().map_or(Failure::Unreachable, |_| Failure::Rejected(Rejection::PeerIdentityMismatch))
    })?;
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != protocol.map(Protocol::alpn) {
        tracing::warn!(address = %peer.address, "a peer does not speak the protocol that every sidecar speaks");
        return Err(Failure::Unreachable);
    }
    let leaf = session.peer_certificates().and_then(<[CertificateDer<'_>]>::first);
    let facts = leaf.and_then(|leaf| control::identity::peer_from_leaf(leaf).ok());
    let facts = facts.ok_or(Failure::Rejected(Rejection::PeerIdentityMismatch))?;
    if shared.revocations().hit_peer(&facts, shared.clock.now()) {
        tracing::warn!(address = %peer.address, expect = %expect, "the certificate of a peer is revoked");
        return Err(Failure::Rejected(Rejection::PeerIdentityMismatch));
    }
    let terms = Terms::until(own.number, shared.clock.now(), facts.not_after.min(own.certificate.not_after));
    Ok((stream, Life { terms, peer: Some(facts) }))
}

async fn speak_h1<S>(shared: Arc<Shared>, stream: S, life: Life, guard: OpenGuard) -> Result<H1, Failure>
where
    TokioIo<S>: Read + Write + Unpin + Send + 'static,
{
    let handshake = http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|_| Failure::Unreachable)?;
    // Whoever makes a WebSocket of it needs it longer than hyper does.
    let life = Rc::new(life);
    let h1 = H1::new(sender, Rc::clone(&life));
    tokio::task::spawn_local(async move {
        let _guard = guard;
        until_end(&shared, &life, connection.with_upgrades()).await;
    });
    Ok(h1)
}

async fn speak_h2<S>(shared: Arc<Shared>, stream: S, life: Life) -> Result<http2::SendRequest<AppBody>, Failure>
where
    TokioIo<S>: Read + Write + Unpin + 'static,
{
    let handshake = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_header_list_size(HEAD_BYTES as u32)
        .keep_alive_interval(super::KEEP_ALIVE_EVERY)
        .keep_alive_timeout(super::KEEP_ALIVE_WITHIN)
        .handshake(TokioIo::new(stream))
        .await;
    let (sender, connection) = handshake.map_err(|_| Failure::Unreachable)?;
    tokio::task::spawn_local(async move { until_end(&shared, &life, connection).await });
    Ok(sender)
}

/// Moves the bytes of a connection. No connection outlives the certificates that it was made with, or the revocation of
/// its peer.
pub(super) async fn until_end<C: Future>(shared: &Shared, life: &Life, connection: C) {
    let _open = shared.metrics.peer_connections.enter();
    tokio::select! {
        biased;
        // What broke it shows at the requests.
        _ = connection => {}
        () = sleep_until(shared.clock.deadline(life.terms.ends_at)) => {}
        () = revoked(shared, life.peer.as_ref()) => tracing::warn!("the peer of a connection was revoked: it is closed"),
    }
}

/// Returns when this peer is revoked.
async fn revoked(shared: &Shared, peer: Option<&fapi::Peer>) {
    let Some(peer) = peer else { return std::future::pending().await };
    let mut changes = shared.changes();
    while !shared.revocations().hit_peer(peer, shared.clock.now()) {
        // An error would be the end of the process: `shared` holds the other end.
        let _ = changes.changed().await;
    }
}
