//! Rotating the root of the mesh: when the next step is taken, and who is waited for.
//!
//! What each step means stands in [`Step`]; keys and steps are kept by `pki`. Whoever leads takes the steps; other operators
//! follow what is kept and report their sidecars, as `replicas` does. What nobody has told the leader has not happened.

mod anchors;
mod judge;
mod place;
mod progress;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use fapi::UnixTime;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::sync::watch;

use self::judge::{Facts, Heard, Judgement, LONGEST_CERTIFICATE, Outdated, Sidecar, judge};
use crate::acks::Acks;
use crate::clock::Clock;
use crate::kubernetes::{Changes, Leadership};
use crate::model::Pod;
use crate::pki::{Authority, PkiError, Rotation};
use crate::revocations::InForce;
use crate::source::Desired;
use crate::status::timestamp;
use crate::view::View;

pub(crate) use self::anchors::{Anchors, Told as ToldAnchors};
pub(crate) use self::place::Place;
pub use self::place::{PROGRESS, REQUEST, is_name};
pub use self::progress::{Oldest, Progress, Refused};
pub use crate::pki::Step;

/// How long after its end others are still told how far the sidecars are.
const EPILOGUE: u64 = 600;

/// Takes the steps, or follows whoever does.
pub(crate) struct Rotator {
    authority: Arc<Authority>,
    place: Place,
    acks: Arc<Acks>,
    revocations: watch::Receiver<Arc<InForce>>,
    clock: Clock,
    started: UnixTime,
    /// Since when each sidecar is waited for, by the uid of its pod.
    waiting: HashMap<String, UnixTime>,
    /// The rotation that they are waited for in.
    of: Option<Rotation>,
    /// What cannot be done for the last that was asked.
    refused: Option<Refused>,
    /// What statuses and metrics say.
    anchors: watch::Sender<Arc<Anchors>>,
}

impl Rotator {
    /// A rotator of this authority's root, asked and told of at this place. Sidecars that are revoked are not waited for.
    pub(crate) fn new(
        authority: Arc<Authority>,
        place: Place,
        acks: Arc<Acks>,
        revocations: watch::Receiver<Arc<InForce>>,
        clock: Clock,
    ) -> Self {
        let started = clock.now();
        let anchors = watch::Sender::new(Arc::new(Anchors::of(&authority, None)));
        let (waiting, of, refused) = (HashMap::new(), None, None);
        Self { authority, place, acks, revocations, clock, started, waiting, of, refused, anchors }
    }

    /// What is told of the roots, now and whenever that changes.
    pub(crate) fn anchors(&self) -> ToldAnchors {
        self.anchors.subscribe()
    }

    /// Goes on until `shutdown` says true. What fails is logged and tried again; until then nothing changes.
    pub(crate) async fn run(
        mut self,
        (view, desired): (watch::Receiver<Arc<View>>, watch::Receiver<Arc<Desired>>),
        mut leadership: Leadership,
        mut changes: Changes,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let mut led = false;
        loop {
            let (now, wanted, leads) = (view.borrow().clone(), desired.borrow().clone(), leadership.holds());
            let step = tokio::task::spawn_blocking(move || {
                let outcome = self.step((leads, led), &now, &wanted);
                (self, outcome)
            });
            let Ok((back, outcome)) = step.await else {
                return tracing::error!("the root is no longer rotated; restart the operator");
            };
            self = back;
            led = leads && outcome.is_ok();
            // What is lost was told when that was found.
            if let Err(error) = outcome
                && self.authority.lost().is_none()
            {
                tracing::error!(event = "rotation", %error, "cannot go on with the root; it is tried again");
            }
            let goes_on = self.authority.rotation().is_some_and(|rotation| rotation.runs());
            tokio::select! {
                () = tokio::time::sleep(self.place.pause(leads, goes_on)) => {}
                () = changes.next() => {}
                () = leadership.changed() => {}
                _ = shutdown.wait_for(|end| *end) => return,
            }
        }
    }

    /// One look. With an authority that is lost nothing is done but to tell of it.
    fn step(&mut self, (leads, led): (bool, bool), view: &View, desired: &Desired) -> Result<(), PkiError> {
        if let Err(error) = self.authority.look() {
            if self.authority.lost().is_some() {
                self.tell_of_anchors(None);
            }
            return Err(error);
        }
        if leads { self.lead(led, view, desired) } else { self.follow() }
    }

    /// Does what is asked and what is due, and tells how far that is.
    fn lead(&mut self, led: bool, view: &View, desired: &Desired) -> Result<(), PkiError> {
        let progress = self.go_on(led, view, desired)?;
        self.tell_of_anchors(progress);
        Ok(())
    }

    fn go_on(&mut self, led: bool, view: &View, desired: &Desired) -> Result<Option<Progress>, PkiError> {
        if !led {
            // Whoever led before may have taken a step last, and not have come to its end.
            self.authority.follow(self.clock.now())?;
            self.authority.forget_removed()?;
        }
        self.take_request()?;
        let Some(rotation) = self.authority.rotation() else { return Ok(None) };
        if rotation.step == Step::Begun {
            self.begin(&rotation.name)?;
            return Ok(None);
        }
        let now = self.clock.now();
        // Nobody needs to be told any more.
        if !rotation.runs() && now > rotation.since().plus(EPILOGUE) {
            return Ok(None);
        }
        if !view.synced() {
            return Ok(None);
        }
        self.authority.keep_bundle()?;
        let judgement = self.judge(&rotation, view, desired);
        if judgement.is_due {
            for namespace in &judgement.left_behind {
                tracing::warn!(
                    event = "rotation",
                    namespace,
                    "it does not take the trust bundle and has no sidecar, so it is not waited for; sidecars that start there \
                     get in when it does: the lines of the event trust_bundle say what to do"
                );
            }
            self.authority.advance_rotation(&rotation, now)?;
            self.authority.forget_removed()?;
            tell(&self.authority);
            let Some(next) = self.authority.rotation() else { return Ok(None) };
            let judgement = self.judge(&next, view, desired);
            return self.show(&next, &judgement).map(Some);
        }
        self.show(&rotation, &judgement).map(Some)
    }

    /// Nobody is told what he knows.
    fn tell_of_anchors(&self, progress: Option<Progress>) {
        let now = Anchors::of(&self.authority, progress);
        self.anchors.send_if_modified(|told| {
            let is_new = **told != now;
            if is_new {
                *told = Arc::new(now);
            }
            is_new
        });
    }

    /// Follows whoever leads.
    fn follow(&mut self) -> Result<(), PkiError> {
        let before = self.authority.rotation();
        self.authority.follow(self.clock.now())?;
        if self.authority.rotation() != before {
            tell(&self.authority);
        }
        self.tell_of_anchors(None);
        Ok(())
    }

    /// Begins what is asked for, or says why not.
    fn take_request(&mut self) -> Result<(), PkiError> {
        let Some(name) = self.place.request()? else { return Ok(()) };
        let known = self.authority.rotation();
        let is_known = known.as_ref().is_some_and(|known| known.name == name);
        let refusal = match &known {
            _ if is_known => None,
            _ if !is_name(&name) => Some("a name has 1 to 63 lower case letters, digits and -".to_owned()),
            Some(known) if known.runs() => Some(format!("the rotation {} runs; wait for its end", known.name)),
            _ => None,
        };
        self.refused = refusal.map(|why| Refused { name: name.chars().take(63).collect(), why });
        match &self.refused {
            Some(Refused { name, why }) => {
                tracing::warn!(event = "rotation", name, why, "another rotation of the root is not begun");
            }
            None if is_known => {}
            None => self.begin(&name)?,
        }
        // Only now: a request that was not taken is found again.
        Ok(self.place.remove_request()?)
    }

    fn begin(&mut self, name: &str) -> Result<(), PkiError> {
        self.authority.begin_rotation(name, self.clock.now())?;
        tell(&self.authority);
        Ok(())
    }

    fn judge(&mut self, rotation: &Rotation, view: &View, desired: &Desired) -> Judgement {
        let now = self.clock.now();
        if self.of.as_ref() != Some(rotation) {
            (self.of, self.waiting) = (Some(rotation.clone()), HashMap::new());
        }
        let roots = self.authority.roots().borrow().clone();
        let in_cluster = self.place.is_cluster();
        let revoked = self.revocations.borrow().clone();
        // Whoever is revoked was cut off already, with whatever it has or gets; as long as a certificate of before may live, so
        // that none comes back by one of a root that is gone.
        let until = now.plus(LONGEST_CERTIFICATE.as_secs());
        let shut_out = |pod: &Pod| revoked.revokes(view, pod, now, until);
        let meshed: Vec<&Pod> = view.pods().filter(|pod| pod.meshed && !shut_out(pod)).collect();
        let sidecars = meshed.iter().filter(|pod| pod.node.is_some() || !in_cluster);
        let sidecars = sidecars.map(|pod| {
            let heard = Heard::of(self.acks.of(&pod.uid), &roots);
            let since = self.waiting.get(&pod.uid).copied().unwrap_or(now);
            (pod.uid.clone(), Sidecar { name: format!("{}/{}", pod.namespace, pod.name), heard, since })
        });
        let outdated = desired.outdated(&roots.pem).map(|namespace| Outdated {
            namespace: namespace.to_string(),
            in_use: meshed.iter().any(|pod| *pod.namespace == **namespace),
        });
        let facts = Facts {
            sidecars: sidecars.collect(),
            outdated: if in_cluster { outdated.collect() } else { Vec::new() },
            started: (!in_cluster).then_some(self.started),
            now,
        };
        let judgement = judge(rotation, &facts, &self.place.pace());
        self.waiting = judgement.waiting.iter().map(|waits| (waits.uid.clone(), waits.since)).collect();
        judgement
    }

    fn show(&mut self, rotation: &Rotation, judgement: &Judgement) -> Result<Progress, PkiError> {
        let oldest = judgement.waiting.first();
        let progress = Progress {
            name: rotation.name.clone(),
            step: rotation.step,
            since: timestamp(rotation.since()).to_string(),
            sidecars: judgement.sidecars,
            followed: judgement.sidecars - judgement.waiting.len(),
            oldest: oldest.map(|waits| Oldest {
                pod: waits.name.clone(),
                since: Time(timestamp(waits.since)),
                why: waits.why.clone(),
            }),
            waits_for: judgement.waits_for(),
            refused: self.refused.clone(),
        };
        self.place.show(&progress)?;
        Ok(progress)
    }
}

/// One line of the log for each step.
fn tell(authority: &Authority) {
    if let Some(Rotation { name, step, .. }) = authority.rotation() {
        tracing::info!(event = "rotation", name, step = ?step, "the root is rotated");
    }
}
