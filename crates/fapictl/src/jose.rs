//! Keys and signed objects, made with `jsonwebtoken`: a second opinion beside the code of the mesh. Headers
//! and claims are free, since most of what is signed here is meant to be wrong.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use serde_json::{Value, json};

use crate::crypto::sha256;
use crate::failure::{Failure, OrFail};

/// A P-256 key pair.
pub(crate) struct Key {
    pkcs8: Vec<u8>,
    x: String,
    y: String,
}

impl Key {
    /// A new one.
    pub(crate) fn generate() -> Result<Self, Failure> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
        Self::of(&pair.or_fail("no key could be made", "rcgen", "try again")?)
    }

    /// One that was kept as PKCS#8 PEM.
    pub(crate) fn from_pem(pem: &str, place: &str) -> Result<Self, Failure> {
        let pair = KeyPair::from_pem(pem);
        Self::of(&pair.or_fail("not a private key in PEM", place, "make it anew")?)
    }

    /// One that was kept as PKCS#8 DER.
    pub(crate) fn from_der(der: &[u8], place: &str) -> Result<Self, Failure> {
        let pair = KeyPair::try_from(der);
        Self::of(&pair.or_fail("not a private key in DER", place, "make it anew")?)
    }

    fn of(pair: &KeyPair) -> Result<Self, Failure> {
        // An uncompressed point: 4, x, y.
        let point = pair.der_bytes();
        let halves = match point {
            [4, halves @ ..] if halves.len() == 64 => halves.split_at(32),
            _ => return Err(Failure::new("not a P-256 key", "the key", "make it anew")),
        };
        Ok(Self { pkcs8: pair.serialize_der(), x: base64(halves.0), y: base64(halves.1) })
    }

    /// PKCS#8 DER of the private key.
    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// PKCS#8 PEM of the private key.
    pub(crate) fn pem(&self) -> String {
        crate::identity::pem("PRIVATE KEY", &self.pkcs8)
    }

    /// A certificate request that asks for nothing but this key: names are the operator's to give.
    pub(crate) fn csr(&self) -> Result<Vec<u8>, Failure> {
        let pair = KeyPair::try_from(self.pkcs8.as_slice());
        let request = pair.and_then(|pair| rcgen::CertificateParams::default().serialize_request(&pair));
        let request = request.or_fail("no certificate request could be made", "rcgen", "try again")?;
        Ok(request.der().to_vec())
    }

    /// The public key as a JWK.
    pub(crate) fn jwk(&self) -> Value {
        json!({"kty": "EC", "crv": "P-256", "x": self.x, "y": self.y})
    }

    /// RFC 7638: the hash of the members that matter, in their one order.
    pub(crate) fn thumbprint(&self) -> String {
        let text = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, self.x, self.y);
        base64(&sha256(text.as_bytes()))
    }

    /// A compact JWS with exactly this header and these claims, ES256.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> Result<String, Failure> {
        signed(header, claims, &EncodingKey::from_ec_der(&self.pkcs8), Algorithm::ES256)
    }
}

/// A compact JWS with an HMAC, as if `secret` were shared.
pub(crate) fn hmac(header: &Value, claims: &Value, secret: &[u8]) -> Result<String, Failure> {
    signed(header, claims, &EncodingKey::from_secret(secret), Algorithm::HS256)
}

/// A compact object without any signature.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.", signing_input(header, claims))
}

fn signed(header: &Value, claims: &Value, key: &EncodingKey, algorithm: Algorithm) -> Result<String, Failure> {
    let input = signing_input(header, claims);
    let signature = crypto::sign(input.as_bytes(), key, algorithm);
    let signature = signature.or_fail("cannot sign", "jsonwebtoken", "make the key anew")?;
    Ok(format!("{input}.{signature}"))
}

fn signing_input(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| base64(value.to_string().as_bytes());
    format!("{}.{}", part(header), part(claims))
}

/// Header and claims of a compact object, unverified; `Null` for what cannot be read.
pub(crate) fn read(token: &str) -> (Value, Value) {
    let mut parts = token.split('.').map(|part| {
        let bytes = URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    });
    let mut next = || parts.next().unwrap_or_default();
    (next(), next())
}

/// The object with other claims under the old header and signature.
pub(crate) fn with_claims(token: &str, claims: &Value) -> String {
    let (header, rest) = token.split_once('.').unwrap_or_default();
    let (_, signature) = rest.split_once('.').unwrap_or_default();
    format!("{header}.{}.{signature}", base64(claims.to_string().as_bytes()))
}

/// base64url without padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use jsonwebtoken::{DecodingKey, Validation, decode};

    use super::*;

    #[test]
    fn what_a_key_signs_its_jwk_verifies() {
        let key = Key::generate().unwrap();
        let token = key.sign(&json!({"alg": "ES256"}), &json!({"a": 1})).unwrap();
        let public = serde_json::from_value(key.jwk()).unwrap();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        let data = decode::<Value>(&token, &DecodingKey::from_jwk(&public).unwrap(), &validation).unwrap();
        assert_eq!(data.claims, json!({"a": 1}));
        assert_eq!(read(&token), (json!({"alg": "ES256"}), json!({"a": 1})));
    }

    #[test]
    fn a_kept_key_is_the_same_key() {
        let key = Key::generate().unwrap();
        let again = Key::from_der(key.pkcs8(), "").unwrap();
        assert_eq!(key.thumbprint(), again.thumbprint());
    }

    #[test]
    fn thumbprint_of_a_known_key() {
        // The example key of RFC 9449, whose thumbprint stands in its section 6.1.
        let key = Key {
            pkcs8: Vec::new(),
            x: "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs".to_owned(),
            y: "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA".to_owned(),
        };
        assert_eq!(key.thumbprint(), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
    }

    #[test]
    fn other_claims_leave_header_and_signature() {
        let token = with_claims("aa.bb.cc", &json!({}));
        assert_eq!(token, "aa.e30.cc");
    }
}
