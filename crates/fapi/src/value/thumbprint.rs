use std::{
    fmt,
    hash::{Hash, Hasher},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::InvalidValue;
use crate::crypto;

/// SHA-256 of a DER certificate: the value of `x5t#S256` (RFC 8705 section 3.1). Compared in constant time.
#[derive(Clone, Copy, Eq)]
pub struct CertThumbprint([u8; 32]);

impl CertThumbprint {
    /// The thumbprint of a certificate, over its DER bytes as received.
    #[must_use]
    pub fn of_der(der: &[u8]) -> Self {
        Self(crypto::sha256(der))
    }

    /// Reads base64url without padding: exactly 43 characters, nothing else (no hex, no colons).
    ///
    /// # Errors
    /// Any other text.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        parse_digest(text).map(Self).ok_or(InvalidValue::new("x5t#S256", NOT_A_DIGEST))
    }
}

/// SHA-256 thumbprint of a public JWK (RFC 7638): the value of `jkt` (RFC 9449 section 6.1). Compared in constant time.
#[derive(Clone, Copy, Eq)]
pub struct JwkThumbprint([u8; 32]);

impl JwkThumbprint {
    /// Reads base64url without padding: exactly 43 characters.
    ///
    /// # Errors
    /// Any other text.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        parse_digest(text).map(Self).ok_or(InvalidValue::new("jkt", NOT_A_DIGEST))
    }

    /// The thumbprint of a key, given its required members in RFC 7638 canonical form.
    pub(crate) fn of_canonical(json: &[u8]) -> Self {
        Self(crypto::sha256(json))
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// SHA-256 of a token as sent. [`fmt::Display`] shows its first 16 characters, enough for a log and useless to a thief.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self::of_bytes(token.as_bytes())
    }

    pub(crate) fn of_bytes(token: &[u8]) -> Self {
        Self(crypto::sha256(token))
    }

    /// The whole hash as the `ath` claim of a proof wants it (RFC 9449 section 4.2).
    #[must_use]
    pub fn ath(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    pub(crate) fn is_ath(&self, text: &str) -> bool {
        parse_digest(text).is_some_and(|digest| crypto::equal(&digest, &self.0))
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (head, _) = self.0.split_at(12);
        write_base64(f, head)
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenHash({self})")
    }
}

macro_rules! digest {
    ($name:ident) => {
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                crypto::equal(&self.0, &other.0)
            }
        }

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.0.hash(state);
            }
        }

        /// base64url without padding, 43 characters.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_base64(f, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}
digest!(CertThumbprint);
digest!(JwkThumbprint);

fn write_base64(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    write!(f, "{}", base64::display::Base64Display::new(bytes, &URL_SAFE_NO_PAD))
}

fn parse_digest(text: &str) -> Option<[u8; 32]> {
    if text.len() != 43 {
        return None;
    }
    let mut out = [0; 32];
    (URL_SAFE_NO_PAD.decode_slice(text, &mut out) == Ok(32)).then_some(out)
}

const NOT_A_DIGEST: &str = "want 43 characters of base64url, a SHA-256 without padding";
