//! What became of every object: in a folder `STATE/status/<Kind>/<namespace>/<name>.yaml` and `STATE/status/problems.yaml`, in
//! a cluster the objects' own status.
//!
//! The documents are pure values of the view and of what the sidecars acknowledged; this file only decides when they are
//! made. They are written on change only.

mod client;
mod cluster;
mod condition;
mod documents;
mod folder;
mod issuer;
mod mesh;
mod pods;
mod policy;
mod revocation;
#[cfg(test)]
mod tests;
mod would_refuse;

use std::sync::Arc;
use std::time::Duration;

use control::MeshIssuer;
use tokio::sync::watch;
use tokio::sync::watch::error::RecvError;
use tokio::time::{Instant, sleep, sleep_until};

pub(crate) use self::cluster::StatusObjects;
pub(crate) use self::condition::timestamp;
use self::documents::{Documents, Facts, documents, revocations};
pub(crate) use self::folder::StatusFolder;
use self::pods::Pods;
use self::revocation::Since;
use crate::acks::Acks;
use crate::audits::{Audits, Counts, Pace};
use crate::clock::Clock;
use crate::files::FileError;
use crate::kubernetes::Leadership;
use crate::model::Pod;
use crate::revocations::InForce;
use crate::rotation::ToldAnchors;
use crate::source::Desired;
use crate::view::View;

/// What comes together is told together.
const QUIET: Duration = Duration::from_millis(50);
/// A disk that is full is tried again; a file that somebody removed comes back.
const AGAIN: Duration = Duration::from_secs(5);
/// Objects tell of themselves; that a Revocation has ended, time alone tells.
const LOOK: Duration = Duration::from_secs(30);

/// With acknowledgements alone no status changes more often: what sidecars say is theirs to say, and writes are ours to pay.
const ACKNOWLEDGED_EVERY: Duration = Duration::from_secs(1);

/// Seconds for which counts stay as they are: with them alone no status changes more often.
const COUNTS_EVERY: u64 = 60;

/// Writes the status of every object.
pub(crate) struct Reporter {
    issuer: MeshIssuer,
    acks: Arc<Acks>,
    audits: Arc<Audits>,
    in_force: watch::Receiver<Arc<InForce>>,
    anchors: ToldAnchors,
    clock: Clock,
    place: Place,
    pods: Pods,
    /// What policies in `Audit` have let pass, as it was when it was looked at last.
    counts: Counts,
    pace: Pace,
    since: Since,
    last: Documents,
}

/// Where statuses are written.
pub(crate) enum Place {
    /// Files.
    Folder(StatusFolder),
    /// The objects themselves.
    Objects(StatusObjects),
}

impl Reporter {
    /// A reporter into this place; what stands there is known to it.
    pub(crate) fn new(
        place: Place,
        issuer: &MeshIssuer,
        (acks, audits, in_force, anchors): (Arc<Acks>, Arc<Audits>, watch::Receiver<Arc<InForce>>, ToldAnchors),
        clock: Clock,
    ) -> Self {
        let last = match &place {
            Place::Folder(folder) => folder.load(),
            Place::Objects(_) => Documents::new(),
        };
        let (issuer, pods, since) = (issuer.clone(), Pods::default(), Since::default());
        let (counts, pace) = (Counts::new(), Pace::new(&audits, COUNTS_EVERY));
        Self { issuer, acks, audits, in_force, anchors, clock, place, pods, counts, pace, since, last }
    }

    /// Reports until `shutdown` says true. What fails is logged and tried again.
    pub(crate) async fn run(
        mut self,
        mut view: watch::Receiver<Arc<View>>,
        mut desired: watch::Receiver<Arc<Desired>>,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let (mut acks, mut in_force, mut anchors) =
            (self.acks.subscribe(), self.in_force.clone(), self.anchors.clone());
        let mut leadership = self.leadership();
        let mut acknowledged = Instant::now();
        loop {
            let (now, wanted) = (view.borrow_and_update().clone(), desired.borrow_and_update().clone());
            let heard = wanted.statuses.clone();
            acks.mark_unchanged();
            in_force.mark_unchanged();
            anchors.mark_unchanged();
            // Compiling and writing to disk would hold up what shares this thread.
            let step = tokio::task::spawn_blocking(move || {
                let outcome = self.step(&now, &wanted);
                (self, outcome)
            });
            let Ok((back, outcome)) = step.await else {
                return tracing::error!("statuses are no longer written; restart the operator");
            };
            self = back;
            if let Err(error) = outcome {
                tracing::error!(%error, "cannot write a status; it is tried again");
            }
            // A file that somebody removes does not tell; an object does.
            let look_again = match &mut self.place {
                Place::Folder(_) => AGAIN,
                Place::Objects(objects) => match objects.write(&self.last, &heard).await {
                    true => AGAIN,
                    false => LOOK,
                },
            };
            tokio::select! {
                changed = view.changed() => if changed.is_err() { return },
                changed = desired.changed() => if changed.is_err() { return },
                changed = after(acknowledged, &mut acks) => match changed {
                    Ok(()) => acknowledged = Instant::now() + QUIET + ACKNOWLEDGED_EVERY,
                    Err(_) => return,
                },
                changed = in_force.changed() => if changed.is_err() { return },
                changed = self.pace.due(&self.clock) => if changed.is_err() { return },
                changed = anchors.changed() => if changed.is_err() { return },
                () = leadership.changed() => {}
                () = sleep(look_again) => {}
                _ = shutdown.wait_for(|end| *end) => return,
            }
            tokio::select! {
                () = sleep(QUIET) => {}
                _ = shutdown.wait_for(|end| *end) => return,
            }
        }
    }

    fn leadership(&self) -> Leadership {
        match &self.place {
            Place::Folder(_) => Leadership::alone(),
            Place::Objects(objects) => objects.leadership(),
        }
    }

    /// Makes the documents of the view, and brings the folder in line with them.
    fn step(&mut self, view: &View, desired: &Desired) -> Result<(), FileError> {
        match &mut self.place {
            Place::Folder(folder) => folder.write_problems(&desired.problems)?,
            // What others have written there since is what times are kept from.
            Place::Objects(objects) => self.last = objects.known(&desired.statuses),
        }
        if !view.synced() {
            return Ok(());
        }
        let now = self.clock.now();
        let in_force = self.in_force.borrow().clone();
        let is_revoked = |pod: &Pod| in_force.revokes(view, pod, now, now);
        self.pods = Pods::new(view, &self.issuer, |uid| self.acks.of(uid), is_revoked, &self.pods, now);
        if self.pace.is_due(now) {
            self.counts = self.audits.all();
        }
        let anchors = self.anchors.borrow().clone();
        let (pods, counts) = (&self.pods, &self.counts);
        let facts = Facts { view, pods, counts, issuer: &self.issuer, anchors: &anchors, now };
        let mut new = documents(&facts, &self.last);
        self.since.look(&desired.revocations, &in_force);
        new.extend(revocations(&desired.revocations, &self.since, &self.pods, now, &self.last));
        self.last = new;
        match &mut self.place {
            Place::Folder(folder) => folder.write(&self.last),
            Place::Objects(_) => Ok(()),
        }
    }
}

/// Returns when something has changed, but not before this moment.
async fn after(moment: Instant, changes: &mut watch::Receiver<()>) -> Result<(), RecvError> {
    sleep_until(moment).await;
    changes.changed().await
}

/// The status of a FapiClient, with nothing acknowledged.
#[cfg(test)]
pub(crate) fn client_of(view: &View, key: &crate::model::Key) -> crds::client::FapiClientStatus {
    let issuer = crate::issuer::names("https://127.0.0.1:1");
    let (pods, counts) = (&Pods::default(), &Counts::new());
    let facts = Facts { view, pods, counts, issuer: &issuer, anchors: &Default::default(), now: crate::testing::NOW };
    client::status(&facts, key, view.index().model().clients.get(key).unwrap_or_else(|| panic!("no FapiClient {key}")))
}
