//! The life of one token slot: fetch, refresh at half of the token's life, retry, rest while nobody asks.

use std::{sync::Arc, time::Duration};

use fapi::CertThumbprint;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{FetchError, IssuerClient, TokenKey, TokenSlot, Tokens};
use crate::{clock::monotonic, control_client::backoff::Backoff, identity::Certificate, random};

/// How long the answer "not granted" stands. Short, because a policy may change at any time.
const NOT_GRANTED_FOR: Duration = Duration::from_secs(1);
/// A token that a peer refused is fetched again, but not more often than this.
const DOUBT_EVERY: Duration = Duration::from_secs(2);
/// After so many refreshes without one use, the token is left to end.
const UNUSED_REFRESHES: u32 = 8;

/// Keeps the slot filled until nobody holds it any more.
pub(super) async fn keep(tokens: Arc<Tokens>, issuer: Arc<IssuerClient>, key: TokenKey, slot: Arc<TokenSlot>) {
    Keeper::new(tokens, issuer, key, slot).run().await;
}

struct Keeper {
    tokens: Arc<Tokens>,
    issuer: Arc<IssuerClient>,
    key: TokenKey,
    slot: Arc<TokenSlot>,
    rotations: watch::Receiver<Option<Certificate>>,
    operator: watch::Receiver<()>,
}

impl Keeper {
    fn new(tokens: Arc<Tokens>, issuer: Arc<IssuerClient>, key: TokenKey, slot: Arc<TokenSlot>) -> Self {
        let (rotations, operator) = (tokens.in_use.subscribe(), tokens.operator.subscribe());
        Self { tokens, issuer, key, slot, rotations, operator }
    }

    async fn run(mut self) {
        let mut backoff = if self.issuer.is_outside() { Backoff::patient() } else { Backoff::new() };
        let mut unused = 0;
        while !self.tokens.release(&self.key, &self.slot) {
            let Some(certificate) = self.certificate().await else { return };
            if !self.until_due(certificate.thumbprint, &mut unused).await {
                continue;
            }
            // Whatever comes back from here on may have come too late for this fetch.
            self.operator.mark_unchanged();
            // Boxed: a keeper at rest should be small, there may be thousands.
            match Box::pin(self.issuer.fetch(&self.tokens.shared, &certificate, &self.key, None)).await {
                Ok(token) => {
                    self.slot.store(token, self.tokens.shared.clock.now());
                    backoff.reset();
                }
                Err(error) => self.failed(certificate.thumbprint, &error, &mut backoff).await,
            }
        }
    }

    /// The certificate in use, once there is one. `None` at the end of the process.
    async fn certificate(&mut self) -> Option<Certificate> {
        self.rotations.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// Waits until a token should be fetched. False: the certificate changed, look again.
    async fn until_due(&mut self, certificate: CertThumbprint, unused: &mut u32) -> bool {
        let Some(refresh_at) = self.slot.refresh_at(certificate, self.tokens.shared.clock.now()) else {
            return true;
        };
        let begun = monotonic();
        tokio::select! {
            () = sleep_until(refresh_at) => {}
            () = self.slot.doubted() => {
                sleep_until(refresh_at.min(begun + DOUBT_EVERY)).await;
                return true;
            }
            _ = self.rotations.changed() => return false,
        }
        *unused = if self.slot.take_used() { 0 } else { *unused + 1 };
        if *unused < UNUSED_REFRESHES {
            return true;
        }
        *unused = 0;
        self.rest().await
    }

    async fn failed(&mut self, certificate: CertThumbprint, error: &FetchError, backoff: &mut Backoff) {
        let to_be_spared = self.issuer.is_outside() || matches!(error, FetchError::Busy { .. });
        let wait = match error {
            // The issuer is well, so there is nothing to spare it; and after this it is asked only if somebody calls. What
            // one outside does not grant, it will not grant in a second.
            FetchError::NotGranted(_) if !self.issuer.is_outside() => NOT_GRANTED_FOR,
            // A little more than it wants, not all at the same moment.
            FetchError::Busy { rest, .. } => random::between(*rest, *rest + rest.mul_f64(0.2)).max(backoff.next()),
            _ => backoff.next(),
        };
        tracing::warn!(audience = self.key.audience, %error, retry_ms = wait.as_millis(), "no token");
        self.slot.fail(error, monotonic() + wait);
        tokio::select! {
            () = sleep(wait) => {}
            Ok(()) = self.operator.changed(), if !to_be_spared => backoff.reset(),
        }
        if self.slot.refresh_at(certificate, self.tokens.shared.clock.now()).is_none() {
            self.rest().await;
        }
    }

    /// Waits until somebody asks. False: the certificate changed.
    async fn rest(&mut self) -> bool {
        tokio::select! {
            () = self.slot.wanted() => true,
            _ = self.rotations.changed() => false,
        }
    }
}

/// When to refresh a token that ends `life` from now: about half of it, so that a loss of the issuer is outlived by the
/// other half.
pub(super) fn refresh_at(now: Instant, life: Duration) -> Instant {
    now + random::between(life.mul_f64(0.45), life.mul_f64(0.5))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        interception::Interception,
        state::Shared,
        testing::authority,
        tokens::{AuthorizationServer, Constraint, Place},
    };
    use control::ClientAuthentication;

    fn keeper() -> Keeper {
        let (shared, _ends) = Shared::new(authority::trust_domain(), Interception::None).unwrap();
        let tokens = Tokens::new(shared, authority::operator(), "unused".into());
        let place = Place::Mesh { issuer: "https://mesh".into(), token_endpoint: "https://mesh:1/token".into() };
        let server = Arc::new(AuthorizationServer { place, authentication: ClientAuthentication::TlsClientAuth });
        let issuer = tokens.issuer(&server).unwrap();
        let audience = "https://payments.bank".into();
        let key =
            TokenKey { server, audience, scope: String::new(), details: None, constraint: Constraint::Certificate };
        Keeper::new(tokens, issuer, key, Arc::new(TokenSlot::new()))
    }

    /// How long a keeper waits, in virtual time, that has failed often before and is told that the operator is back.
    async fn wait_after(error: FetchError) -> Duration {
        let mut keeper = keeper();
        let mut backoff = Backoff::new();
        for _ in 0..10 {
            backoff.next();
        }
        let (begun, tokens) = (monotonic(), keeper.tokens.clone());
        // Nobody asks for its token, so it rests in the end.
        keeper.slot.wanted.notify_one();
        let failed = keeper.failed(CertThumbprint::of_der(b"certificate"), &error, &mut backoff);
        tokio::join!(failed, async { tokens.operator_is_back() });
        monotonic() - begun
    }

    #[tokio::test(start_paused = true)]
    async fn a_keeper_asks_again_as_soon_as_the_operator_is_back() {
        assert_eq!(wait_after(FetchError::Unreachable("connection refused".into())).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_wants_to_be_left_alone_is() {
        let (status, rest) = (http::StatusCode::TOO_MANY_REQUESTS, Duration::from_secs(7));
        assert!(wait_after(FetchError::Busy { status, rest }).await >= rest);
    }
}
