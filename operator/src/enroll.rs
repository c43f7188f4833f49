//! Enrolment: a workload token and a public key become a certificate.
//!
//! Who the caller is comes from the token alone ([`TokenReview`], in a cluster the API server's), that the pod
//! exists from the view, and everything in the certificate but the key from those two. A renewal also shows the
//! certificate it replaces, and all three must mean the same pod.
//!
//! A review is a question to somebody else, and whoever reaches the operator may bring a token. So one that cannot be good is
//! refused by its looks ([`shape`]), and the rest waits for a place, of which renewals have their own ([`room`]).

mod cluster;
mod directory;
mod refusal;
mod review;
mod room;
mod shape;
#[cfg(test)]
mod tests;
mod token_files;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fapi::SpiffeId;
use tokio::sync::watch;

use crate::caller::Caller;
use crate::clock::Clock;
use crate::events::{About, Events, Reason};
use crate::model::Pod;
use crate::pki::{Authority, Issued, PublicKey, public_key_info};
use crate::revocations::{Revocations, ShutOut};
use crate::view::View;

pub(crate) use cluster::ClusterTokens;
pub(crate) use directory::{DirectoryTokens, TokenKeyError};
pub(crate) use refusal::EnrollRefusal;
pub(crate) use review::{Reviewed, TokenRefused, TokenReview};
pub(crate) use token_files::TokenFiles;

use room::Room;

/// A review is one call to an API server nearby.
const REVIEW: Duration = Duration::from_secs(5);

/// Gives pods their certificates.
pub(crate) struct Enroller {
    authority: Arc<Authority>,
    review: Arc<dyn TokenReview>,
    view: watch::Receiver<Arc<View>>,
    revocations: Arc<Revocations>,
    clock: Clock,
    /// The operator's own identity, which no enrolment issues.
    reserved: SpiffeId,
    room: Room,
    /// Pods that have a certificate from this process.
    enrolled: Mutex<HashSet<String>>,
    events: Events,
}

/// A pod, and what its token says of it.
struct Found {
    view: Arc<View>,
    reviewed: Reviewed,
    pod: Pod,
}

/// What a sidecar gets.
pub(crate) struct Enrolled {
    /// The certificate and its end.
    pub(crate) issued: Issued,
    /// The roots of the mesh, PEM.
    pub(crate) bundle_pem: Arc<str>,
}

impl Enroller {
    /// An enroller that never issues `reserved`.
    pub(crate) fn new(
        authority: Arc<Authority>,
        review: Arc<dyn TokenReview>,
        view: watch::Receiver<Arc<View>>,
        revocations: Arc<Revocations>,
        clock: Clock,
        reserved: SpiffeId,
    ) -> Self {
        let (room, enrolled, events) = (Room::new(), Mutex::default(), Events::none());
        Self { authority, review, view, revocations, clock, reserved, room, enrolled, events }
    }

    /// The same, with trouble told as Events of the pods.
    pub(crate) fn telling(self, events: Events) -> Self {
        Self { events, ..self }
    }

    /// Enrols the pod that `token` names, or renews the certificate of `caller`. Every outcome is logged.
    pub(crate) async fn enroll(
        &self,
        token: &str,
        csr_der: &[u8],
        caller: Option<&Caller>,
    ) -> Result<Enrolled, EnrollRefusal> {
        let kind = if caller.is_some() { "renewal" } else { "first" };
        let found = self.find(token, caller).await;
        let issued = found.and_then(|found| match self.issue(&found, csr_der, caller) {
            Ok(issued) => Ok((found.pod, issued)),
            Err(refusal) => {
                self.tell(&found.pod, kind, &refusal);
                Err(refusal)
            }
        });
        match issued {
            Ok((pod, issued)) => {
                self.record(kind, &pod, &issued);
                Ok(Enrolled { issued, bundle_pem: self.authority.bundle_pem() })
            }
            Err(refusal) => {
                if let EnrollRefusal::Authority(error) = &refusal {
                    tracing::error!(event = "pki", %error, "a certificate cannot be made");
                }
                let reason = refusal.id();
                let caller = caller.map_or("", |caller| caller.peer.spiffe_id.as_str());
                tracing::warn!(event = "enrolment", outcome = "refused", kind, reason, caller, detail = %refusal);
                Err(refusal)
            }
        }
    }

    /// The pod that a token means, whether or not it may have what it asks for.
    async fn find(&self, token: &str, caller: Option<&Caller>) -> Result<Found, EnrollRefusal> {
        let view = self.view.borrow().clone();
        if !view.synced() {
            return Err(EnrollRefusal::NotReady);
        }
        shape::check(token, self.clock.now()).map_err(EnrollRefusal::Token)?;
        caller.map_or(Ok(()), |caller| self.check_certificate(caller))?;
        // A certificate outlives its pod, and then keeps no place.
        let renews =
            caller.filter(|caller| caller.pod(&view).is_some()).and_then(|caller| caller.peer.pod_uid.as_ref());
        self.room.within(renews, self.review(token)).await
    }

    /// Has the token reviewed, and looks for its pod.
    async fn review(&self, token: &str) -> Result<Found, EnrollRefusal> {
        let reviewed = tokio::time::timeout(REVIEW, self.review.review(token))
            .await
            .map_err(|_| EnrollRefusal::Token(TokenRefused::Unavailable))?
            .map_err(EnrollRefusal::Token)?;
        let view = self.view.borrow().clone();
        let pod = self.pod(&view, &reviewed).await?;
        Ok(Found { view, reviewed, pod })
    }

    fn issue(&self, found: &Found, csr_der: &[u8], caller: Option<&Caller>) -> Result<Issued, EnrollRefusal> {
        let Found { view, reviewed, pod } = found;
        if pod.terminating && caller.is_none() {
            return Err(EnrollRefusal::Terminating);
        }
        let id = self.identity_of(pod, reviewed)?;
        self.check_revoked(pod, &id)?;
        let key = PublicKey::from_csr(csr_der)?;
        self.check_key(&key, caller)?;
        if let Some(caller) = caller {
            self.check_renewal(caller, pod, &id)?;
        }
        let lifetime = view.lifetimes().certificate;
        Ok(self.authority.issue_pod(&id, &pod.uid, &key, lifetime, self.clock.now())?)
    }

    /// A pod that exists is told why it gets nothing. Whose token nobody believes has no place to be told.
    fn tell(&self, pod: &Pod, kind: &str, refusal: &EnrollRefusal) {
        let reason = match refusal {
            EnrollRefusal::Authority(_) | EnrollRefusal::AuthorityLost => Reason::IssuingFailed,
            _ => Reason::EnrolmentRefused,
        };
        let what = if kind == "first" { "no first certificate" } else { "no new certificate" };
        self.events.tell(About::pod(pod), reason, format!("{what}: {refusal} ({})", refusal.id()));
    }

    /// The pod that a reviewed token means: as the view has it, or, for one that is too new, as it is now.
    async fn pod(&self, view: &View, reviewed: &Reviewed) -> Result<Pod, EnrollRefusal> {
        // A token names the node once the pod has one; the view may not have heard of that yet.
        let is_known = |pod: &&Pod| pod.node.is_some() || reviewed.node.is_none();
        if let Some(pod) = view.pod(&reviewed.pod_uid).filter(is_known) {
            return Ok(pod.clone());
        }
        let live = tokio::time::timeout(REVIEW, self.review.look_for(reviewed)).await;
        let live = live.map_err(|_| TokenRefused::Unavailable).and_then(|live| live).map_err(EnrollRefusal::Token)?;
        live.ok_or(EnrollRefusal::PodUnknown)
    }

    /// The identity of a pod, if it is the one that the token means, and may have one.
    fn identity_of(&self, pod: &Pod, reviewed: &Reviewed) -> Result<SpiffeId, EnrollRefusal> {
        let same = pod.uid == reviewed.pod_uid
            && pod.namespace == reviewed.namespace
            && pod.name == reviewed.pod_name
            && pod.service_account == reviewed.service_account
            && (reviewed.node.is_none() || pod.node == reviewed.node);
        if !same {
            return Err(EnrollRefusal::PodMismatch);
        }
        if !pod.meshed {
            return Err(EnrollRefusal::NotMeshed);
        }
        let id = SpiffeId::new(self.authority.trust_domain(), &pod.namespace, &pod.service_account)
            .map_err(|_| EnrollRefusal::PodMismatch)?;
        if id == self.reserved {
            return Err(EnrollRefusal::Reserved);
        }
        Ok(id)
    }

    /// A certificate that is revoked from its first moment is not issued.
    fn check_revoked(&self, pod: &Pod, id: &SpiffeId) -> Result<(), EnrollRefusal> {
        let now = self.clock.now();
        let revoked = self.revocations.in_force().set.hit_workload(id, Some(&pod.uid), now, now);
        if revoked { Err(EnrollRefusal::Revoked) } else { Ok(()) }
    }

    /// A key is not that of an authority, nor that of the certificate that is renewed. Keys of other certificates are not remembered:
    /// tokens and connections are bound to certificates, so whoever has a key twice has gained nothing by it.
    fn check_key(&self, key: &PublicKey, caller: Option<&Caller>) -> Result<(), EnrollRefusal> {
        let used = match caller {
            Some(caller) => key.is(&public_key_info(&caller.leaf).map_err(|_| EnrollRefusal::OtherPod)?),
            None => false,
        };
        if used || self.authority.owns(key) { Err(EnrollRefusal::KeyReused) } else { Ok(()) }
    }

    /// The certificate shown must be of the same pod as the token, and still count.
    fn check_renewal(&self, caller: &Caller, pod: &Pod, id: &SpiffeId) -> Result<(), EnrollRefusal> {
        let peer = &caller.peer;
        if peer.pod_uid.as_deref() != Some(&pod.uid) || peer.spiffe_id != *id {
            return Err(EnrollRefusal::OtherPod);
        }
        // Again: a review takes time.
        self.check_certificate(caller)
    }

    /// The certificate shown must be current and not revoked.
    fn check_certificate(&self, caller: &Caller) -> Result<(), EnrollRefusal> {
        let peer = &caller.peer;
        if peer.not_after <= self.clock.now() {
            return Err(EnrollRefusal::CertificateEnded);
        }
        match self.revocations.in_force().shuts_out(peer, self.clock.now()) {
            Some(ShutOut::Workload) => Err(EnrollRefusal::Revoked),
            Some(ShutOut::Certificate) => Err(EnrollRefusal::CertificateRevoked),
            None => Ok(()),
        }
    }

    fn record(&self, kind: &str, pod: &Pod, issued: &Issued) {
        let Pod { uid, name, namespace, service_account, .. } = pod;
        let (serial, not_after) = (&issued.serial, issued.not_after.as_secs());
        tracing::info!(
            event = "enrolment",
            outcome = "issued",
            kind,
            namespace,
            pod = name,
            pod_uid = uid,
            service_account,
            serial,
            not_after
        );
        if !self.remember(uid) && kind == "first" {
            // A restarted sidecar does this too; so does who has stolen the token of a living pod.
            tracing::warn!(
                event = "enrolment",
                outcome = "repeated",
                namespace,
                pod = name,
                pod_uid = uid,
                serial,
                "{REPEATED}"
            );
            self.events.tell(About::pod(pod), Reason::EnrolmentRepeated, REPEATED);
        }
    }

    /// Remembers that a pod has a certificate; false if that was known. Pods that are gone are forgotten.
    fn remember(&self, uid: &str) -> bool {
        let mut enrolled = self.enrolled.lock().unwrap_or_else(PoisonError::into_inner);
        let view = self.view.borrow();
        if enrolled.len() > SPARE + 2 * view.pods().count() {
            enrolled.retain(|uid| view.pod(uid).is_some());
        }
        enrolled.insert(uid.to_owned())
    }
}

const REPEATED: &str = "this pod has a certificate and enrolled as if it had none: its sidecar restarted, or somebody else \
                        has its token";
/// How many pods that are gone may be remembered before anybody looks.
const SPARE: usize = 64;
