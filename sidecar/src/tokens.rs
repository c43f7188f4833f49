//! Tokens for outbound calls: fetched once, refreshed early, never served past their end.
//!
//! A [`TokenSlot`] is the place of one token. A data worker reads it without waiting on anybody; on the control thread
//! one keeper per slot fetches, refreshes and retries. Every token belongs to one certificate, told by its number, and
//! travels only over connections of that certificate: a rotation first fetches the tokens of the new certificate
//! ([`Tokens::prepare`]) and only then lets connections be made with it. Calls that the app hands on carry tokens of an
//! [`Exchanger`], which are fetched when they are needed.

mod answer;
mod error;
mod exchanged;
mod issuer;
mod keeper;
mod request;
mod server;
mod slot;
mod transport;

pub(crate) use error::FetchError;
pub(crate) use exchanged::Exchanger;
pub(crate) use request::form_of as form;
pub(crate) use server::{AuthorizationServer, Place};
pub(crate) use slot::{ProofMaterial, Token, TokenSlot};
pub(crate) use transport::{Answered, Transport};

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fapi::{SenderConstraint, SpiffeId};
use tokio::{sync::watch, task::JoinSet};

use crate::{identity::Certificate, state::Shared};
use issuer::IssuerClient;

/// Most tokens kept; one more is not fetched. More than the destinations that a sidecar may know.
const MAX_SLOTS: usize = 8192;
/// From this number on, clients of authorization servers that nobody uses are dropped.
const MANY_ISSUERS: usize = 64;
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// What a token is for. The client is always this workload itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TokenKey {
    /// The authorization server that is asked.
    pub(crate) server: Arc<AuthorizationServer>,
    /// `resource` of the request (RFC 8707) and `aud` of the token.
    pub(crate) audience: String,
    /// Space separated, sorted; empty: whatever the target's rules give.
    pub(crate) scope: String,
    /// `authorization_details` of the request (RFC 9396), JSON; `None`: whatever the target's rules give.
    pub(crate) details: Option<String>,
    pub(crate) constraint: Constraint,
}

/// How the token is bound. [`SenderConstraint`] as a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Constraint {
    Certificate,
    Dpop,
}

impl From<SenderConstraint> for Constraint {
    fn from(constraint: SenderConstraint) -> Self {
        match constraint {
            SenderConstraint::Mtls => Self::Certificate,
            SenderConstraint::Dpop => Self::Dpop,
        }
    }
}

/// The token cache of the process. Lives on the control thread; what it publishes are slots.
pub(crate) struct Tokens {
    shared: Arc<Shared>,
    slots: Mutex<HashMap<TokenKey, Arc<TokenSlot>>>,
    exchangers: Mutex<HashMap<TokenKey, Arc<Exchanger>>>,
    issuers: Mutex<HashMap<Arc<AuthorizationServer>, Arc<IssuerClient>>>,
    /// The identity that the certificate of the mesh issuer must name: it is part of the operator.
    operator_id: SpiffeId,
    /// The roots of the system, for issuers outside that bring none.
    roots: PathBuf,
    /// The certificate in use; keepers start over when it changes.
    in_use: watch::Sender<Option<Certificate>>,
    /// Told when the operator is back, and the mesh issuer with it.
    operator: watch::Sender<()>,
}

impl Tokens {
    pub(crate) fn new(shared: Arc<Shared>, operator_id: SpiffeId, roots: PathBuf) -> Arc<Self> {
        let (in_use, operator) = (watch::Sender::new(None), watch::Sender::new(()));
        let (slots, exchangers, issuers) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Self { shared, slots, exchangers, issuers, operator_id, roots, in_use, operator })
    }

    /// The slot of a token, which is fetched at once when it is new. `None` when the cache is full or `key` names no
    /// server that could be asked. Call it on the control thread.
    pub(crate) fn slot(self: &Arc<Self>, key: &TokenKey) -> Option<Arc<TokenSlot>> {
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(key) {
            return Some(slot.clone());
        }
        if slots.len() >= MAX_SLOTS {
            tracing::warn!(
                audience = key.audience,
                "the token cache is full ({MAX_SLOTS}); calls to this audience get no token"
            );
            return None;
        }
        let issuer = self.issuer(&key.server)?;
        let slot = Arc::new(TokenSlot::new());
        slots.insert(key.clone(), slot.clone());
        tokio::spawn(keeper::keep(self.clone(), issuer, key.clone(), slot.clone()));
        Some(slot)
    }

    /// Where calls that are handed on get their tokens. `None` as for [`Tokens::slot`]. Call it on the control thread.
    pub(crate) fn exchanger(&self, key: &TokenKey) -> Option<Arc<Exchanger>> {
        let mut exchangers = lock(&self.exchangers);
        if let Some(exchanger) = exchangers.get(key) {
            return Some(exchanger.clone());
        }
        if exchangers.len() >= MAX_SLOTS {
            tracing::warn!(audience = key.audience, "too many targets ({MAX_SLOTS}); calls to this one get no token");
            return None;
        }
        let exchanger = Arc::new(Exchanger::new(key.clone(), self.issuer(&key.server)?, self.shared.clone()));
        exchangers.insert(key.clone(), exchanger.clone());
        Some(exchanger)
    }

    /// Forgets exchanged tokens that are not needed any more, for ever.
    pub(crate) async fn keep_swept(&self) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            let mut exchangers = lock(&self.exchangers);
            exchangers.retain(|_, exchanger| Arc::strong_count(exchanger) > 1);
            exchangers.values().for_each(|exchanger| exchanger.sweep());
        }
    }

    /// Fetches, with a certificate that is not in use yet, a token for every key in use.
    ///
    /// # Errors
    /// The last failure that asking again may cure. What the issuer does not grant does not hold up a rotation.
    pub(crate) async fn prepare(&self, next: &Certificate) -> Result<(), FetchError> {
        let mut fetches = JoinSet::new();
        for (key, slot) in self.slots_to_prepare(next) {
            let Some(issuer) = self.issuer(&key.server) else { continue };
            let (shared, next) = (self.shared.clone(), next.clone());
            fetches.spawn(async move {
                slot.store(issuer.fetch(&shared, &next, &key, None).await?, shared.clock.now());
                Ok(())
            });
        }
        let mut outcome = Ok(());
        while let Some(fetched) = fetches.join_next().await {
            match fetched {
                Ok(Ok(()) | Err(FetchError::NotGranted(_))) => {}
                Ok(Err(error)) => outcome = Err(error),
                Err(_) => outcome = Err(FetchError::Unreachable("the fetch was cancelled".into())),
            }
        }
        outcome
    }

    /// Tells the keepers that this certificate is in use from now on.
    pub(crate) fn rotated(&self, certificate: Certificate) {
        for issuer in lock(&self.issuers).values() {
            issuer.keep_only(certificate.thumbprint);
        }
        self.in_use.send_replace(Some(certificate));
    }

    /// Tells the keepers that a control stream is open: whoever waits before it asks the mesh issuer again need not.
    pub(crate) fn operator_is_back(&self) {
        self.operator.send_replace(());
    }

    /// Slots that hold a token of the certificate in use and none yet of the next one.
    fn slots_to_prepare(&self, next: &Certificate) -> Vec<(TokenKey, Arc<TokenSlot>)> {
        let now = self.shared.clock.now();
        let Some(current) = self.in_use.borrow().as_ref().map(|certificate| certificate.thumbprint) else {
            return Vec::new();
        };
        let holds = |slot: &TokenSlot, certificate| slot.refresh_at(certificate, now).is_some();
        let slots = lock(&self.slots);
        let wanted = slots.iter().filter(|(_, slot)| holds(slot, current) && !holds(slot, next.thumbprint));
        wanted.map(|(key, slot)| (key.clone(), slot.clone())).collect()
    }

    fn issuer(&self, server: &Arc<AuthorizationServer>) -> Option<Arc<IssuerClient>> {
        let mut issuers = lock(&self.issuers);
        if let Some(issuer) = issuers.get(server) {
            return Some(issuer.clone());
        }
        if issuers.len() >= MANY_ISSUERS {
            // Keepers and exchangers hold those that are in use.
            issuers.retain(|_, issuer| Arc::strong_count(issuer) > 1);
        }
        match IssuerClient::new(Arc::clone(server), &self.operator_id, self.roots.clone()) {
            Ok(issuer) => {
                let issuer = Arc::new(issuer);
                issuers.insert(Arc::clone(server), issuer.clone());
                Some(issuer)
            }
            Err(problem) => {
                let issuer = server.issuer();
                tracing::error!(issuer, problem, "the operator named an authorization server that cannot be used");
                None
            }
        }
    }

    /// Lets go of a slot that nobody but its keeper uses. Says whether it did.
    fn release(&self, key: &TokenKey, slot: &Arc<TokenSlot>) -> bool {
        let mut slots = lock(&self.slots);
        // The map and the keeper hold one each.
        let unused = Arc::strong_count(slot) <= 2;
        if unused {
            slots.remove(key);
        }
        unused
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
