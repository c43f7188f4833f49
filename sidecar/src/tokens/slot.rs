//! The place of one token: written on the control thread, read by every data worker.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use fapi::{CertThumbprint, ProofSigner, Rejection, TokenHash, UnixTime};
use http::HeaderValue;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::error::FetchError;
use crate::{awaited::found, identity::Certificate, state::Shared};

/// Most tokens in one slot: one for the certificate in use, one for its successor, one for a rotation that was given up.
const MAX_HELD: usize = 3;

/// A token ready for use. Immutable; the header is built once.
pub(crate) struct Token {
    /// The certificate that it was fetched with. It may only travel over connections of that certificate.
    pub(crate) certificate: CertThumbprint,
    /// The whole value of `Authorization`, marked sensitive.
    pub(crate) authorization: HeaderValue,
    /// What a `DPoP` proof for this token needs; `None` for a certificate-bound token.
    pub(crate) proof: Option<ProofMaterial>,
    /// Never sent at or after this time: the earlier of its own end and the certificate's.
    pub(crate) expires: UnixTime,
    /// When the next token should be fetched.
    pub(super) refresh_at: Instant,
}

/// The key that a `DPoP` token is bound to, and the hash that ties a proof to the token.
pub(crate) struct ProofMaterial {
    pub(crate) signer: Arc<ProofSigner>,
    pub(crate) ath: TokenHash,
}

/// Tokens of the certificate in use and of those just before and after it, so that a rotation never leaves a request
/// without a token of its own connection's certificate.
#[derive(Default)]
struct Held {
    tokens: Vec<Arc<Token>>,
    failure: Option<Failure>,
}

#[derive(Clone)]
struct Failure {
    rejection: Rejection,
    /// Until then requests are answered with it; afterwards one of them asks again.
    until: Instant,
}

/// One token's place in the cache.
pub(crate) struct TokenSlot {
    held: ArcSwap<Held>,
    /// Told to waiting requests at every change.
    changed: Notify,
    /// Told to the keeper: a request waits for a token.
    pub(super) wanted: Notify,
    /// Told to the keeper: a peer refused the token.
    doubted: Notify,
    used: AtomicBool,
}

impl TokenSlot {
    pub(super) fn new() -> Self {
        Self {
            held: ArcSwap::default(),
            changed: Notify::new(),
            wanted: Notify::new(),
            doubted: Notify::new(),
            used: AtomicBool::new(true),
        }
    }

    /// The token for connections of this certificate, when there is one that is not over.
    pub(crate) fn get(&self, certificate: CertThumbprint, now: UnixTime) -> Option<Arc<Token>> {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        self.held.load().of(certificate, now).cloned()
    }

    /// Waits up to `patience` until there is a token of the certificate in use, whichever that is by then.
    ///
    /// # Errors
    /// `not_granted` or `token_unavailable`.
    pub(crate) async fn wait(&self, shared: &Shared, patience: Duration) -> Result<(), Rejection> {
        let settled = found(&self.changed, || {
            let settled = self.settled(shared);
            if settled.is_none() {
                self.wanted.notify_one();
            }
            settled
        });
        timeout(patience, settled).await.unwrap_or(Err(Rejection::TokenUnavailable))
    }

    /// Whether there is a token of the certificate in use, or will not be soon.
    fn settled(&self, shared: &Shared) -> Option<Result<(), Rejection>> {
        let own = shared.identity().and_then(|generation| Certificate::new(generation.identity.clone()).ok());
        let Some(own) = own else { return Some(Err(Rejection::TokenUnavailable)) };
        if self.get(own.thumbprint, shared.clock.now()).is_some() {
            return Some(Ok(()));
        }
        self.refusal(crate::clock::monotonic()).map(Err)
    }

    /// The peer refused the token: fetch another one soon, since the grants may have changed.
    pub(crate) fn doubt(&self) {
        self.doubted.notify_one();
    }

    fn refusal(&self, now: Instant) -> Option<Rejection> {
        self.held.load().failure.as_ref().filter(|f| now < f.until).map(|f| f.rejection)
    }
}

// The keeper's side.
impl TokenSlot {
    /// Puts a token in force beside those of other certificates.
    pub(super) fn store(&self, token: Token, now: UnixTime) {
        let certificate = token.certificate;
        let mut tokens = vec![Arc::new(token)];
        let held = self.held.load();
        let others = held.tokens.iter().filter(|t| t.certificate != certificate && now < t.expires);
        tokens.extend(others.take(MAX_HELD - 1).cloned());
        self.publish(Held { tokens, failure: None });
    }

    /// Notes that no new token can be had until `until`. Tokens that are still good stay.
    pub(super) fn fail(&self, error: &FetchError, until: Instant) {
        let tokens = self.held.load().tokens.clone();
        self.publish(Held { tokens, failure: Some(Failure { rejection: error.rejection(), until }) });
    }

    /// When the token of this certificate should be renewed; `None` when there is none.
    pub(super) fn refresh_at(&self, certificate: CertThumbprint, now: UnixTime) -> Option<Instant> {
        self.held.load().of(certificate, now).map(|token| token.refresh_at)
    }

    /// Whether it was used since this was last asked.
    pub(super) fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// Waits until a request needs a token.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Waits until a peer has refused the token.
    pub(super) async fn doubted(&self) {
        self.doubted.notified().await;
    }

    fn publish(&self, held: Held) {
        self.held.store(Arc::new(held));
        self.changed.notify_waiters();
    }
}

impl Held {
    fn of(&self, certificate: CertThumbprint, now: UnixTime) -> Option<&Arc<Token>> {
        self.tokens.iter().find(|t| t.certificate == certificate && now < t.expires)
    }
}
