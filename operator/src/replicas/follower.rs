//! The side of a replica that does not hold the Lease.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use control::pb::{self, replica_message::Kind};
use control::tls::Identity;
use fapi::SpiffeId;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::dial::{self, LinkError};
use super::{Books, Told};
use crate::audits::Pace;
use crate::backoff::Backoff;
use crate::pki::Roots;

/// The other side lets us in at once, or not.
const OPEN: Duration = Duration::from_secs(5);
/// A reader that takes nothing for this long has stopped reading.
const STALLED: Duration = Duration::from_secs(30);
/// What comes together is told together.
const QUIET: Duration = Duration::from_millis(100);
/// Seconds between two looks at counts, which change all the time.
const COUNTS_EVERY: u64 = 10;
/// Messages on their way; everything behind them is merged to the newest.
const OUTSTANDING: usize = 64;
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Tells the holder of the Lease, whoever that is.
pub(crate) struct Follower {
    pub(crate) books: Books,
    /// Where the holder is, if it is another one.
    pub(crate) holder: watch::Receiver<Option<SocketAddr>>,
    pub(crate) roots: watch::Receiver<Arc<Roots>>,
    /// Our own, which is that of every replica.
    pub(crate) identity: watch::Receiver<Arc<Identity>>,
    pub(crate) operator: SpiffeId,
}

impl Follower {
    /// Keeps one stream to the holder until `shutdown` says true.
    pub(crate) async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut backoff = Backoff::new(SHORTEST_PAUSE, LONGEST_PAUSE);
        loop {
            let holder = *self.holder.borrow_and_update();
            let mut changes = self.holder.clone();
            let ended = tokio::select! {
                ended = self.follow(holder, &mut backoff) => ended,
                changed = changes.changed() => if changed.is_err() { return } else { continue },
                _ = shutdown.wait_for(|end| *end) => return,
            };
            let holder = holder.map(|holder| holder.to_string());
            tracing::warn!(event = "replica", holder, error = %ended, "what sidecars here acknowledge is not counted");
            tokio::select! {
                () = backoff.rest() => {}
                _ = shutdown.wait_for(|end| *end) => return,
            }
        }
    }

    /// One stream, from its opening to its end. Without a holder there is nothing to do.
    async fn follow(&self, holder: Option<SocketAddr>, backoff: &mut Backoff) -> LinkError {
        let Some(address) = holder else { return std::future::pending().await };
        match self.open(address).await {
            Ok((outgoing, incoming)) => {
                backoff.reset();
                tracing::info!(event = "replica", holder = %address, "reports to the holder of the Lease");
                let told = Told::default();
                // Side by side, so that two that have much to say do not wait for each other.
                tokio::select! {
                    ended = self.tell(&told, &outgoing) => ended,
                    ended = self.hear(&told, incoming) => ended,
                }
            }
            Err(error) => error,
        }
    }

    async fn open(
        &self,
        address: SocketAddr,
    ) -> Result<(mpsc::Sender<pb::ReplicaMessage>, Streaming<pb::ReplicaMessage>), LinkError> {
        let (identity, roots) = (self.identity.borrow().clone(), self.roots.borrow().clone());
        let mut client = dial::connect(address, &roots.bundle, &identity, &self.operator).await?;
        let (outgoing, messages) = mpsc::channel(OUTSTANDING);
        let opened = timeout(OPEN, client.share(ReceiverStream::new(messages))).await;
        let opened = opened.map_err(|_| LinkError::TooSlow("open the stream"))?.map_err(Box::new)?;
        Ok((outgoing, opened.into_inner()))
    }

    async fn tell(&self, told: &Told, outgoing: &mpsc::Sender<pb::ReplicaMessage>) -> LinkError {
        let Books { acks, audits, client_keys, keys, delivered, clock, .. } = &self.books;
        let (mut acknowledged, mut reported) = (acks.subscribe(), client_keys.subscribe());
        let (mut published, mut sent) = (keys.clone(), delivered.subscribe());
        let mut counts = Pace::new(audits, COUNTS_EVERY);
        loop {
            acknowledged.mark_unchanged();
            reported.mark_unchanged();
            sent.mark_unchanged();
            let digest = published.borrow_and_update().digest.clone();
            let digest = if delivered.everyone_has(&digest) { digest } else { String::new() };
            let mut news = told.pods(acks.own());
            news.extend(told.keys(client_keys.all()));
            news.extend(told.delivered(digest));
            if counts.is_due(clock.now()) {
                news.extend(told.counts(audits.all()));
            }
            for message in news {
                match timeout(STALLED, outgoing.send(message)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return LinkError::Gone,
                    Err(_) => return LinkError::TooSlow("read what it is told"),
                }
            }
            let changed = tokio::select! {
                changed = acknowledged.changed() => changed,
                changed = reported.changed() => changed,
                changed = published.changed() => changed,
                changed = sent.changed() => changed,
                changed = counts.due(clock) => changed,
            };
            if changed.is_err() {
                return LinkError::Gone;
            }
            sleep(QUIET).await;
        }
    }

    async fn hear(&self, told: &Told, mut incoming: Streaming<pb::ReplicaMessage>) -> LinkError {
        loop {
            match incoming.message().await {
                Ok(Some(pb::ReplicaMessage { kind: Some(Kind::Key(key)) })) => self.books.take_key(&key, told),
                // A newer replica may say what this one does not know.
                Ok(Some(_)) => {}
                Ok(None) => return LinkError::Gone,
                Err(status) => return Box::new(status).into(),
            }
        }
    }
}
