//! Our own certificate: first contact, renewal, rotation.
//!
//! Tokens are bound to the hash of the whole certificate (RFC 8705 section 3.1), so a new certificate voids them all.
//! The order of a rotation is therefore: new certificate, new tokens over it, new connections; old connections end
//! within the life of their tokens; the old key is dropped with the last of them. At no point of it is there a request
//! whose token is bound to another certificate than its connection shows.

mod certificate;
mod enrol;
mod rotation;

pub(crate) use certificate::Certificate;

use std::{path::PathBuf, sync::Arc, time::Duration};

use fapi::SpiffeId;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use crate::{clock::monotonic, control_client::backoff::Backoff, random, state::Shared, tokens::Tokens};
use enrol::Enrolment;

/// A certificate is renewed at this part of its life, at the earliest; at the latest at [`RENEW_LATEST`].
const RENEW_EARLIEST: f64 = 0.62;
/// Two thirds.
const RENEW_LATEST: f64 = 2.0 / 3.0;
/// An operator that asks for renewal in a loop gets it this often.
const RENEW_EVERY: Duration = Duration::from_millis(200);

/// Where the operator is, and what first contact needs.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// `host:port` of the control server.
    pub(crate) control: String,
    /// The identity that its certificate must name.
    pub(crate) operator: SpiffeId,
    /// PEM roots, re-read at each first contact.
    pub(crate) trust_bundle: PathBuf,
    /// The workload token, re-read at each enrolment.
    pub(crate) token: PathBuf,
    /// The roots of the system, PEM, for issuers outside the mesh; re-read at each fetch of keys.
    pub(crate) roots: PathBuf,
}

/// Keeps the process certified, for ever. `renew` asks for a renewal now.
pub(crate) async fn keep(shared: Arc<Shared>, settings: Settings, tokens: Arc<Tokens>, renew: Arc<Notify>) {
    let mut backoff = Backoff::new();
    let mut enrolment = Enrolment::new(shared.clone(), settings);
    loop {
        let renewed = renew_once(&shared, &mut enrolment, &tokens).await;
        let attempts = &shared.metrics.certificates;
        match renewed {
            Ok(renew_at) => {
                attempts.succeeded.add(1);
                backoff.reset();
                sleep(RENEW_EVERY).await;
                tokio::select! {
                    () = sleep_until(renew_at) => {}
                    () = renew.notified() => tracing::info!("the operator asks for a new certificate"),
                }
            }
            Err(error) => {
                attempts.failed.add(1);
                let wait = backoff.next();
                let reason = error.rejection().map(fapi::Rejection::id);
                tracing::warn!(%error, reason, retry_ms = wait.as_millis(), "no certificate");
                sleep(wait).await;
            }
        }
    }
}

/// One certificate from the operator into use. Gives the time of the next.
async fn renew_once(
    shared: &Arc<Shared>,
    enrolment: &mut Enrolment,
    tokens: &Tokens,
) -> Result<Instant, enrol::EnrolError> {
    let begun = monotonic();
    let next = enrolment.enrol().await?;
    let life = shared.clock.until(next.not_after);
    rotation::rotate(shared, tokens, next).await?;
    Ok(begun + random::between(life.mul_f64(RENEW_EARLIEST), life.mul_f64(RENEW_LATEST)))
}
