//! One connection of a peer: the handshake, then HTTP/1.1 or HTTP/2 until its life ends.

use std::{convert::Infallible, io, net::SocketAddr, pin::Pin, rc::Rc, time::Duration};

use control::{
    identity::peer_from_leaf,
    tls::{Root, TrustBundle},
};
use fapi::{Peer, Rejection, UnixTime};
use http::{Request, Response};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::{HttpService, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    Inbound,
    connection::Connection,
    enforce::enforce,
    lifetime::{Graceful, Lifetime, live},
    watched::Watched,
};
use crate::{body::Reply, clock::monotonic, headers::MAX_FIELDS, local::LocalExecutor};

/// A peer that means it is done long before.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
pub(super) const HEAD_BYTES: usize = 64 * 1024;
/// Calls at once on one connection. Another sidecar sends all of its calls over one.
const MAX_STREAMS: u32 = 1000;
/// Streams that a peer opened and reset before they were looked at.
const MAX_RESET_STREAMS: usize = 64;
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// A silent connection is asked for a sign of life, and closed without one.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(30);
const KEEP_ALIVE_WITHIN: Duration = Duration::from_secs(10);

/// A connection whose TLS ends here.
pub(super) struct Met {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) peer: Peer,
    /// What vouched for the peer.
    pub(super) root: Root,
}

impl Inbound {
    /// Carries a connection to its end that came in by `listen` from `address`. `permit` is held until it is known who is
    /// there.
    pub(crate) async fn carry<P>(
        self: &Rc<Self>,
        stream: TcpStream,
        (listen, address): (SocketAddr, SocketAddr),
        permit: P,
    ) {
        let deadline = monotonic() + HANDSHAKE_WITHIN;
        if self.is_plain(&stream, listen, address, deadline).await {
            drop(permit);
            // Boxed, as everything rare: its state would be a part of every connection's.
            return Box::pin(self.serve_plain(stream, listen, address)).await;
        }
        let met = self.handshake(stream, address, deadline).await;
        drop(permit);
        if let Some(met) = met {
            self.serve(met, listen, address).await;
        }
    }

    /// Ends the TLS of a connection. `None` when it is no peer of the mesh, which is logged.
    async fn handshake(&self, stream: TcpStream, address: SocketAddr, deadline: Instant) -> Option<Met> {
        let shared = &self.local.shared;
        // Without a certificate there is nobody to talk to: the connection is closed.
        let generation = shared.identity()?;
        // Without it small answers wait for acknowledgements; a socket that cannot do it still works.
        let _ = stream.set_nodelay(true);
        let acceptor = TlsAcceptor::from(generation.server_config.clone());
        let accepted = match timeout_at(deadline, self.turns.take(acceptor.accept(stream))).await {
            Ok(accepted) => accepted.and_then(|stream| with_peer(stream, &generation.bundle, shared.clock.now())),
            Err(late) => Err(io::Error::from(late)),
        };
        let refused = match accepted {
            Ok(met) if shared.revocations().hit_peer(&met.peer, shared.clock.now()) => Some(Rejection::Revoked),
            Ok(met) => {
                shared.metrics.handshakes.add(1);
                return Some(met);
            }
            Err(error) if control::tls::is_plaintext(&error) => Some(Rejection::PlaintextNotAllowed),
            Err(error) => control::tls::rejection_of(&error),
        };
        match refused {
            Some(rejection) => {
                shared.metrics.handshakes_refused.count(rejection);
                self.local.log.refused_handshake(rejection, address);
            }
            None => shared.metrics.handshakes_aborted.add(1),
        }
        None
    }

    /// Serves a peer until its connection ends.
    async fn serve(self: &Rc<Self>, met: Met, listen: SocketAddr, address: SocketAddr) {
        let Some(_seat) = self.seat(&met.peer) else { return };
        let _open = self.local.shared.metrics.inbound_connections.enter();
        if self.is_opaque(listen) {
            return Box::pin(self.serve_opaque(met, listen, address)).await;
        }
        if met.stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            // What broke it shows at the calls.
            let _ = self.serve_http2(met, (listen, address)).await;
        } else {
            self.serve_http1(met, (listen, address)).await;
        }
    }

    async fn serve_http1(self: &Rc<Self>, Met { stream, peer, root }: Met, ends: (SocketAddr, SocketAddr)) {
        let (stream, findings) = Watched::new(stream);
        let lifetime = Rc::new(Lifetime::new(peer.clone(), root, Some(findings)));
        self.lifetimes.watch(&lifetime);
        let connection = Connection::new(self, ends, peer, Rc::clone(&lifetime));
        let served = http1::Builder::new()
            // Lifetimes look after slow heads, without a timer for each.
            .header_read_timeout(None)
            .max_headers(MAX_FIELDS)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service_fn(|request| answer(Rc::clone(&connection), request)))
            .with_upgrades();
        // What else broke it shows at the calls.
        if let Err(error) = live(&lifetime, std::pin::pin!(served)).await {
            self.tell_unread(&error, Some(&connection.peer.spiffe_id), connection.address);
        }
    }

    async fn serve_http2(
        self: &Rc<Self>,
        Met { stream, peer, root }: Met,
        ends: (SocketAddr, SocketAddr),
    ) -> hyper::Result<()> {
        let lifetime = Rc::new(Lifetime::new(peer.clone(), root, None));
        self.lifetimes.watch(&lifetime);
        let connection = Connection::new(self, ends, peer, Rc::clone(&lifetime));
        let served = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE_EVERY)
            .keep_alive_timeout(KEEP_ALIVE_WITHIN)
            .max_concurrent_streams(MAX_STREAMS)
            .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
            .max_header_list_size(HEAD_BYTES as u32)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .serve_connection(TokioIo::new(stream), service_fn(move |request| answer(Rc::clone(&connection), request)));
        live(&lifetime, std::pin::pin!(served)).await
    }
}

async fn answer(connection: Rc<Connection>, request: Request<Incoming>) -> Result<Response<Reply>, Infallible> {
    Ok(enforce(connection, request).await)
}

/// The verifier let only members in, so a leaf that cannot be read is an error of ours; it is refused all the same.
fn with_peer(stream: TlsStream<TcpStream>, bundle: &TrustBundle, now: UnixTime) -> io::Result<Met> {
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let peer = chain.first().and_then(|leaf| peer_from_leaf(leaf).ok());
    let met = peer.zip(bundle.root_of(chain, now));
    let (peer, root) = met.ok_or_else(|| io::Error::other("the peer's certificate cannot be read"))?;
    Ok(Met { stream, peer, root })
}

impl<I, S> Graceful for http1::UpgradeableConnection<I, S>
where
    Self: Future<Output = hyper::Result<()>>,
    S: HttpService<Incoming, ResBody = Reply>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    fn close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> Graceful for http2::Connection<I, S, LocalExecutor>
where
    Self: Future<Output = hyper::Result<()>>,
    S: HttpService<Incoming, ResBody = Reply>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    LocalExecutor: hyper::rt::bounds::Http2ServerConnExec<S::Future, Reply>,
{
    fn close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
