//! From a new certificate to its use, in the order that leaves no request without a fitting token.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};

use super::{Certificate, enrol::EnrolError};
use crate::{control_client::backoff::Backoff, state::Shared, tokens::Tokens};

/// How much of the old certificate's life is kept in reserve: when so little is left, the new one is used even without
/// tokens, since the old one cannot be used much longer either.
const RESERVE: f64 = 0.1;
/// At least this long is tried, also when the old certificate is about to end.
const TRY_AT_LEAST: Duration = Duration::from_secs(2);

/// Puts `next` into use: first the tokens over it, then the certificate itself for new connections both ways.
pub(super) async fn rotate(shared: &Arc<Shared>, tokens: &Tokens, next: Certificate) -> Result<(), EnrolError> {
    if let Some(old) = shared.identity() {
        let left = shared.clock.until(old.not_after);
        prepare(tokens, &next, crate::clock::monotonic() + left.mul_f64(1.0 - RESERVE).max(TRY_AT_LEAST)).await;
    }
    // From here on new connections are made with it, and peers see it; the tokens for it are already there.
    shared.install_identity(next.identity.clone())?;
    tracing::info!(not_after = next.not_after.as_secs(), "a new certificate is in use");
    tokens.rotated(next);
    Ok(())
}

/// Fetches the tokens of `next`, again and again until `latest` while the issuer is away.
async fn prepare(tokens: &Tokens, next: &Certificate, latest: Instant) {
    let mut backoff = Backoff::new();
    loop {
        match timeout_at(latest, tokens.prepare(next)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                let wait = backoff.next();
                tracing::warn!(%error, retry_ms = wait.as_millis(), "the new certificate waits for its tokens");
                if timeout_at(latest, sleep(wait)).await.is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}
