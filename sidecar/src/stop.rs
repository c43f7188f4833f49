//! How the end of the process reaches every task.

use tokio::sync::watch;

/// Starts the end: held by `run`.
#[derive(Debug)]
pub(crate) struct StopSource(watch::Sender<bool>);

/// Tells a task that it should finish what it has begun and start nothing new.
#[derive(Debug, Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl StopSource {
    /// A source and the signal that goes to every task.
    pub(crate) fn new() -> (Self, Stop) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), Stop(receiver))
    }

    /// Tells every holder of the signal to stop.
    pub(crate) fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Whether the end has begun.
    pub(crate) fn is_stopped(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when the end begins, at once when it already has.
    pub(crate) async fn stopped(&mut self) {
        // An error means that the source is gone, which is the end as well.
        let _ = self.0.wait_for(|stopped| *stopped).await;
    }
}
