//! The one file of this crate that names the crypto library: randomness, a hash, the TLS provider.

use std::sync::Arc;

use ::aws_lc_rs::{digest, rand};
use rustls::crypto::{CryptoProvider, aws_lc_rs};

use crate::failure::{Failure, OrFail};

/// The provider of every TLS connection that this program makes by itself.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

/// A random UUID (version 4), as interaction ids and `jti` want it.
pub(crate) fn uuid() -> Result<String, Failure> {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = random()?;
    let (g, i) = ((g & 0x0f) | 0x40, (i & 0x3f) | 0x80);
    Ok(format!(
        "{a:02x}{b:02x}{c:02x}{d:02x}-{e:02x}{f:02x}-{g:02x}{h:02x}-{i:02x}{j:02x}-{k:02x}{l:02x}{m:02x}{n:02x}{o:02x}{p:02x}"
    ))
}

/// Any number of 16 bits.
pub(crate) fn random_u16() -> Result<u16, Failure> {
    random().map(u16::from_ne_bytes)
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| "the system gave none").or_fail(
        "no randomness",
        "aws-lc",
        "check that /dev/urandom can be read",
    )?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    #[test]
    fn a_uuid_has_the_form_and_the_version_that_a_sidecar_keeps() {
        let uuid = super::uuid().unwrap();
        assert_eq!(uuid.len(), 36);
        assert_eq!(uuid.as_bytes()[14], b'4');
        assert!(matches!(uuid.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        assert_ne!(uuid, super::uuid().unwrap());
    }
}
