//! The operator's own identity, made from its own authority and renewed in this process.

use std::sync::Arc;
use std::time::Duration;

use control::tls::Identity;
use fapi::{SpiffeId, UnixTime};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::watch;

use super::{Authority, Issued, PkiError, Roots, leaf};
use crate::clock::Clock;

/// Connections end with the certificate they were made with, so this is also the longest control stream.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Timers stand still while a machine sleeps, so the clock is asked at least this often.
const CHECK: Duration = Duration::from_secs(30);

/// Keeps the operator's serving identity current.
pub(crate) struct Serving {
    authority: Arc<Authority>,
    id: SpiffeId,
    hosts: Vec<String>,
    clock: Clock,
    lifetime: Duration,
    current: watch::Sender<Arc<Identity>>,
    renew_at: UnixTime,
    /// Changes when another authority signs.
    roots: watch::Receiver<Arc<Roots>>,
    /// The authority that signed the current one.
    signer: Vec<u8>,
}

impl Serving {
    /// Makes the first certificate: `id`, this machine, and the host of the issuer's URL (an IP address or DNS name), by
    /// which clients outside the mesh check it.
    pub(crate) fn start(
        authority: Arc<Authority>,
        id: SpiffeId,
        issuer_host: &str,
        clock: Clock,
    ) -> Result<Self, PkiError> {
        let hosts = ["127.0.0.1", "::1", "localhost", issuer_host].map(str::to_owned).to_vec();
        Self::with_lifetime(authority, id, hosts, clock, LIFETIME)
    }

    pub(super) fn with_lifetime(
        authority: Arc<Authority>,
        id: SpiffeId,
        hosts: Vec<String>,
        clock: Clock,
        lifetime: Duration,
    ) -> Result<Self, PkiError> {
        let mut roots = authority.roots();
        let signer = roots.borrow_and_update().signer.clone();
        let (identity, renew_at) = make(&authority, &id, &hosts, lifetime, clock.now())?;
        let current = watch::Sender::new(Arc::new(identity));
        Ok(Self { authority, id, hosts, clock, lifetime, current, renew_at, roots, signer })
    }

    /// The identity to serve with, now and after each renewal.
    pub(crate) fn identity(&self) -> watch::Receiver<Arc<Identity>> {
        self.current.subscribe()
    }

    /// Renews at half the lifetime, and when another authority begins to sign, until `shutdown` says true. A failed renewal is logged and tried again.
    pub(crate) async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        loop {
            let wait = self.clock.until(self.renew_at).min(CHECK);
            tokio::select! {
                () = tokio::time::sleep(wait.max(Duration::from_secs(1))) => {}
                Ok(()) = self.roots.changed() => {}
                _ = shutdown.wait_for(|end| *end) => return,
            }
            if let Err(error) = self.tick() {
                tracing::error!(event = "pki", %error, "cannot renew a certificate of the operator");
            }
        }
    }

    /// Renews what is due.
    pub(super) fn tick(&mut self) -> Result<(), PkiError> {
        let now = self.clock.now();
        self.authority.renew_issuing(now)?;
        let signer = self.roots.borrow_and_update().signer.clone();
        if now >= self.renew_at || signer != self.signer {
            let (identity, renew_at) = make(&self.authority, &self.id, &self.hosts, self.lifetime, now)?;
            (self.renew_at, self.signer) = (renew_at, signer);
            self.current.send_replace(Arc::new(identity));
        }
        Ok(())
    }
}

/// The identity that only the operator itself has.
pub(crate) fn identity_of(authority: &Authority, operator_namespace: &str) -> Result<SpiffeId, fapi::InvalidValue> {
    SpiffeId::new(authority.trust_domain(), operator_namespace, control::OPERATOR_SERVICE_ACCOUNT)
}

fn make(
    authority: &Authority,
    id: &SpiffeId,
    hosts: &[String],
    lifetime: Duration,
    now: UnixTime,
) -> Result<(Identity, UnixTime), PkiError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = leaf::params(id)?;
    leaf::add_hosts(&mut params, hosts)?;
    let Issued { chain, not_after, .. } = authority.sign(params, &key, lifetime, now)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let identity = Identity::new(chain, key)?;
    let left = not_after.as_secs().saturating_sub(now.as_secs());
    Ok((identity, now.plus(left / 2)))
}
