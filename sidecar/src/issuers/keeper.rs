//! Keeps the keys of one issuer, for as long as a policy names it.

use std::{sync::Arc, time::Duration};

use fapi::KeySet;
use tokio::time::{Instant, sleep_until};

use super::{
    Attempt, Remote,
    fetch::{Server, ServerError},
};
use crate::{clock::monotonic, control_client::backoff::Backoff, random, state::Shared};

/// Refreshes of many sidecars do not come in step: each waits between this part of the time and all of it.
const REFRESH_EARLIEST: f64 = 0.8;

/// The key set in use.
struct Good {
    /// As it was published, to see whether it has changed.
    document: bytes::Bytes,
    until: Instant,
}

/// Fetches for ever.
pub(super) async fn keep(shared: Arc<Shared>, server: Server, remote: Arc<Remote>) {
    let mut backoff = Backoff::patient();
    let mut good: Option<Good> = None;
    loop {
        let fetched = fetch(&shared, &server, &remote, good.as_ref()).await;
        let ended = monotonic();
        let wait = match fetched {
            Ok(document) => {
                good = Some(Good { document, until: ended + remote.pace.stale });
                backoff.reset();
                random::between(remote.pace.refresh.mul_f64(REFRESH_EARLIEST), remote.pace.refresh)
            }
            Err(error) => {
                let wait = backoff.next();
                let issuer = server.issuer().as_str();
                tracing::warn!(issuer, %error, retry_ms = wait.as_millis(), "no keys; those at hand stay in use for a time");
                wait
            }
        };
        remote.last.send_modify(|last| *last = Attempt { number: last.number + 1, ended: Some(ended) });
        rest(&shared, &server, &remote, &mut good, wait).await;
    }
}

/// One attempt, counted; good keys are published if they are other than those in use.
async fn fetch(
    shared: &Shared,
    server: &Server,
    remote: &Remote,
    good: Option<&Good>,
) -> Result<bytes::Bytes, ServerError> {
    let fetched = server.fetch(remote.pace.answer).await.and_then(|document| {
        let keys = KeySet::from_jwks_json(&document)?;
        // A server that has lost its keys has more likely lost its mind: the old ones stay up to their limit.
        if keys.is_empty() { Err(ServerError::NoKey) } else { Ok((document, keys)) }
    });
    let attempts = &shared.metrics.key_fetches;
    if fetched.is_ok() { &attempts.succeeded } else { &attempts.failed }.add(1);
    let (document, keys) = fetched?;
    if good.is_none_or(|good| good.document != document) {
        tracing::info!(event = "keys", issuer = server.issuer().as_str(), keys = keys.len(), "keys of an issuer");
        shared.install_keys(server.issuer().clone(), keys);
    }
    Ok(document)
}

/// Waits until it is time for the next attempt, or a request wants one. Keys that have become too old are withdrawn.
async fn rest(shared: &Shared, server: &Server, remote: &Remote, good: &mut Option<Good>, wait: Duration) {
    let next = monotonic() + wait;
    loop {
        let stale = good.as_ref().map(|good| good.until);
        tokio::select! {
            () = sleep_until(next) => return,
            () = sleep_until(stale.unwrap_or(next)), if stale.is_some() => {
                *good = None;
                tracing::error!(
                    issuer = server.issuer().as_str(),
                    "its keys are too old to be used; its tokens are refused until it can be reached"
                );
                shared.forget_keys(server.issuer());
            }
            () = remote.wanted.notified() => if remote.is_due(*remote.last.borrow()) { return },
        }
    }
}
