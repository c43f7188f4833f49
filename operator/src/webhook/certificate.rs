//! The certificate of one replica: in memory only, replaced before it ends.

use std::sync::Arc;
use std::time::Duration;

use control::tls::Identity;
use fapi::UnixTime;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::watch;

use super::authority::Authority;
use super::{Meter, Service};
use crate::clock::Clock;
use crate::pki::{self, PkiError};

/// A week; it is made anew after half of it.
const LIFE: u64 = 7 * 24 * 3600;
/// Timers stand still while a machine sleeps, so the clock is asked at least this often.
const CHECK: Duration = Duration::from_secs(30);

/// Keeps the serving certificate current.
pub(crate) struct Certificate {
    /// The authority in force, which others may replace by a newer one.
    authority: watch::Receiver<Arc<Authority>>,
    host: String,
    clock: Clock,
    current: watch::Sender<Arc<Identity>>,
    renew_at: UnixTime,
    meter: Meter,
}

impl Certificate {
    /// Makes the first one, for the name by which API servers reach the Service.
    pub(crate) fn start(
        authority: watch::Receiver<Arc<Authority>>,
        service: &Service,
        clock: Clock,
        meter: Meter,
    ) -> Result<Self, PkiError> {
        let host = format!("{}.{}.svc", service.name, service.namespace);
        let made = make(&authority.borrow(), &host, clock.now())?;
        let current = watch::Sender::new(Arc::new(made.identity));
        let certificate = Self { authority, host, clock, current, renew_at: made.renew_at, meter };
        certificate.show(made.not_after);
        Ok(certificate)
    }

    /// The identity to serve with, now and after each renewal.
    pub(crate) fn identity(&self) -> watch::Receiver<Arc<Identity>> {
        self.current.subscribe()
    }

    /// Renews until `shutdown` says true. A failed renewal is logged and tried again.
    pub(crate) async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        loop {
            let wait = self.clock.until(self.renew_at).min(CHECK).max(Duration::from_secs(1));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = shutdown.wait_for(|end| *end) => return,
            }
            if let Err(error) = self.tick() {
                tracing::error!(event = "pki", %error, "cannot renew the certificate of the webhook");
            }
        }
    }

    /// Renews what is due.
    pub(super) fn tick(&mut self) -> Result<(), PkiError> {
        let replaced = self.authority.has_changed().unwrap_or(false);
        if replaced || self.clock.now() >= self.renew_at {
            let authority = self.authority.borrow_and_update().clone();
            let made = make(&authority, &self.host, self.clock.now())?;
            self.renew_at = made.renew_at;
            self.current.send_replace(Arc::new(made.identity));
            self.show(made.not_after);
        }
        Ok(())
    }

    fn show(&self, not_after: UnixTime) {
        self.meter.serves_until(not_after);
        self.meter.trusted_until(self.authority.borrow().not_after());
    }
}

/// A certificate that was just made.
struct Made {
    identity: Identity,
    not_after: UnixTime,
    renew_at: UnixTime,
}

fn make(authority: &Authority, host: &str, now: UnixTime) -> Result<Made, PkiError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    let not_after = now.plus(LIFE).min(authority.not_after());
    pki::set_validity(&mut params, now, not_after);
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::DnsName(host.try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let leaf = authority.sign(params, &key)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let left = not_after.as_secs().saturating_sub(now.as_secs());
    Ok(Made { identity: Identity::new(vec![leaf], key)?, not_after, renew_at: now.plus(left / 2) })
}
