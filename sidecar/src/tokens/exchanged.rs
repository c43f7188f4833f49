//! Tokens that are got by exchange (RFC 8693), for the calls that the app hands on to one target.
//!
//! There is one for each token that calls came with and each certificate of ours. The first call that needs it has it fetched,
//! on the control thread, and all others that need it at that moment wait for the same answer. It is never used past its end,
//! which is not later than that of the token it was exchanged for, and forgotten when no call has needed it for a while.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use fapi::{CertThumbprint, Rejection, TokenHash, UnixTime};
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, timeout},
};

use super::{IssuerClient, Token, TokenKey, lock};
use crate::{clock::monotonic, contexts::Subject, identity::Certificate, state::Shared};

/// Tokens for one target.
const CAPACITY: usize = 1024;
/// A token that no call has needed for so long is forgotten.
const IDLE: Duration = Duration::from_secs(60);
/// How long a failure is the answer to all. Short, because a policy may change at any time.
const FAILED_FOR: Duration = Duration::from_secs(1);
/// A token that a peer refused is exchanged again, but not more often than this.
const DOUBT_EVERY: Duration = Duration::from_secs(2);

/// The exchanged tokens for one target.
pub(crate) struct Exchanger {
    key: TokenKey,
    issuer: Arc<IssuerClient>,
    shared: Arc<Shared>,
    /// Where the issuer is asked.
    control: Handle,
    held: Mutex<HashMap<Of, Held>>,
}

/// What a token was exchanged for, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Of {
    subject: TokenHash,
    certificate: CertThumbprint,
}

struct Held {
    outcome: watch::Receiver<Option<Outcome>>,
    since: Instant,
    used: Instant,
}

#[derive(Clone)]
enum Outcome {
    Token(Arc<Token>),
    Failed { rejection: Rejection, until: Instant },
}

impl Exchanger {
    /// Call it on the control thread.
    pub(super) fn new(key: TokenKey, issuer: Arc<IssuerClient>, shared: Arc<Shared>) -> Self {
        Self { key, issuer, shared, control: Handle::current(), held: Mutex::default() }
    }

    /// The token for a call that hands `subject` on over a connection with `certificate`.
    ///
    /// # Errors
    /// `not_granted`, or `token_unavailable`, also when it takes longer than `patience`.
    pub(crate) async fn token(
        self: &Arc<Self>,
        certificate: &Certificate,
        subject: &Arc<Subject>,
        patience: Duration,
    ) -> Result<Arc<Token>, Rejection> {
        let mut outcome = self.outcome(certificate, subject);
        let settled = timeout(patience, outcome.wait_for(Option::is_some)).await;
        match settled.ok().and_then(Result::ok).as_deref() {
            Some(Some(Outcome::Token(token))) => Ok(token.clone()),
            Some(Some(Outcome::Failed { rejection, .. })) => Err(*rejection),
            _ => Err(Rejection::TokenUnavailable),
        }
    }

    /// A peer refused the token: the grants may have changed, so the next call gets another one.
    pub(crate) fn doubt(&self, certificate: CertThumbprint, subject: &Subject) {
        let (of, now) = (Of { subject: subject.hash, certificate }, monotonic());
        let mut held = lock(&self.held);
        if held.get(&of).is_some_and(|held| held.since + DOUBT_EVERY <= now) {
            held.remove(&of);
        }
    }

    /// Forgets what has ended or is not needed any more.
    pub(super) fn sweep(&self) {
        let (now, time) = (monotonic(), self.shared.clock.now());
        lock(&self.held).retain(|_, held| held.is_good(now, time) && now < held.used + IDLE);
    }

    fn outcome(
        self: &Arc<Self>,
        certificate: &Certificate,
        subject: &Arc<Subject>,
    ) -> watch::Receiver<Option<Outcome>> {
        let (now, time) = (monotonic(), self.shared.clock.now());
        let of = Of { subject: subject.hash, certificate: certificate.thumbprint };
        let mut held = lock(&self.held);
        if let Some(known) = held.get_mut(&of).filter(|known| known.is_good(now, time)) {
            known.used = now;
            return known.outcome.clone();
        }
        make_room(&mut held);
        let (sender, outcome) = watch::channel(None);
        held.insert(of, Held { outcome: outcome.clone(), since: now, used: now });
        self.control.spawn(self.clone().fetch(certificate.clone(), subject.clone(), sender));
        outcome
    }

    async fn fetch(
        self: Arc<Self>,
        certificate: Certificate,
        subject: Arc<Subject>,
        outcome: watch::Sender<Option<Outcome>>,
    ) {
        let fetched = self.issuer.fetch(&self.shared, &certificate, &self.key, Some(&subject.token)).await;
        outcome.send_replace(Some(match fetched {
            Ok(token) => Outcome::Token(Arc::new(token)),
            Err(error) => {
                tracing::warn!(audience = self.key.audience, subject = %subject.hash, %error, "no token by exchange");
                Outcome::Failed { rejection: error.rejection(), until: monotonic() + FAILED_FOR }
            }
        }));
    }
}

/// The one that was needed least lately gives way.
fn make_room(held: &mut HashMap<Of, Held>) {
    if held.len() < CAPACITY {
        return;
    }
    if let Some(oldest) = held.iter().min_by_key(|(_, held)| held.used).map(|(of, _)| *of) {
        held.remove(&oldest);
    }
}

impl Held {
    /// Whether it is an answer, or will be one.
    fn is_good(&self, now: Instant, time: UnixTime) -> bool {
        match &*self.outcome.borrow() {
            Some(Outcome::Token(token)) => time < token.expires,
            Some(Outcome::Failed { until, .. }) => now < *until,
            // Whoever was to answer may be gone.
            None => self.outcome.has_changed().is_ok(),
        }
    }
}
