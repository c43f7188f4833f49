use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    crypto::{self, MacKey},
    value::UnixTime,
};

/// Makes and recognises the nonces of one process (RFC 9449 section 8): the time and a MAC over it, so nothing is stored.
///
/// The secret is random and made at start, so nonces of another process, or of this one before a restart, are stale.
pub struct NonceMinter(MacKey);

impl NonceMinter {
    /// A minter with this secret, which must be random and new.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self(MacKey::new(&secret))
    }

    /// A nonce of this time; good for 300 seconds.
    #[must_use]
    pub fn mint(&self, now: UnixTime) -> String {
        let time = now.as_secs().to_be_bytes();
        let mut bytes = [0; 24];
        for (to, from) in bytes.iter_mut().zip(time.iter().chain(&self.0.tag(&time))) {
            *to = *from;
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Whether this minter made the nonce within the last 300 seconds.
    pub(crate) fn knows(&self, nonce: &str, now: UnixTime) -> bool {
        let mut bytes = [0; 24];
        if nonce.len() != 32 || URL_SAFE_NO_PAD.decode_slice(nonce, &mut bytes).is_err() {
            return false;
        }
        let Some((time, tag)) = bytes.split_first_chunk::<8>() else { return false };
        let minted = UnixTime::from_secs(u64::from_be_bytes(*time));
        crypto::equal(&self.0.tag(time), tag) && minted <= now && now <= minted.plus(LIFE)
    }
}

/// Never shows the secret.
impl std::fmt::Debug for NonceMinter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NonceMinter")
    }
}

/// Seconds that a nonce is good for.
const LIFE: u64 = 300;
