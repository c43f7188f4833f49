//! A public JSON Web Key (RFC 7517), read strictly before it is hashed or used.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    crypto::PublicKey,
    json::View,
    value::{JwkThumbprint, SigningAlg},
};

/// A usable public key and its RFC 7638 thumbprint.
#[derive(Debug)]
pub(crate) struct Jwk {
    pub(crate) key: PublicKey,
    pub(crate) thumbprint: JwkThumbprint,
}

impl Jwk {
    /// Reads a key that one of the allowed algorithms can use. No private member, no other curve, exact lengths; `use`,
    /// `key_ops` and `alg`, if there, must say that it verifies signatures of its algorithm.
    pub(crate) fn parse(jwk: View<'_>) -> Option<Self> {
        if PRIVATE.iter().any(|name| jwk.has(name)) || !may_verify(jwk) {
            return None;
        }
        let parsed = match jwk.text("kty").ok()?? {
            "EC" => p256(jwk),
            "OKP" => ed25519(jwk),
            "RSA" => rsa(jwk),
            _ => None,
        }?;
        match jwk.text("alg").ok()? {
            Some(alg) if SigningAlg::from_jose(alg) != Some(parsed.key.alg()) => None,
            _ => Some(parsed),
        }
    }
}

fn may_verify(jwk: View<'_>) -> bool {
    let good_use = jwk.value("use").is_none_or(|value| value.as_str() == Some("sig"));
    let good_ops = jwk
        .value("key_ops")
        .is_none_or(|value| value.as_array().is_some_and(|ops| ops.iter().any(|op| op.as_str() == Some("verify"))));
    good_use && good_ops
}

fn p256(jwk: View<'_>) -> Option<Jwk> {
    if jwk.text("crv").ok()?? != "P-256" {
        return None;
    }
    let (x_text, y_text) = (jwk.text("x").ok()??, jwk.text("y").ok()??);
    let key = PublicKey::p256(&exactly_32(x_text)?, &exactly_32(y_text)?)?;
    // RFC 7638 section 3.2. The texts are base64url, so nothing in them needs escaping.
    let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x_text}","y":"{y_text}"}}"#);
    Some(Jwk { key, thumbprint: JwkThumbprint::of_canonical(canonical.as_bytes()) })
}

fn ed25519(jwk: View<'_>) -> Option<Jwk> {
    if jwk.text("crv").ok()?? != "Ed25519" {
        return None;
    }
    let x_text = jwk.text("x").ok()??;
    let key = PublicKey::ed25519(&exactly_32(x_text)?)?;
    // RFC 8037 section 2.
    let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x_text}"}}"#);
    Some(Jwk { key, thumbprint: JwkThumbprint::of_canonical(canonical.as_bytes()) })
}

fn rsa(jwk: View<'_>) -> Option<Jwk> {
    let (n_text, e_text) = (jwk.text("n").ok()??, jwk.text("e").ok()??);
    if n_text.len() > MAX_MODULUS_TEXT || e_text.len() > MAX_EXPONENT_TEXT {
        return None;
    }
    let (n, e) = (URL_SAFE_NO_PAD.decode(n_text).ok()?, URL_SAFE_NO_PAD.decode(e_text).ok()?);
    let bits = n.len() * 8 - usize::try_from(n.first()?.leading_zeros()).ok()?;
    if n.first() == Some(&0) || e.first() == Some(&0) || !(2048..=8192).contains(&bits) {
        return None;
    }
    let key = PublicKey::rsa(&n, &e)?;
    let canonical = format!(r#"{{"e":"{e_text}","kty":"RSA","n":"{n_text}"}}"#);
    Some(Jwk { key, thumbprint: JwkThumbprint::of_canonical(canonical.as_bytes()) })
}

fn exactly_32(text: &str) -> Option<[u8; 32]> {
    if text.len() != 43 {
        return None;
    }
    let mut out = [0; 32];
    (URL_SAFE_NO_PAD.decode_slice(text, &mut out) == Ok(32)).then_some(out)
}

/// Members of private and symmetric keys (RFC 7518 section 6).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "k", "oth"];
/// 8192 bits.
const MAX_MODULUS_TEXT: usize = 1366;
/// 33 bits, the largest that crypto libraries take.
const MAX_EXPONENT_TEXT: usize = 7;

#[cfg(test)]
mod tests;
