//! The bytes of an HTTP/1.1 connection, read on their way by [`Framing`].

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::framing::Framing;

/// What the reader of the bytes tells whoever judges the requests. Both live on one thread; hyper's upgrades want `Send`.
#[derive(Debug, Default)]
pub(super) struct Findings {
    ambiguous: AtomicBool,
    in_head: AtomicBool,
    ended: AtomicBool,
}

impl Findings {
    /// Whether a message could be read in two ways: it and all that followed are refused.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.ambiguous.load(Ordering::Relaxed)
    }

    /// Whether a head has begun and not ended.
    pub(super) fn is_in_head(&self) -> bool {
        self.in_head.load(Ordering::Relaxed)
    }

    /// What follows is no HTTP any more.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// A connection whose framing is watched.
#[derive(Debug)]
pub(super) struct Watched<S> {
    inner: S,
    framing: Framing,
    findings: Arc<Findings>,
}

impl<S> Watched<S> {
    pub(super) fn new(inner: S) -> (Self, Arc<Findings>) {
        let findings = Arc::<Findings>::default();
        (Self { inner, framing: Framing::default(), findings: findings.clone() }, findings)
    }

    fn read(&mut self, bytes: &[u8]) {
        let findings = &self.findings;
        if findings.is_ambiguous() || findings.ended.load(Ordering::Relaxed) {
            return;
        }
        if self.framing.feed(bytes).is_err() {
            findings.ambiguous.store(true, Ordering::Relaxed);
        }
        findings.in_head.store(self.framing.in_head(), Ordering::Relaxed);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        if let Some(fresh) = buf.filled().get(before..) {
            self.read(fresh);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
