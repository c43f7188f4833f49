//! Randomness: from the TLS provider's generator, so that there is one source in the process.

use std::{sync::OnceLock, time::Duration};

use rustls::crypto::{GetRandomFailed, SecureRandom};

/// `N` unpredictable bytes.
///
/// # Errors
/// The generator of the operating system failed; whatever needed the bytes must not go on.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], GetRandomFailed> {
    let mut bytes = [0; N];
    source().fill(&mut bytes)?;
    Ok(bytes)
}

/// A time between the two, for jitter. Falls back to `low` without randomness: jitter protects nothing.
pub(crate) fn between(low: Duration, high: Duration) -> Duration {
    let span = high.saturating_sub(low);
    let part = u32::from_be_bytes(bytes().unwrap_or_default());
    low + span.mul_f64(f64::from(part) / f64::from(u32::MAX))
}

fn source() -> &'static dyn SecureRandom {
    static SOURCE: OnceLock<&'static dyn SecureRandom> = OnceLock::new();
    *SOURCE.get_or_init(|| control::tls::provider().secure_random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_between_its_ends() {
        let (low, high) = (Duration::from_millis(10), Duration::from_millis(20));
        for _ in 0..100 {
            let wait = between(low, high);
            assert!(low <= wait && wait <= high);
        }
        assert_eq!(between(high, low), high);
    }

    #[test]
    fn bytes_differ() {
        assert_ne!(bytes::<16>().unwrap_or_default(), bytes::<16>().unwrap_or_default());
    }
}
