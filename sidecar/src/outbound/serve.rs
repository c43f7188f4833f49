//! One connection of the app: HTTP/1.1, or HTTP/2 with prior knowledge.

use std::{convert::Infallible, pin::pin, rc::Rc, time::Duration};

use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{KEEP_ALIVE_EVERY, KEEP_ALIVE_WITHIN, Outbound, call::Told, failure::Failure, redirected::Via};
use crate::{inbound::unread, local::LocalExecutor, stop::Stop};

/// The first bytes of a connection decide its protocol; they must come within this time.
const FIRST_BYTES_WITHIN: Duration = Duration::from_secs(60);
/// How often a connection is looked at that has sent one or two bytes.
const PEEK_EVERY: Duration = Duration::from_millis(10);
/// A head must be complete within this time; an app's connection may lie idle as long.
const HEAD_WITHIN: Duration = Duration::from_secs(300);
const HEAD_BYTES: usize = 64 * 1024;
const MAX_STREAMS: u32 = 250;

impl Outbound {
    /// Serves one connection of the app until it ends. After `stop` it takes no new requests.
    pub(crate) async fn serve(self: Rc<Self>, stream: TcpStream, stop: Stop) {
        let shared = self.local.shared.clone();
        let _open = shared.metrics.outbound_connections.enter();
        // Without it small answers wait for acknowledgements; a socket that cannot do it still works.
        let _ = stream.set_nodelay(true);
        match timeout(FIRST_BYTES_WITHIN, is_http2(&stream)).await {
            Ok(Some(true)) => self.serve_http2(stream, Via::Proxy, stop).await,
            Ok(Some(false)) => self.serve_http1(stream, Via::Proxy, stop).await,
            Ok(None) | Err(_) => {}
        }
    }

    pub(super) async fn serve_http1(self: Rc<Self>, stream: TcpStream, via: Via, mut stop: Stop) {
        let service = service_fn(|request| answer(self.clone(), via.clone(), request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = stop.stopped() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        // What else broke it is the app's business.
        if let Some(rejection) = ended.err().as_ref().and_then(unread) {
            self.record(&Failure::Rejected(rejection), &Told::default());
        }
    }

    pub(super) async fn serve_http2(self: Rc<Self>, stream: TcpStream, via: Via, mut stop: Stop) {
        let service = service_fn(|request| answer(self.clone(), via.clone(), request));
        let connection = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE_EVERY)
            .keep_alive_timeout(KEEP_ALIVE_WITHIN)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(HEAD_BYTES as u32)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        // What broke it is the app's business.
        tokio::select! {
            biased;
            _ = connection.as_mut() => return,
            () = stop.stopped() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}

async fn answer(
    outbound: Rc<Outbound>,
    via: Via,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<super::body::OutBody>, Infallible> {
    Ok(outbound.call(via, request).await)
}

/// Whether a connection begins with the preface of HTTP/2 (RFC 9113 section 3.4); no HTTP/1.1 method begins like it.
/// `None` when it ended before.
async fn is_http2(stream: &TcpStream) -> Option<bool> {
    const PREFACE: &[u8; 4] = b"PRI ";
    let mut first = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut first).await.ok().filter(|count| *count > 0)?;
        let (seen, preface) = (first.get(..count)?, PREFACE.get(..count)?);
        if seen != preface {
            return Some(false);
        }
        if count == PREFACE.len() {
            return Some(true);
        }
        // Peeking does not wait for more than the first byte.
        sleep(PEEK_EVERY).await;
    }
}
