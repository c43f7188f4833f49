//! A certificate authority.

use std::{sync::Arc, time::Duration};

use control::tls::{Identity, TrustBundle};
use fapi::{SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::clock::Clock;

pub(crate) const TRUST_DOMAIN: &str = "bank.example";

pub(crate) fn trust_domain() -> TrustDomain {
    TrustDomain::parse(TRUST_DOMAIN).unwrap()
}

/// The identity of a service account in namespace `bank`.
pub(crate) fn workload(account: &str) -> SpiffeId {
    SpiffeId::new(&trust_domain(), "bank", account).unwrap()
}

pub(crate) fn operator() -> SpiffeId {
    SpiffeId::new(&trust_domain(), "fapi-mesh", control::OPERATOR_SERVICE_ACCOUNT).unwrap()
}

pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn bundle(&self) -> Arc<TrustBundle> {
        Arc::new(TrustBundle::from_pem(&trust_domain(), &self.pem).unwrap())
    }

    /// Its root and that of another, PEM.
    pub(crate) fn wider_pem(&self) -> String {
        self.pem.clone() + &Self::new().pem
    }

    /// An identity that ends after `life`.
    pub(crate) fn identity(&self, id: &SpiffeId, life: Duration) -> Arc<Identity> {
        let key = KeyPair::generate().unwrap();
        let leaf = self.leaf(id, &key, life);
        Arc::new(Identity::new(vec![leaf], PrivateKeyDer::Pkcs8(key.serialize_der().into())).unwrap())
    }

    pub(crate) fn leaf(&self, id: &SpiffeId, key: &impl PublicKeyData, life: Duration) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_millis(Clock::default().now_millis());
        params.not_before = now - Duration::from_secs(60);
        params.not_after = now + life;
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(key, &self.issuer).unwrap().der().clone()
    }
}
