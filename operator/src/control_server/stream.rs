//! One control stream, from its first message to its end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use control::pb::{self, sidecar_message::Kind};
use fapi::UnixTime;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::StreamExt;
use tonic::{Status, Streaming};

use super::Deps;
use super::outbox::{MAX_AUTHORITIES, Now, Outbox};
use super::pace::Pace;
use super::renewal::{self, Soon};
use super::service::{shut_out, unknown_pod};
use crate::acks::AckEvent;
use crate::audits::{Counted, Telling};
use crate::caller::Caller;
use crate::crypto;
use crate::issuer::{Delivery, Published};
use crate::limits::{Allowance, Rate};
use crate::newest::Open;
use crate::pki::{Roots, authority_of};
use crate::revocations::InForce;
use crate::view::View;

/// A sidecar introduces itself at once.
const HELLO: Duration = Duration::from_secs(10);
/// A reader that takes nothing for this long has stopped reading.
const STALLED: Duration = Duration::from_secs(30);
/// For the reason of the end to leave.
const FAREWELL: Duration = Duration::from_secs(1);
/// Messages of a sidecar: it may ask for every authority at once, and answers what it is told.
const MESSAGES: Rate = Rate { burst: 8192, per_second: 64 };
/// A version is a digest.
const MAX_VERSION: usize = 128;

type Outgoing = mpsc::Sender<Result<pb::OperatorMessage, Status>>;

/// The operator's side of one sidecar's stream.
pub(super) struct PodStream {
    deps: Arc<Deps>,
    caller: Arc<Caller>,
    pod_uid: Arc<str>,
    place: Open<Arc<str>>,
    /// What the sidecar may still send.
    budget: Allowance,
    view: watch::Receiver<Arc<View>>,
    keys: watch::Receiver<Arc<Published>>,
    revocations: watch::Receiver<Arc<InForce>>,
    renew: watch::Receiver<UnixTime>,
    roots: watch::Receiver<Arc<Roots>>,
    shutdown: watch::Receiver<bool>,
    outbox: Outbox,
    /// When the sidecar is asked for a new certificate.
    renewal: Soon,
    /// When it is told of revocations that came one after the other.
    revoking: Soon,
    pace: Pace,
    delivery: Delivery,
    /// The key that signed the certificate of the sidecar.
    authority: Option<Vec<u8>>,
    /// Where it is kept what policies in `Audit` have let pass.
    counts: Telling,
}

/// How a stream ends: the sidecar went, or is told why.
enum End {
    Gone,
    Told(Status),
}

/// What a stream waits for.
enum Happened<'a> {
    View,
    Keys,
    Revocations,
    Renew,
    RenewalDue,
    RevocationsDue,
    Roots,
    Message(pb::SidecarMessage),
    /// There is room for one more message.
    Room(mpsc::Permit<'a, Result<pb::OperatorMessage, Status>>),
    Gone,
    End(Status),
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Told(status)
    }
}

impl PodStream {
    pub(super) fn new(
        deps: Arc<Deps>,
        caller: Arc<Caller>,
        place: Open<Arc<str>>,
        shutdown: watch::Receiver<bool>,
    ) -> Self {
        let (pod_uid, budget) = (place.of().clone(), Allowance::new(MESSAGES, deps.clock.now()));
        let (mut renew, mut roots) = (deps.renew.clone(), deps.roots.clone());
        // Roots are sent at the beginning in any case; for these two the certificate is looked at.
        renew.mark_changed();
        roots.mark_changed();
        let authority = authority_of(&caller.leaf);
        let counts = deps.audits.open();
        let (view, keys, delivery) = (deps.view.clone(), deps.keys.clone(), deps.delivered.open());
        let mut revocations = deps.revocations.subscribe();
        // It may have been revoked since it was let in: look once.
        revocations.mark_changed();
        deps.acks.record(&pod_uid, AckEvent::Connected { authority: authority.clone() });
        let (outbox, renewal, revoking, pace) = (Outbox::new(), Soon::default(), Soon::default(), Pace::default());
        Self {
            deps,
            caller,
            pod_uid,
            place,
            budget,
            view,
            keys,
            revocations,
            renew,
            roots,
            shutdown,
            outbox,
            renewal,
            revoking,
            pace,
            delivery,
            authority,
            counts,
        }
    }

    /// Runs until the sidecar, its certificate, its pod or the operator ends.
    pub(super) async fn run(mut self, incoming: Streaming<pb::SidecarMessage>, outgoing: Outgoing) {
        tracing::debug!(event = "stream", outcome = "opened", pod_uid = %self.pod_uid);
        let end = self.serve(incoming, &outgoing).await;
        match end {
            End::Gone => tracing::debug!(event = "stream", outcome = "closed", pod_uid = %self.pod_uid),
            End::Told(status) => {
                tracing::info!(event = "stream", outcome = "ended", pod_uid = %self.pod_uid, reason = status.message());
                let _ = timeout(FAREWELL, outgoing.send(Err(status))).await;
            }
        }
    }

    async fn serve(&mut self, mut incoming: Streaming<pb::SidecarMessage>, outgoing: &Outgoing) -> End {
        let mut hello = pin!(sleep(HELLO));
        let mut expiry = pin!(sleep(self.deps.clock.until(self.caller.peer.not_after)));
        let mut stalled = pin!(sleep(STALLED));
        let mut was_pending = true;
        loop {
            let pending = self.outbox.pending();
            if pending && !was_pending {
                stalled.set(sleep(STALLED));
            }
            was_pending = pending;
            let happened = tokio::select! {
                biased;
                _ = self.shutdown.wait_for(|end| *end) => Happened::End(Status::unavailable("the operator is ending")),
                () = self.place.replaced() => Happened::End(Status::resource_exhausted("newer streams of this pod have taken its place")),
                () = expiry.as_mut() => Happened::End(Status::unauthenticated("the certificate of this stream has ended")),
                changed = self.view.changed() => changed.map_or(Happened::Gone, |()| Happened::View),
                changed = self.keys.changed() => changed.map_or(Happened::Gone, |()| Happened::Keys),
                changed = self.revocations.changed() => changed.map_or(Happened::Gone, |()| Happened::Revocations),
                changed = self.renew.changed() => changed.map_or(Happened::Gone, |()| Happened::Renew),
                () = self.renewal.come() => Happened::RenewalDue,
                () = self.revoking.come() => Happened::RevocationsDue,
                changed = self.roots.changed() => changed.map_or(Happened::Gone, |()| Happened::Roots),
                message = incoming.next() => match message {
                    Some(Ok(message)) => Happened::Message(message),
                    Some(Err(_)) | None => Happened::Gone,
                },
                room = outgoing.reserve(), if pending => room.map_or(Happened::Gone, Happened::Room),
                () = stalled.as_mut(), if pending => Happened::End(Status::deadline_exceeded("messages are not being read")),
                () = hello.as_mut(), if !self.outbox.greeted() =>
                    Happened::End(Status::deadline_exceeded("no hello came; it is the first message of a stream")),
            };
            if matches!(happened, Happened::Room(_)) {
                stalled.set(sleep(STALLED));
            }
            if let Err(end) = self.act(happened) {
                return end;
            }
        }
    }

    fn act(&mut self, happened: Happened<'_>) -> Result<(), End> {
        match happened {
            Happened::View => self.view_changed()?,
            Happened::Keys => self.outbox.keys_changed(),
            Happened::Revocations => self.revocations_changed()?,
            Happened::Renew => self.renew_asked(),
            Happened::RenewalDue => self.outbox.renew(),
            Happened::RevocationsDue => self.outbox.revocations_changed(),
            Happened::Roots => self.roots_changed(),
            Happened::Message(message) => self.receive(message)?,
            Happened::Room(room) => {
                if let Some(message) = self.next() {
                    room.send(Ok(message));
                }
            }
            Happened::Gone => return Err(End::Gone),
            Happened::End(status) => return Err(End::Told(status)),
        }
        Ok(())
    }

    fn view_changed(&mut self) -> Result<(), End> {
        let view = self.view.borrow_and_update().clone();
        if self.caller.pod(&view).is_none() {
            return Err(unknown_pod().into());
        }
        self.outbox.view_changed();
        Ok(())
    }

    fn roots_changed(&mut self) {
        self.outbox.roots_changed();
        let roots = self.roots.borrow_and_update().clone();
        if roots.replace && !roots.signed(self.authority.as_deref()) {
            self.renew_soon();
        }
    }

    fn renew_asked(&mut self) {
        // A certificate of the same second may be older: better renewed once more than not at all.
        if self.caller.peer.issued <= *self.renew.borrow_and_update() {
            self.renew_soon();
        }
    }

    fn renew_soon(&mut self) {
        self.renewal.after(renewal::delay(self.deps.acks.connected(), crypto::random()));
    }

    fn revocations_changed(&mut self) -> Result<(), End> {
        let out = self.revocations.borrow_and_update().shuts_out(&self.caller.peer, self.deps.clock.now());
        if let Some(out) = out {
            return Err(shut_out(out).into());
        }
        match self.pace.wait(Instant::now()) {
            Some(wait) => self.revoking.after(wait),
            None => self.outbox.revocations_changed(),
        }
        Ok(())
    }

    fn receive(&mut self, message: pb::SidecarMessage) -> Result<(), End> {
        self.budget.take(self.deps.clock.now()).map_err(|_| {
            let Rate { burst, per_second } = MESSAGES;
            let limit =
                format!("a stream may send {burst} messages and {per_second} a second after that; connect again");
            Status::resource_exhausted(limit)
        })?;
        match message.kind {
            Some(Kind::Hello(hello)) => self.greet(&hello)?,
            Some(_) if !self.outbox.greeted() => {
                return Err(
                    Status::invalid_argument("the first message of a stream is its hello; connect again").into()
                );
            }
            Some(Kind::Ack(ack)) => self.acknowledge(ack)?,
            Some(Kind::RevocationsApplied(pb::RevocationsApplied { epoch })) => {
                self.deps.acks.record(&self.pod_uid, AckEvent::Revoked { epoch });
            }
            Some(Kind::BundleAck(ack)) => self.acknowledge_bundle(ack)?,
            Some(Kind::Lookup(lookup)) => self.outbox.lookup(&lookup.authority).map_err(|_| {
                let limit = format!("a stream may ask about {MAX_AUTHORITIES} authorities; connect again to go on");
                Status::resource_exhausted(limit)
            })?,
            Some(Kind::WouldRefuse(counted)) => self.count(counted),
            // A newer sidecar may say what this operator does not know.
            None => {}
        }
        Ok(())
    }

    fn greet(&mut self, hello: &pb::Hello) -> Result<(), End> {
        if self.outbox.greeted() {
            return Err(Status::invalid_argument("a stream has one hello, its first message; connect again").into());
        }
        let (known, epoch) = (hello.revocation_epoch, self.revocations.borrow().epoch);
        if known > epoch {
            // This operator's state was put back. The sidecar keeps what it has until something is revoked anew.
            tracing::warn!(pod_uid = %self.pod_uid, known, epoch, "a sidecar has newer revocations");
        }
        self.deps.acks.record(&self.pod_uid, AckEvent::Revoked { epoch: known });
        self.take_key(&hello.assertion_key);
        self.outbox.greet(hello);
        Ok(())
    }

    /// An older sidecar makes none.
    fn take_key(&self, jwk: &[u8]) {
        let view = self.view.borrow();
        let Some(pod) = self.caller.pod(&view).filter(|_| !jwk.is_empty()) else { return };
        if let Err(reason) = self.deps.client_keys.report(&view, pod, jwk, self.deps.clock.now()) {
            tracing::warn!(pod_uid = %self.pod_uid, reason, "the key of a sidecar is not published; its assertions fail");
        }
    }

    fn acknowledge(&self, ack: pb::Ack) -> Result<(), End> {
        let pb::Ack { version, nack_reason } = ack;
        if version.is_empty() || version.len() > MAX_VERSION {
            return Err(Status::invalid_argument("an acknowledgement names the version it is for").into());
        }
        let event = if nack_reason.is_empty() {
            AckEvent::Acked { version }
        } else {
            let reason = printable(&nack_reason);
            tracing::warn!(event = "nack", pod_uid = %self.pod_uid, version, reason);
            AckEvent::Nacked { version, reason }
        };
        self.deps.acks.record(&self.pod_uid, event);
        Ok(())
    }

    fn acknowledge_bundle(&self, ack: pb::BundleAck) -> Result<(), End> {
        let pb::BundleAck { digest, nack_reason } = ack;
        if digest.is_empty() || digest.len() > MAX_VERSION {
            return Err(Status::invalid_argument("an acknowledgement names the bundle it is for").into());
        }
        let event = if nack_reason.is_empty() {
            AckEvent::Trusted { bundle: digest }
        } else {
            AckEvent::Distrusted { bundle: digest, reason: printable(&nack_reason) }
        };
        self.deps.acks.record(&self.pod_uid, event);
        Ok(())
    }

    /// A pod may tell only of what governs it. Counts are for people, so a stream does not end with those that are not taken.
    fn count(&mut self, counted: pb::WouldRefuse) {
        let view = self.view.borrow();
        // That there is nothing any more is told of policies that are gone, too.
        let governs = counted.callers.is_empty() || {
            let mut plans = self.caller.pod(&view).into_iter().flat_map(|pod| view.index().plans_of(pod));
            plans.any(|(_, plan)| plan.governor.is_policy(&counted.policy))
        };
        let read = Counted::read(counted, view.trust_domain(), self.deps.clock.now()).ok();
        if !read.is_some_and(|read| governs && self.counts.put(&self.pod_uid, read)) {
            tracing::warn!(event = "audit", pod_uid = %self.pod_uid, "counts that the pod cannot have are not taken");
        }
    }

    fn next(&mut self) -> Option<pb::OperatorMessage> {
        let (view, keys) = (self.view.borrow().clone(), self.keys.borrow().clone());
        let revocations = self.revocations.borrow().clone();
        let roots = self.roots.borrow().clone();
        let Deps { issuer, behind, .. } = &*self.deps;
        let (pod_uid, view, keys, revocations, roots) = (&*self.pod_uid, &*view, &*keys, &*revocations, &*roots);
        let now = Now { pod_uid, view, keys, revocations, issuer, roots, behind };
        let message = self.outbox.next(&now)?;
        match &message.kind {
            Some(pb::operator_message::Kind::KeySet(_)) => {
                self.outbox.keys_sent().into_iter().for_each(|digest| self.delivery.sent(digest));
            }
            Some(pb::operator_message::Kind::Revocations(_)) => self.pace.told(Instant::now()),
            _ => {}
        }
        Some(message)
    }
}

/// A text of a sidecar, on one line.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

impl Drop for PodStream {
    fn drop(&mut self) {
        self.deps.acks.record(&self.pod_uid, AckEvent::Disconnected);
    }
}
