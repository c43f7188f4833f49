//! The bytes of an HTTP/1.1 connection, read on their way by [`Framing`].

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use fapi::Rejection;

use super::framing::{Flaw, Framing};

/// What the reader of the bytes tells whoever judges the requests. Both live on one thread; hyper's upgrades want `Send`.
#[derive(Debug, Default)]
pub(super) struct Findings {
    flaw: OnceLock<Flaw>,
    in_head: AtomicBool,
    ended: AtomicBool,
}

impl Findings {
    /// Why the message of a flaw and all that followed are refused.
    pub(super) fn rejection(&self) -> Option<Rejection> {
        self.flaw.get().map(|flaw| match flaw {
            Flaw::Ambiguous => Rejection::RequestMalformed,
            Flaw::TooLong => Rejection::HeaderTooLarge,
        })
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
        if findings.flaw.get().is_some() || findings.ended.load(Ordering::Relaxed) {
            return;
        }
        if let Err(flaw) = self.framing.feed(bytes) {
            // It was not set before.
            let _ = findings.flaw.set(flaw);
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
