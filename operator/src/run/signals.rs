//! What a person or an init system may ask of the process.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::error::Failure;

/// The signals that are listened to. From the first moment: an unheard SIGHUP ends a process.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(Failure::Signals);
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Returns when the process is to end: on SIGINT or SIGTERM. A SIGHUP waits for [`Signals::end_or_renew`].
    pub(super) async fn end(&mut self) {
        let signal = tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        };
        tracing::info!(event = "signal", signal, "ending");
    }

    /// Returns when the process is to end. Until then each SIGHUP has every sidecar renew its certificate.
    pub(super) async fn end_or_renew(mut self, renew: impl Fn()) {
        while self.hung_up().await {
            tracing::info!(event = "signal", signal = "SIGHUP", "every sidecar is asked to renew its certificate");
            renew();
        }
    }

    /// True for a SIGHUP, false when the process is to end.
    async fn hung_up(&mut self) -> bool {
        let signal = tokio::select! {
            _ = self.hangup.recv() => return true,
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        };
        tracing::info!(event = "signal", signal, "ending");
        false
    }
}
