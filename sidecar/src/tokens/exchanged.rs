//! Tokens that are got by exchange (RFC 8693), for the calls that the app hands on to one target.
//!
//! There is one for each token that calls came with and each certificate of ours. The first call that needs it has it fetched,
//! on the control thread, and all others that need it at that moment wait for the same answer. It is never used past its end,
//! which is not later than that of the token it was exchanged for, and forgotten when no call has needed it for a while.

use std::{sync::Arc, time::Duration};

use fapi::{CertThumbprint, Rejection, TokenHash, UnixTime};
use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

use super::{IssuerClient, Token, TokenKey};
use crate::{
    answers::{Answer, Answers, Question},
    clock::monotonic,
    contexts::Subject,
    identity::Certificate,
    state::Shared,
};

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
    held: Answers<Of, Outcome, Instant>,
}

/// What a token was exchanged for, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Of {
    subject: TokenHash,
    certificate: CertThumbprint,
}

#[derive(Clone)]
enum Outcome {
    Token(Arc<Token>),
    Failed { rejection: Rejection, until: Instant },
}

impl Exchanger {
    /// Call it on the control thread.
    pub(super) fn new(key: TokenKey, issuer: Arc<IssuerClient>, shared: Arc<Shared>) -> Self {
        Self { key, issuer, shared, control: Handle::current(), held: Answers::new(CAPACITY) }
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
        match timeout(patience, self.outcome(certificate, subject).given()).await {
            Ok(Some(Outcome::Token(token))) => Ok(token),
            Ok(Some(Outcome::Failed { rejection, .. })) => Err(rejection),
            Ok(None) | Err(_) => Err(Rejection::TokenUnavailable),
        }
    }

    /// A peer refused the token: the grants may have changed, so the next call gets another one.
    pub(crate) fn doubt(&self, certificate: CertThumbprint, subject: &Subject) {
        let now = monotonic();
        self.held.doubt(&Of { subject: subject.hash, certificate }, |asked| asked + DOUBT_EVERY <= now);
    }

    /// Forgets what has ended or is not needed any more.
    pub(super) fn sweep(&self) {
        let (now, time) = (monotonic(), self.shared.clock.now());
        self.held.sweep(|outcome| outcome.counts(now, time), |used| used + IDLE <= now);
    }

    fn outcome(self: &Arc<Self>, certificate: &Certificate, subject: &Arc<Subject>) -> Arc<Answer<Outcome>> {
        let (now, time) = (monotonic(), self.shared.clock.now());
        let of = Of { subject: subject.hash, certificate: certificate.thumbprint };
        let ask = |question| {
            self.control.spawn(self.clone().fetch(certificate.clone(), subject.clone(), question));
        };
        self.held.get(of, now, |outcome| outcome.counts(now, time), ask)
    }

    async fn fetch(self: Arc<Self>, certificate: Certificate, subject: Arc<Subject>, question: Question<Outcome>) {
        let fetched = self.issuer.fetch(&self.shared, &certificate, &self.key, Some(&subject.token)).await;
        question.answer(match fetched {
            Ok(token) => Outcome::Token(Arc::new(token)),
            Err(error) => {
                tracing::warn!(audience = self.key.audience, subject = %subject.hash, %error, "no token by exchange");
                Outcome::Failed { rejection: error.rejection(), until: monotonic() + FAILED_FOR }
            }
        });
    }
}

impl Outcome {
    fn counts(&self, now: Instant, time: UnixTime) -> bool {
        match self {
            Self::Token(token) => time < token.expires,
            Self::Failed { until, .. } => now < *until,
        }
    }
}
