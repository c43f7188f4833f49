//! A leaf certificate: what it names stands in it, and prints as it was read.
#![no_main]

use control::identity::{member_from_leaf, peer_from_leaf};
use fapi::{CertThumbprint, SpiffeId, TrustDomain};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|der: &[u8]| {
    let Ok(peer) = peer_from_leaf(der) else { return };
    let name = peer.spiffe_id.to_string();
    assert_eq!(SpiffeId::parse(&name), Ok(peer.spiffe_id.clone()));
    assert!(der.windows(name.len()).any(|window| window == name.as_bytes()), "{name}");
    assert_eq!(peer.thumbprint, CertThumbprint::of_der(der));
    let domain = |name: &str| TrustDomain::parse(name).unwrap();
    assert!(member_from_leaf(der, &domain(peer.spiffe_id.trust_domain())).is_ok());
    assert!(
        member_from_leaf(der, &domain("elsewhere.example")).is_err() || name.starts_with("spiffe://elsewhere.example/")
    );
    // Nothing may follow the certificate.
    assert!(peer_from_leaf(&[der, b"\0"].concat()).is_err());
});
