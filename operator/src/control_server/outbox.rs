//! What one sidecar has still to be told. Nothing is queued: a message is made when there is room to send it, from
//! what is true then, so a slow reader skips to the newest. Pure but for reading the view.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use control::destination::Reader;
use control::pb::{self, operator_message::Kind};
use control::{MeshIssuer, Order};

use crate::behind::Behind;
use crate::crypto;
use crate::issuer::Published;
use crate::pki::Roots;
use crate::revocations::InForce;
use crate::view::View;

/// As the protocol says: the most authorities that one stream may ask about.
pub(super) const MAX_AUTHORITIES: usize = 4096;
/// A DNS name and a port.
const MAX_AUTHORITY: usize = 512;
/// How many destinations are looked at before others get their turn.
const BATCH: usize = 64;

/// What is true now.
pub(super) struct Now<'a> {
    pub(super) pod_uid: &'a str,
    pub(super) view: &'a View,
    pub(super) keys: &'a Published,
    pub(super) revocations: &'a InForce,
    pub(super) issuer: &'a MeshIssuer,
    pub(super) roots: &'a Roots,
    pub(super) behind: &'a Behind,
}

/// What was sent, and what may have changed since.
#[derive(Default)]
pub(super) struct Outbox {
    bundle_sent: Option<String>,
    check_bundle: bool,
    keys_sent: Option<String>,
    check_keys: bool,
    /// The epoch that the sidecar has, or was sent.
    revocations_sent: u64,
    check_revocations: bool,
    /// What the sidecar has applied; nothing is sent before it said so, and nothing that is behind it after.
    applied: Option<Order>,
    /// Whether it was told that the sidecar has a newer snapshot; who says so again is not believed.
    told_behind: bool,
    snapshot_sent: Option<String>,
    check_snapshot: bool,
    /// What the sidecar can read of answers.
    reader: Reader,
    renew: bool,
    authorities: HashMap<Arc<str>, Watched>,
    check_authorities: VecDeque<Arc<str>>,
}

/// An authority that the sidecar asked about.
#[derive(Default)]
struct Watched {
    /// The digest of the last answer; none yet, or a new question.
    sent: Option<String>,
    queued: bool,
}

/// More authorities than the protocol allows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Outbox {
    /// An outbox that begins with the trust bundle and the keys.
    pub(super) fn new() -> Self {
        Self { check_bundle: true, check_keys: true, ..Self::default() }
    }

    /// The sidecar has introduced itself; now it may be told what to enforce.
    pub(super) fn greet(&mut self, hello: &pb::Hello) {
        let applied = Order { number: hello.applied_order, versions: hello.applied_versions.clone() };
        (self.applied, self.revocations_sent) = (Some(applied), hello.revocation_epoch);
        self.reader = Reader::with(&hello.features);
        (self.check_revocations, self.check_snapshot) = (true, true);
    }

    /// Whether the sidecar has introduced itself.
    pub(super) fn greeted(&self) -> bool {
        self.applied.is_some()
    }

    /// Other roots count.
    pub(super) fn roots_changed(&mut self) {
        self.check_bundle = true;
    }

    /// Something was revoked.
    pub(super) fn revocations_changed(&mut self) {
        self.check_revocations = true;
    }

    /// The view has changed: everything made of it may have, too.
    pub(super) fn view_changed(&mut self) {
        self.check_snapshot = true;
        for (authority, watched) in &mut self.authorities {
            if !watched.queued {
                watched.queued = true;
                self.check_authorities.push_back(authority.clone());
            }
        }
    }

    pub(super) fn keys_changed(&mut self) {
        self.check_keys = true;
    }

    /// The sidecar shall renew its certificate.
    pub(super) fn renew(&mut self) {
        self.renew = true;
    }

    /// The sidecar asks about an authority: it gets an answer, also if it had the same one before.
    pub(super) fn lookup(&mut self, authority: &str) -> Result<(), TooMany> {
        // No name is that long; without an answer the sidecar refuses the call.
        if authority.len() > MAX_AUTHORITY {
            return Ok(());
        }
        if self.authorities.len() >= MAX_AUTHORITIES && !self.authorities.contains_key(authority) {
            return Err(TooMany);
        }
        let authority: Arc<str> = authority.into();
        let watched = self.authorities.entry(authority.clone()).or_default();
        watched.sent = None;
        if !watched.queued {
            watched.queued = true;
            // A request is waiting for this one.
            self.check_authorities.push_front(authority);
        }
        Ok(())
    }

    /// Whether [`Outbox::next`] may have something.
    pub(super) fn pending(&self) -> bool {
        self.check_bundle
            || self.check_keys
            || ((self.check_revocations || self.check_snapshot) && self.greeted())
            || self.renew
            || !self.check_authorities.is_empty()
    }

    /// The next message. `None`: nothing, or (while still pending) nothing in this batch of destinations.
    pub(super) fn next(&mut self, now: &Now<'_>) -> Option<pb::OperatorMessage> {
        let kind = self
            .bundle(now)
            .or_else(|| self.key_set(now))
            // Before the snapshot, which is not taken without them.
            .or_else(|| self.revocations(now))
            .or_else(|| self.snapshot(now))
            .or_else(|| self.renewal())
            .or_else(|| self.destination(now))?;
        Some(pb::OperatorMessage { kind: Some(kind) })
    }

    fn bundle(&mut self, now: &Now<'_>) -> Option<Kind> {
        let Roots { digest, pem, .. } = now.roots;
        if !std::mem::take(&mut self.check_bundle) || self.bundle_sent.as_ref() == Some(digest) {
            return None;
        }
        self.bundle_sent = Some(digest.clone());
        Some(Kind::TrustBundle(pb::TrustBundle { digest: digest.clone(), pem: pem.to_string() }))
    }

    fn key_set(&mut self, now: &Now<'_>) -> Option<Kind> {
        if !std::mem::take(&mut self.check_keys) || self.keys_sent.as_ref() == Some(&now.keys.digest) {
            return None;
        }
        self.keys_sent = Some(now.keys.digest.clone());
        let (issuer, digest) = (now.issuer.issuer.clone(), now.keys.digest.clone());
        Some(Kind::KeySet(pb::KeySet { issuer, digest, jwks: now.keys.jwks.clone() }))
    }

    fn revocations(&mut self, now: &Now<'_>) -> Option<Kind> {
        if !self.greeted() || !std::mem::take(&mut self.check_revocations) {
            return None;
        }
        let InForce { epoch, digest, document, .. } = now.revocations;
        if *epoch <= self.revocations_sent {
            return None;
        }
        self.revocations_sent = *epoch;
        let (epoch, digest, document) = (*epoch, digest.clone(), document.clone());
        Some(Kind::Revocations(pb::Revocations { digest, epoch, document }))
    }

    fn snapshot(&mut self, now: &Now<'_>) -> Option<Kind> {
        let applied = self.applied.as_ref()?;
        if !std::mem::take(&mut self.check_snapshot) {
            return None;
        }
        if now.view.order().is_behind(applied) {
            // The sidecar has seen newer: this operator lags, or its state was put back. It would refuse.
            if !std::mem::replace(&mut self.told_behind, true) {
                now.behind.tell();
                tracing::warn!(
                    pod_uid = now.pod_uid,
                    ?applied,
                    order = ?now.view.order(),
                    remedy = "if the state of the mesh or of the cluster was put back to an earlier one, restart the pod",
                    "a sidecar has a newer snapshot, and keeps it until this operator knows as much"
                );
            }
            return None;
        }
        let snapshot = now.view.snapshot(now.pod_uid, now.issuer)?;
        if self.snapshot_sent.as_ref() == Some(&snapshot.version) {
            return None;
        }
        self.snapshot_sent = Some(snapshot.version.clone());
        Some(Kind::Snapshot(pb::Snapshot {
            version: snapshot.version.clone(),
            order: now.view.order().number,
            versions: now.view.order().versions.clone(),
            required_features: snapshot.required_features.iter().map(|&feature| feature.to_owned()).collect(),
            document: snapshot.document.clone(),
            // Those that came meanwhile may be on their way; what it was sent it has before this.
            revocation_epoch: self.revocations_sent,
        }))
    }

    fn renewal(&mut self) -> Option<Kind> {
        std::mem::take(&mut self.renew).then_some(Kind::Renew(pb::Renew {}))
    }

    fn destination(&mut self, now: &Now<'_>) -> Option<Kind> {
        for _ in 0..BATCH {
            let authority = self.check_authorities.pop_front()?;
            let Some(watched) = self.authorities.get_mut(&authority) else { continue };
            watched.queued = false;
            let answer = self.reader.worded(now.view.destination(now.pod_uid, &authority));
            // A document that cannot be written is none: the sidecar refuses the call.
            let Ok(document) = serde_json::to_vec(&answer) else { continue };
            let digest = crypto::digest(&document);
            if watched.sent.as_ref() == Some(&digest) {
                continue;
            }
            watched.sent = Some(digest);
            return Some(Kind::Destination(pb::Destination { authority: authority.to_string(), document }));
        }
        None
    }

    /// The digest of the keys that were sent last.
    pub(super) fn keys_sent(&self) -> Option<&str> {
        self.keys_sent.as_deref()
    }
}
