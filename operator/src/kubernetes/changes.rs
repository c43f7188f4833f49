//! Hearing of what other operators write into the Secrets that all of them share.

use std::pin::pin;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::WatchParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_stream::StreamExt;

use crate::backoff::Backoff;

/// Seconds after which a server is to end a watch.
const WATCH: u32 = 290;
/// One that says nothing for longer is not there any more. Nobody relies on hearing of it earlier: whoever follows a Secret also
/// looks by himself, every 30 s.
const SILENCE: Duration = Duration::from_secs(300);
/// The first answer.
const ANSWER: Duration = Duration::from_secs(10);
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Tells when a Secret may have changed.
#[derive(Clone, Debug)]
pub(crate) struct Changes(Option<watch::Receiver<()>>);

impl Changes {
    /// Of what nobody else writes.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Returns when it may have changed.
    pub(crate) async fn next(&mut self) {
        let ended = match &mut self.0 {
            Some(changes) => changes.changed().await.is_err(),
            None => true,
        };
        if ended {
            std::future::pending::<()>().await;
        }
    }
}

/// Watches one Secret of the operator's namespace.
pub(crate) struct SecretWatch {
    secrets: Api<Secret>,
    name: &'static str,
    tell: watch::Sender<()>,
}

impl SecretWatch {
    /// A watch that has heard of nothing yet.
    pub(crate) fn new(client: Client, namespace: &str, name: &'static str) -> Self {
        Self { secrets: Api::namespaced(client, namespace), name, tell: watch::Sender::new(()) }
    }

    /// What it hears.
    pub(crate) fn changes(&self) -> Changes {
        Changes(Some(self.tell.subscribe()))
    }

    /// Watches until `shutdown` says true. Each watch begins with what is there, so nothing is missed between two.
    pub(crate) async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut backoff = Backoff::new(SHORTEST_PAUSE, LONGEST_PAUSE);
        loop {
            let failed = tokio::select! {
                outcome = self.follow() => outcome.err(),
                _ = shutdown.wait_for(|end| *end) => return,
            };
            match failed {
                None => backoff.reset(),
                Some(error) => {
                    let secret = self.name;
                    tracing::warn!(event = "watch", secret, error, "what other operators write there is not heard of");
                }
            }
            tokio::select! {
                () = backoff.rest() => {}
                _ = shutdown.wait_for(|end| *end) => return,
            }
        }
    }

    async fn follow(&self) -> Result<(), String> {
        let params = WatchParams::default().fields(&format!("metadata.name={}", self.name)).timeout(WATCH);
        let opened = timeout(ANSWER, self.secrets.watch_metadata(&params, "0")).await;
        let mut events = pin!(opened.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())?);
        while let Ok(Some(event)) = timeout(SILENCE, events.next()).await {
            match event {
                Ok(kube::core::WatchEvent::Error(status)) => return Err(status.message),
                Ok(_) => self.tell.send_modify(|()| {}),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }
}
