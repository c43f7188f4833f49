//! Two sides of an upgraded connection, joined.

use std::{cell::Cell, io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split},
    time::{Instant, timeout, timeout_at},
};

use crate::clock::monotonic;

/// Both sides silent for this long: nobody is there any more.
const IDLE_AFTER: Duration = Duration::from_secs(600);
const BUFFER_BYTES: usize = 16 * 1024;

/// Passes bytes both ways until both sides have ended, one breaks, or both are silent for too long.
pub(crate) async fn join<A, B>(a: A, b: B)
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    join_within(IDLE_AFTER, a, b).await;
}

/// As [`join`], with another time for which both sides may be silent.
pub(crate) async fn join_within<A, B>(idle: Duration, a: A, b: B)
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let active = Active { since: Cell::new(monotonic()), idle };
    let ((read_a, write_a), (read_b, write_b)) = (split(a), split(b));
    // What broke it is the business of the two ends.
    let _ = tokio::try_join!(pump(read_a, write_b, &active), pump(read_b, write_a, &active));
}

/// When something moved last, and for how long nothing may.
struct Active {
    since: Cell<Instant>,
    idle: Duration,
}

async fn pump<R: AsyncRead, W: AsyncWrite>(
    mut from: ReadHalf<R>,
    mut to: WriteHalf<W>,
    active: &Active,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = match timeout_at(active.since.get() + active.idle, from.read(&mut buffer)).await {
            Ok(read) => read?,
            // The other direction may have been busy meanwhile.
            Err(_) if monotonic() < active.since.get() + active.idle => continue,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        active.since.set(monotonic());
        if read == 0 {
            return to.shutdown().await;
        }
        let piece = buffer.get(..read).unwrap_or_default();
        timeout(active.idle, to.write_all(piece)).await??;
        timeout(active.idle, to.flush()).await??;
    }
}

#[cfg(test)]
mod tests;
