//! Compact JWS (RFC 7515 section 7.1): reading, strictly, and signing.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    crypto::{P256Pair, Pkcs8, PublicKey},
    json::{Members, NotStrict, View},
    value::{JwkThumbprint, SigningAlg},
};

/// A compact JWS whose header and payload are strict JSON objects. Nothing is proven by it.
pub(crate) struct Compact<'a> {
    header: &'a str,
    payload: Members,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Compact<'a> {
    /// Reads a JWS of at most `max` bytes; its header is read by [`Compact::header`]. The signature may be empty: which
    /// algorithms count is decided later.
    pub(crate) fn parse(text: &'a str, max: usize) -> Result<Self, NotStrict> {
        if text.len() > max {
            return Err(NotStrict);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(NotStrict)?;
        let (header, payload) = signed.split_once('.').ok_or(NotStrict)?;
        let payload = Members::parse(&decode(payload)?)?;
        Ok(Self { header, payload, signed, signature: decode(signature)? })
    }

    /// The header as it stands there, encoded.
    pub(crate) const fn header_text(&self) -> &'a str {
        self.header
    }

    /// Reads the header. Refuses every critical extension, as none is understood (RFC 7515 section 4.1.11), and `b64`
    /// (RFC 7797).
    pub(crate) fn header(&self) -> Result<Members, NotStrict> {
        let header = Members::parse(&decode(self.header)?)?;
        if header.view().has("crit") || header.view().has("b64") { Err(NotStrict) } else { Ok(header) }
    }

    pub(crate) const fn payload(&self) -> View<'_> {
        self.payload.view()
    }

    /// Whether this key made the signature.
    pub(crate) fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.verifies(self.signed.as_bytes(), &self.signature)
    }
}

/// base64url without padding, without anything else, in its one spelling (RFC 7515 section 2).
fn decode(text: &str) -> Result<Vec<u8>, NotStrict> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| NotStrict)
}

/// A P-256 key that signs ES256: the issuer's, a sidecar's proof key, a client's. Its private half is never printed.
pub struct SigningKey {
    pair: P256Pair,
    x: String,
    y: String,
    thumbprint: JwkThumbprint,
    kid: String,
}

/// Why a key could not be made or used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// The bytes are no key that may be used here.
    #[error("not a PKCS#8 private key on P-256; make a new one")]
    NotAKey,
    /// The crypto library refused, for example for want of entropy.
    #[error("the crypto library could not do it; try again")]
    Crypto,
    /// The claims do not serialise to JSON.
    #[error("the claims are no JSON object")]
    NotJson,
}

/// A private key in PKCS#8 DER; the bytes are wiped when dropped.
pub struct PrivateKeyDer(Pkcs8);

impl AsRef<[u8]> for PrivateKeyDer {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl SigningKey {
    /// A new random key.
    ///
    /// # Errors
    /// [`SigningError::Crypto`].
    pub fn generate() -> Result<Self, SigningError> {
        Self::new(P256Pair::generate().ok_or(SigningError::Crypto)?)
    }

    /// The key of a PKCS#8 document.
    ///
    /// # Errors
    /// [`SigningError::NotAKey`] for anything but a P-256 private key.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, SigningError> {
        Self::new(P256Pair::from_pkcs8(der).ok_or(SigningError::NotAKey)?)
    }

    /// The key as PKCS#8, to be stored.
    ///
    /// # Errors
    /// [`SigningError::Crypto`].
    pub fn to_pkcs8_der(&self) -> Result<PrivateKeyDer, SigningError> {
        self.pair.to_pkcs8().map(PrivateKeyDer).ok_or(SigningError::Crypto)
    }

    /// The public key as JWK with `kty`, `crv`, `x` and `y` alone, as a proof carries it.
    #[must_use]
    pub fn public_jwk(&self) -> Value {
        json!({"kty": "EC", "crv": "P-256", "x": self.x, "y": self.y})
    }

    /// The RFC 7638 thumbprint of the public key.
    #[must_use]
    pub const fn thumbprint(&self) -> JwkThumbprint {
        self.thumbprint
    }

    /// The key id: the thumbprint.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Signs a compact JWS. The header must say `"alg":"ES256"`; it is not looked at.
    ///
    /// # Errors
    /// [`SigningError::Crypto`].
    pub fn sign_compact(&self, header: &[u8], payload: &[u8]) -> Result<String, SigningError> {
        let mut text = String::with_capacity((header.len() + payload.len()) * 4 / 3 + 96);
        URL_SAFE_NO_PAD.encode_string(header, &mut text);
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut text);
        let signature = self.pair.sign(text.as_bytes()).ok_or(SigningError::Crypto)?;
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        Ok(text)
    }

    /// Signs claims as a JWT with `alg`, `kid` and this `typ`.
    ///
    /// # Errors
    /// [`SigningError::NotJson`] or [`SigningError::Crypto`].
    pub fn sign_jwt(&self, typ: &str, claims: &impl Serialize) -> Result<String, SigningError> {
        let header = json!({"alg": SigningAlg::Es256.name(), "kid": self.kid, "typ": typ}).to_string();
        let payload = serde_json::to_vec(claims).map_err(|_| SigningError::NotJson)?;
        self.sign_compact(header.as_bytes(), &payload)
    }

    fn new(pair: P256Pair) -> Result<Self, SigningError> {
        let (x, y) = pair.public().ok_or(SigningError::NotAKey)?;
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let thumbprint = JwkThumbprint::of_canonical(canonical.as_bytes());
        Ok(Self { pair, x, y, thumbprint, kid: thumbprint.to_string() })
    }
}

/// Shows the key id, never the key.
impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.kid)
    }
}

#[cfg(test)]
pub(crate) mod tests;
