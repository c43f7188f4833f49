//! The only file of this crate that names the crypto library.

use aws_lc_rs::{
    constant_time, digest, hmac, pkcs8, rand,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, KeyPair as _, ParsedPublicKey,
        RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
    },
};

use crate::value::SigningAlg;

/// SHA-256.
pub(crate) fn sha256(data: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
    out
}

/// Whether two byte strings are equal, in a time that depends on their length alone.
pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

/// A key for HMAC-SHA256.
pub(crate) struct MacKey(hmac::Key);

impl MacKey {
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The first 16 bytes of the tag.
    pub(crate) fn tag(&self, data: &[u8]) -> [u8; 16] {
        let mut out = [0; 16];
        let tag = hmac::sign(&self.0, data);
        for (to, from) in out.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        out
    }
}

/// A public key, parsed once and fit for exactly one algorithm.
#[derive(Debug)]
pub(crate) struct PublicKey {
    alg: SigningAlg,
    key: ParsedPublicKey,
}

impl PublicKey {
    /// A P-256 point: `x` and `y`, 32 bytes each; must lie on the curve.
    pub(crate) fn p256(x: &[u8; 32], y: &[u8; 32]) -> Option<Self> {
        let mut point = [4; 65];
        for (to, from) in point.iter_mut().skip(1).zip(x.iter().chain(y)) {
            *to = *from;
        }
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok()?;
        Some(Self { alg: SigningAlg::Es256, key })
    }

    /// An Ed25519 point, not of small order: under such a key one signature fits every message.
    pub(crate) fn ed25519(x: &[u8; 32]) -> Option<Self> {
        if is_small_order(x) {
            return None;
        }
        let key = ParsedPublicKey::new(&ED25519, x).ok()?;
        Some(Self { alg: SigningAlg::EdDsa, key })
    }

    /// An RSA key of big-endian modulus and exponent.
    pub(crate) fn rsa(n: &[u8], e: &[u8]) -> Option<Self> {
        let key = RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PSS_2048_8192_SHA256).ok()?;
        Some(Self { alg: SigningAlg::Ps256, key })
    }

    pub(crate) const fn alg(&self) -> SigningAlg {
        self.alg
    }

    /// Whether `signature` (ECDSA: r and s, 32 bytes each) is one of this key over `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }
}

/// An ES256 key pair, parsed once. The private half never leaves it but as PKCS#8.
pub(crate) struct P256Pair(EcdsaKeyPair);

/// PKCS#8 bytes that are wiped when dropped.
pub(crate) struct Pkcs8(pkcs8::Document);

impl AsRef<[u8]> for Pkcs8 {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl P256Pair {
    pub(crate) fn generate() -> Option<Self> {
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok().map(Self)
    }

    pub(crate) fn from_pkcs8(der: &[u8]) -> Option<Self> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).ok().map(Self)
    }

    pub(crate) fn to_pkcs8(&self) -> Option<Pkcs8> {
        self.0.to_pkcs8v1().ok().map(Pkcs8)
    }

    /// `x` and `y` of the public point.
    pub(crate) fn public(&self) -> Option<([u8; 32], [u8; 32])> {
        let point = self.0.public_key().as_ref().strip_prefix(&[4])?;
        let (x, y) = point.split_first_chunk()?;
        Some((*x, y.try_into().ok()?))
    }

    /// The signature as `r` and `s`, 32 bytes each (RFC 7518 section 3.4).
    pub(crate) fn sign(&self, message: &[u8]) -> Option<[u8; 64]> {
        self.0.sign(&rand::SystemRandom::new(), message).ok()?.as_ref().try_into().ok()
    }
}

/// Whether a point has order 1, 2, 4 or 8, in any of its encodings.
fn is_small_order(point: &[u8; 32]) -> bool {
    let mut y = *point;
    if let Some(last) = y.last_mut() {
        // The sign of x does not change the order.
        *last &= 0x7f;
    }
    let edge = |first: u8, middle: u8, last: u8| {
        let [head, rest @ .., tail] = &y;
        *head == first && *tail == last && rest.iter().all(|byte| *byte == middle)
    };
    // y = 0 and 1; then p - 1, p and p + 1, where p = 2^255 - 19; then the two y of order 8.
    edge(0, 0, 0)
        || edge(1, 0, 0)
        || edge(0xec, 0xff, 0x7f)
        || edge(0xed, 0xff, 0x7f)
        || edge(0xee, 0xff, 0x7f)
        || ORDER_8.contains(&y)
}

const ORDER_8: [[u8; 32]; 2] = [
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// Keys of the kinds that we verify and do not sign with.
#[cfg(test)]
pub(crate) mod testing {
    use aws_lc_rs::{
        encoding::{AsDer, Pkcs8V1Der},
        rsa::KeySize,
        signature::{Ed25519KeyPair, RsaKeyPair},
    };

    use super::*;

    pub(crate) fn rsa_pkcs8(bits: usize) -> Vec<u8> {
        let size = if bits == 2048 { KeySize::Rsa2048 } else { KeySize::Rsa3072 };
        let pair = RsaKeyPair::generate(size).unwrap();
        AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap().as_ref().to_vec()
    }

    pub(crate) fn ed25519_pkcs8() -> Vec<u8> {
        Ed25519KeyPair::generate_pkcs8v1(&rand::SystemRandom::new()).unwrap().as_ref().to_vec()
    }

    /// Whether the crypto library alone would take a signature under any Ed25519 key.
    pub(crate) fn library_takes(key: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
        ParsedPublicKey::new(&ED25519, key).is_ok_and(|key| key.verify_sig(message, signature).is_ok())
    }
}

#[cfg(test)]
mod tests;
