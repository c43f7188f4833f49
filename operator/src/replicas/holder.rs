//! The side of the replica that holds the Lease: it hears what the others know, and tells them the keys of all sidecars.

use std::sync::Arc;
use std::time::Duration;

use control::pb::{self, replica_message::Kind};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tonic::{Status, Streaming};

use super::{Books, Told, news};
use crate::acks::Reported;
use crate::audits::Telling;
use crate::caller::Caller;
use crate::clock::Clock;
use crate::issuer::Delivery;
use crate::kubernetes::Leadership;
use crate::revocations::InForce;

/// A reader that takes nothing for this long has stopped reading.
const STALLED: Duration = Duration::from_secs(30);
/// For the reason of the end to leave.
const FAREWELL: Duration = Duration::from_secs(1);
/// What comes together is told together.
const QUIET: Duration = Duration::from_millis(100);

type Outgoing = mpsc::Sender<Result<pb::ReplicaMessage, Status>>;

/// What a stream ends with.
pub(crate) struct Ends {
    /// Whose certificate the other side shows.
    pub(crate) caller: Arc<Caller>,
    pub(crate) clock: Clock,
    pub(crate) revocations: watch::Receiver<Arc<InForce>>,
    pub(crate) leadership: Leadership,
    pub(crate) shutdown: watch::Receiver<bool>,
}

/// The answer to a replica that came to the wrong one.
pub(crate) fn not_holder() -> Status {
    Status::failed_precondition("this replica does not hold the Lease")
}

/// Serves one replica until it goes, or what it came for ends. What it said counts no more then.
pub(crate) async fn serve(books: Books, ends: Ends, incoming: Streaming<pb::ReplicaMessage>, outgoing: Outgoing) {
    let (told, reported, delivery) = (Told::default(), books.acks.open(), books.delivered.open());
    let mut counts = books.audits.open();
    tracing::info!(event = "replica", replicas = books.acks.replicas(), "another replica reports");
    let end = tokio::select! {
        biased;
        status = end(ends) => Some(status),
        status = hear(&books, &told, (&reported, &mut counts, &delivery), incoming) => status,
        () = tell(&books, &told, &outgoing) => None,
    };
    drop((reported, counts, delivery));
    let reason = end.as_ref().map_or("it went", |status| status.message());
    tracing::info!(event = "replica", replicas = books.acks.replicas(), reason, "a replica reports no more");
    if let Some(status) = end {
        let _ = timeout(FAREWELL, outgoing.send(Err(status))).await;
    }
}

/// Returns when the stream must end.
async fn end(ends: Ends) -> Status {
    let Ends { caller, clock, mut revocations, mut leadership, mut shutdown } = ends;
    let lost = async {
        while leadership.holds() {
            // It also runs out without a word: whoever does not renew it has nobody to say so.
            tokio::select! {
                () = leadership.changed() => {}
                () = sleep(Duration::from_secs(1)) => {}
            }
        }
    };
    let is_revoked = |in_force: &Arc<InForce>| in_force.shuts_out(&caller.peer, clock.now()).is_some();
    tokio::select! {
        () = lost => not_holder(),
        Ok(_) = revocations.wait_for(is_revoked) => Status::permission_denied("the certificate of this stream is revoked"),
        () = sleep(clock.until(caller.peer.not_after)) => Status::unauthenticated("the certificate of this stream has ended"),
        _ = shutdown.wait_for(|end| *end) => Status::unavailable("the operator is ending"),
    }
}

/// Hears until the other side goes (`None`), or says what it may not.
async fn hear(
    books: &Books,
    told: &Told,
    (reported, counts, delivery): (&Reported, &mut Telling, &Delivery),
    mut incoming: Streaming<pb::ReplicaMessage>,
) -> Option<Status> {
    while let Ok(Some(message)) = incoming.message().await {
        match message.kind {
            Some(Kind::Pod(report)) => {
                let uid = report.pod_uid.clone();
                if !reported.put(&uid, news::acks(report)) {
                    return Some(Status::resource_exhausted("no replica has so many pods"));
                }
            }
            Some(Kind::Key(key)) => books.take_key(&key, told),
            Some(Kind::Delivered(pb::KeysDelivered { digest })) => delivery.sent(&digest),
            Some(Kind::WouldRefuse(told)) => {
                let pb::PodWouldRefuse { pod_uid, counted } = told;
                let read = books.read_counts(counted.unwrap_or_default());
                if !read.is_some_and(|read| counts.put(&pod_uid, read)) {
                    tracing::warn!(event = "replica", pod_uid, "counts of a pod are not taken");
                }
            }
            // A newer replica may say what this one does not know.
            None => {}
        }
    }
    None
}

/// Tells keys until the other side does not read any more.
async fn tell(books: &Books, told: &Told, outgoing: &Outgoing) {
    let mut reported = books.client_keys.subscribe();
    loop {
        reported.mark_unchanged();
        for message in told.keys(books.client_keys.all()) {
            if !matches!(timeout(STALLED, outgoing.send(Ok(message))).await, Ok(Ok(()))) {
                return;
            }
        }
        if reported.changed().await.is_err() {
            return;
        }
        sleep(QUIET).await;
    }
}
