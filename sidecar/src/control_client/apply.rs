//! What the operator says, put in force or refused with a reason.

use std::{collections::HashMap, sync::Arc};

use control::{
    Destination, DestinationKind, MeshIssuer, Order, Snapshot, features,
    pb::{self, Ack, BundleAck, SidecarMessage, operator_message, sidecar_message},
    tls::TrustBundle,
};
use fapi::{Issuer, KeySet, Revocation};
use tokio::sync::Notify;

use super::{Lookups, destination::Resolved};
use crate::{
    issuers::Keepers,
    state::{Shared, StateError},
    tokens::Tokens,
};

/// Applies messages, from whichever stream they come.
pub(super) struct Applier {
    shared: Arc<Shared>,
    lookups: Arc<Lookups>,
    tokens: Arc<Tokens>,
    renew: Arc<Notify>,
    keepers: Keepers,
    revocations_digest: String,
    key_digests: HashMap<String, String>,
    mesh_issuer: Option<MeshIssuer>,
}

/// An issuer more than these is not taken: a snapshot names at most 8 per port.
const MAX_ISSUERS: usize = 256;

impl Applier {
    pub(super) fn new(
        shared: Arc<Shared>,
        lookups: Arc<Lookups>,
        tokens: Arc<Tokens>,
        renew: Arc<Notify>,
        keepers: Keepers,
    ) -> Self {
        let (revocations_digest, key_digests) = (String::new(), HashMap::new());
        let mesh_issuer = None;
        Self { shared, lookups, tokens, renew, keepers, revocations_digest, key_digests, mesh_issuer }
    }

    /// Applies one message; gives the answer that it asks for.
    pub(super) fn apply(&mut self, message: pb::OperatorMessage) -> Option<SidecarMessage> {
        use operator_message::Kind;
        match message.kind? {
            Kind::Snapshot(snapshot) => return Some(self.snapshot(&snapshot)),
            Kind::TrustBundle(bundle) => return Some(self.trust_bundle(bundle)),
            Kind::KeySet(keys) => self.key_set(keys),
            Kind::Revocations(revocations) => return self.revocations(revocations),
            Kind::Destination(destination) => self.destination(&destination),
            Kind::Renew(pb::Renew {}) => self.renew.notify_one(),
        }
        None
    }

    fn snapshot(&mut self, snapshot: &pb::Snapshot) -> SidecarMessage {
        let nack_reason = match self.try_snapshot(snapshot) {
            Ok(()) => String::new(),
            Err(reason) => {
                tracing::warn!(version = snapshot.version, order = snapshot.order, reason, "snapshot refused");
                reason
            }
        };
        let ack = Ack { version: snapshot.version.clone(), nack_reason };
        SidecarMessage { kind: Some(sidecar_message::Kind::Ack(ack)) }
    }

    fn try_snapshot(&mut self, snapshot: &pb::Snapshot) -> Result<(), String> {
        if let Some(feature) = features::missing(&snapshot.required_features) {
            return Err(format!("this sidecar ({}) cannot enforce {feature}; upgrade it", control::VERSION));
        }
        self.check_revocations(snapshot)?;
        let order = Order { number: snapshot.order, versions: snapshot.versions.clone() };
        let in_force = self.shared.applied();
        if in_force.is_some_and(|applied| *applied.version == *snapshot.version && applied.order == order) {
            return Ok(());
        }
        let document: Snapshot = serde_json::from_slice(&snapshot.document).map_err(|error| {
            format!("the snapshot cannot be read: {error}; operator and sidecar may be too far apart")
        })?;
        let mesh_issuer = document.mesh_issuer.clone();
        let external = document.external_issuers.clone();
        self.shared.apply(&snapshot.version, order, document)?;
        self.keepers.set(&external);
        if self.mesh_issuer.as_ref() != Some(&mesh_issuer) {
            self.mesh_issuer = Some(mesh_issuer);
            self.lookups.reread(|document| resolve(document, self.mesh_issuer.as_ref(), &self.tokens));
        }
        Ok(())
    }

    /// Nothing is served before the revocations that the snapshot goes with have come.
    fn check_revocations(&self, snapshot: &pb::Snapshot) -> Result<(), String> {
        let (known, wanted) = (self.shared.revocation_epoch(), snapshot.revocation_epoch.max(1));
        if known < wanted && snapshot.required_features.iter().any(|feature| feature == features::REVOCATIONS) {
            return Err(format!("the revocations of epoch {wanted} have not come; epoch {known} is in force"));
        }
        Ok(())
    }

    /// The same bundle again is acknowledged again: on another stream, perhaps by another operator.
    fn trust_bundle(&self, bundle: pb::TrustBundle) -> SidecarMessage {
        let pb::TrustBundle { digest, pem } = bundle;
        let read = TrustBundle::from_pem(self.shared.trust_domain(), &pem).map_err(StateError::from);
        // Whatever was known by this digest: an enrolment may have brought other roots since.
        let nack_reason = match read.and_then(|read| self.shared.install_bundle(Arc::new(read))) {
            Ok(()) => String::new(),
            Err(error) => {
                tracing::warn!(%error, "trust bundle refused; the last good one stays in force");
                error.to_string()
            }
        };
        SidecarMessage { kind: Some(sidecar_message::Kind::BundleAck(BundleAck { digest, nack_reason })) }
    }

    fn key_set(&mut self, keys: pb::KeySet) {
        let known = self.key_digests.get(&keys.issuer);
        if known == Some(&keys.digest) {
            return;
        }
        if known.is_none() && self.key_digests.len() >= MAX_ISSUERS {
            tracing::warn!(issuer = keys.issuer, "keys refused: there are keys of {MAX_ISSUERS} issuers already");
            return;
        }
        let (Ok(issuer), Ok(set)) = (Issuer::parse(&keys.issuer), KeySet::from_jwks_json(&keys.jwks)) else {
            tracing::warn!(issuer = keys.issuer, "keys refused: not an issuer and a JWK Set; the last good ones stay");
            return;
        };
        self.key_digests.insert(keys.issuer, keys.digest);
        self.shared.install_keys(issuer, set);
    }

    fn revocations(&mut self, revocations: pb::Revocations) -> Option<SidecarMessage> {
        let pb::Revocations { digest, epoch, document } = revocations;
        if digest != self.revocations_digest || epoch != self.shared.revocation_epoch() {
            let read = serde_json::from_slice::<Vec<Revocation>>(&document).map_err(|error| error.to_string());
            let installed = read.and_then(|all| self.shared.install_revocations(epoch, all.into_iter().collect()));
            if let Err(error) = installed {
                tracing::warn!(epoch, error, "revocations refused; the last good ones stay in force");
                return None;
            }
            self.revocations_digest = digest;
        }
        let applied = pb::RevocationsApplied { epoch };
        Some(SidecarMessage { kind: Some(sidecar_message::Kind::RevocationsApplied(applied)) })
    }

    fn destination(&self, destination: &pb::Destination) {
        let document: Destination = match serde_json::from_slice(&destination.document) {
            Ok(document) => document,
            Err(error) => {
                tracing::warn!(authority = destination.authority, %error, "destination refused: it cannot be read");
                return;
            }
        };
        if document.authority != destination.authority {
            tracing::warn!(authority = destination.authority, "destination refused: it is about another authority");
            return;
        }
        if let DestinationKind::Ambiguous { services } = &document.kind {
            tracing::info!(
                address = document.authority,
                services = services.join(" "),
                "several Services stand before a pod that was dialled by its address: the Host of each call says which, \
                 or a FapiClient that names one of them"
            );
        }
        if let Some(resolved) = resolve(&document, self.mesh_issuer.as_ref(), &self.tokens) {
            self.lookups.answer(document, resolved);
        }
    }
}

fn resolve(document: &Destination, mesh: Option<&MeshIssuer>, tokens: &Arc<Tokens>) -> Option<Resolved> {
    Resolved::new(document, mesh, tokens)
        .inspect_err(|error| tracing::warn!(authority = document.authority, %error, "destination refused"))
        .ok()
}
