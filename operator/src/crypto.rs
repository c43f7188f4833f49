//! The one file of the operator that names the crypto library for itself; certificates, TLS and tokens
//! use the same one through `rcgen`, `control` and `fapi`.

use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use aws_lc_rs::{digest, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// `N` random bytes: serials, token ids, nonce secrets.
///
/// The generator cannot fail once it is seeded. Were it to, ending the process is the only safe answer,
/// because whatever is made without randomness can be guessed.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if rand::fill(&mut bytes).is_err() {
        tracing::error!("the random generator of the crypto library failed; the operator ends");
        std::process::abort();
    }
    bytes
}

/// A time from `low` on and before `high`, so that what begins together does not go on together.
pub(crate) fn between(low: Duration, high: Duration) -> Duration {
    let [part] = random();
    low + high.saturating_sub(low) * u32::from(part) / 256
}

/// SHA-256 in base64url: two documents of the same digest are the same document.
pub(crate) fn digest(document: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, document))
}

/// SHA-256 in hexadecimal: names for content, never a secret.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether `signature` is an ES256 signature (RFC 7518 section 3.4) over `message` by the key with this
/// uncompressed point.
pub(crate) fn verify_es256(point: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_do_not_repeat() {
        assert_ne!(random::<16>(), random::<16>());
    }

    #[test]
    fn times_lie_between_their_bounds_and_differ() {
        let (low, high) = (Duration::from_secs(3), Duration::from_secs(4));
        let times: std::collections::BTreeSet<Duration> = (0..100).map(|_| between(low, high)).collect();
        assert!(times.len() > 10 && times.iter().all(|time| (low..high).contains(time)), "{times:?}");
        assert_eq!(between(low, low), low);
    }

    #[test]
    fn an_empty_or_zero_signature_verifies_nothing() {
        let point = [4; 65];
        assert!(!verify_es256(&point, b"message", b""));
        assert!(!verify_es256(&point, b"message", &[0; 64]));
        assert!(!verify_es256(&[], b"message", &[0; 64]));
    }
}
