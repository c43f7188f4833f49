//! Two sides of an upgraded connection, joined.

use std::{cell::Cell, io, time::Duration};

use http::{HeaderMap, Response, StatusCode};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split},
    time::{Instant, timeout, timeout_at},
};

use super::{body::OutBody, head, lease::Lease};
use crate::clock::monotonic;

/// Both sides silent for this long: nobody is there any more.
const IDLE_AFTER: Duration = Duration::from_secs(600);
const SWITCH_WITHIN: Duration = Duration::from_secs(10);
const BUFFER_BYTES: usize = 16 * 1024;

/// Passes the peer's agreement on to the app, and then the bytes of both.
pub(super) fn switch(mut response: Response<Incoming>, app: OnUpgrade, lease: Lease) -> Response<OutBody> {
    let peer = hyper::upgrade::on(&mut response);
    tokio::task::spawn_local(async move {
        let both = async { tokio::try_join!(app, peer) };
        if let Ok(Ok((app, peer))) = timeout(SWITCH_WITHIN, both).await {
            join(TokioIo::new(app), TokioIo::new(peer)).await;
        }
        drop(lease);
    });
    let mut answer = Response::new(OutBody::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = agreement(response.into_parts().0.headers);
    answer
}

fn agreement(mut headers: HeaderMap) -> HeaderMap {
    head::clean_response(&mut headers);
    head::upgrade(&mut headers);
    headers
}

/// Passes bytes both ways until both sides have ended, one breaks, or both are silent for too long.
pub(super) async fn join<A, B>(a: A, b: B)
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let active = Cell::new(monotonic());
    let ((read_a, write_a), (read_b, write_b)) = (split(a), split(b));
    // What broke it is the business of the two ends.
    let _ = tokio::try_join!(pump(read_a, write_b, &active), pump(read_b, write_a, &active));
}

async fn pump<R: AsyncRead, W: AsyncWrite>(
    mut from: ReadHalf<R>,
    mut to: WriteHalf<W>,
    active: &Cell<Instant>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = match timeout_at(active.get() + IDLE_AFTER, from.read(&mut buffer)).await {
            Ok(read) => read?,
            // The other direction may have been busy meanwhile.
            Err(_) if monotonic() < active.get() + IDLE_AFTER => continue,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        active.set(monotonic());
        if read == 0 {
            return to.shutdown().await;
        }
        let piece = buffer.get(..read).unwrap_or_default();
        timeout(IDLE_AFTER, to.write_all(piece)).await??;
        timeout(IDLE_AFTER, to.flush()).await??;
    }
}

#[cfg(test)]
mod tests;
