//! A certificate signing request: only a P-256 key is taken from it, and the request holds that key.
#![no_main]

#[allow(dead_code, reason = "the operator uses more of it")]
#[path = "../../operator/src/pki/csr.rs"]
mod csr;

use libfuzzer_sys::fuzz_target;
use rcgen::PublicKeyData;

fuzz_target!(|der: &[u8]| {
    let Ok(key) = csr::PublicKey::from_csr(der) else { return };
    let point = key.der_bytes();
    assert!(point.len() == 65 && point[0] == 4);
    assert!(der.windows(65).any(|window| window == point));
    assert!(key.is(&key.subject_public_key_info()));
    assert!(csr::PublicKey::from_csr(&[der, b"\0"].concat()).is_err());
    // Nobody can sign what was changed.
    let last = der.len() - 40;
    let mut changed = der.to_vec();
    changed[last] ^= 1;
    assert!(csr::PublicKey::from_csr(&changed).is_err());
});
