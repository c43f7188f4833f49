//! Makes the tokens and proofs of the vectors, good ones and bent ones, with keys that are fixed.

use aws_lc_rs::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use fapi::{CertThumbprint, NonceMinter, SigningKey, TokenHash, UnixTime};
use serde_json::{Map, Value, json};

use crate::peers;

pub(crate) const ISSUER: &str = "https://issuer.fapi-mesh";
pub(crate) const AUDIENCE: &str = "https://payments.bank";
pub(crate) const SHOP: &str = "spiffe://bank.example/ns/bank/sa/shop";
pub(crate) const NOW: u64 = 1_800_000_000;
/// The secret of the nonces.
pub(crate) const SECRET: [u8; 32] = [7; 32];

/// A key pair of the test world; the private half is this byte, 32 times.
#[derive(Clone, Copy)]
pub(crate) enum Key {
    Issuer = 0x11,
    Proof = 0x22,
    Other = 0x33,
}

impl Key {
    pub(crate) fn pair(self) -> SigningKey {
        // PKCS#8 around a private key of RFC 5915 that leaves its public half out.
        let head = "304102010030130607 2a8648ce3d020106082a8648ce3d030107 0427302502010104 20".replace(' ', "");
        let mut der: Vec<u8> =
            (0..head.len()).step_by(2).map(|at| u8::from_str_radix(&head[at..at + 2], 16).unwrap()).collect();
        der.extend([self as u8; 32]);
        SigningKey::from_pkcs8_der(&der).unwrap()
    }

    pub(crate) fn jwk(self) -> Value {
        self.pair().public_jwk()
    }

    /// The JWK as an issuer publishes it.
    pub(crate) fn published(self, kid: &str) -> Value {
        let mut jwk = self.jwk();
        jwk["kid"] = kid.into();
        jwk
    }
}

/// A JWT before it is signed.
#[derive(Clone)]
pub(crate) struct Jwt {
    pub(crate) header: Map<String, Value>,
    pub(crate) claims: Map<String, Value>,
    key: Key,
}

impl Jwt {
    fn new(header: Value, claims: Value, key: Key) -> Self {
        let members = |value: Value| value.as_object().unwrap().clone();
        Self { header: members(header), claims: members(claims), key }
    }

    pub(crate) fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.claims.remove(name).unwrap();
        self
    }

    pub(crate) fn head(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn headless(mut self, name: &str) -> Self {
        self.header.remove(name).unwrap();
        self
    }

    /// Signed by another key.
    pub(crate) fn by(mut self, key: Key) -> Self {
        self.key = key;
        self
    }

    /// Header and claims as texts.
    pub(crate) fn texts(&self) -> (String, String) {
        (Value::from(self.header.clone()).to_string(), Value::from(self.claims.clone()).to_string())
    }

    pub(crate) fn sign(&self) -> String {
        let (header, claims) = self.texts();
        signed_texts(self.key, &header, &claims)
    }

    /// With this signature, whatever it is.
    pub(crate) fn with_signature(&self, signature: &[u8]) -> String {
        let (header, claims) = self.texts();
        format!("{}.{}.{}", base64url(header), base64url(claims), base64url(signature))
    }

    /// Signed with the MAC of a text as key.
    pub(crate) fn mac(&self, secret: &str) -> String {
        let (header, claims) = self.texts();
        let text = format!("{}.{}", base64url(header), base64url(claims));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), text.as_bytes());
        format!("{text}.{}", base64url(tag))
    }
}

/// A JWS over these very texts.
pub(crate) fn signed_texts(key: Key, header: &str, claims: &str) -> String {
    key.pair().sign_compact(header.as_bytes(), claims.as_bytes()).unwrap()
}

pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The thumbprint of the caller's certificate.
pub(crate) fn certificate() -> String {
    certificate_of(SHOP)
}

/// The thumbprint of the certificate of another caller.
pub(crate) fn certificate_of(id: &str) -> String {
    CertThumbprint::of_der(&peers::der(peers::certificate(id))).to_string()
}

pub(crate) fn thumbprint(key: Key) -> String {
    key.pair().thumbprint().to_string()
}

/// A token bound to the caller's certificate, with both scopes.
pub(crate) fn token() -> Jwt {
    let claims = json!({
        "iss": ISSUER, "sub": SHOP, "client_id": SHOP, "aud": AUDIENCE, "jti": "t-1", "iat": NOW, "exp": NOW + 300,
        "scope": "transfers:write accounts:read", "cnf": {"x5t#S256": certificate()},
    });
    Jwt::new(json!({"typ": "at+jwt", "alg": "ES256", "kid": "mesh-1"}), claims, Key::Issuer)
}

/// The same, bound to the proof key instead.
pub(crate) fn dpop_token() -> Jwt {
    token().claim("cnf", json!({"jkt": thumbprint(Key::Proof)}))
}

/// A good proof for a transfer with this token.
pub(crate) fn proof(token: &str) -> Jwt {
    let claims = json!({
        "jti": "p-1", "htm": "POST", "htu": "https://payments.bank/transfers", "iat": NOW,
        "ath": TokenHash::of(token).ath(), "nonce": nonce(NOW),
    });
    Jwt::new(json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": Key::Proof.jwk()}), claims, Key::Proof)
}

pub(crate) fn nonce(at: u64) -> String {
    NonceMinter::new(SECRET).mint(UnixTime::from_secs(at))
}

/// An Ed25519 key and a JWS signed with it; the same bytes each time.
pub(crate) fn ed25519() -> (Value, impl Fn(&Jwt) -> String) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[0x44; 32]).unwrap();
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key().as_ref())});
    let sign = move |jwt: &Jwt| {
        let (header, claims) = jwt.texts();
        let text = format!("{}.{}", base64url(header), base64url(claims));
        format!("{text}.{}", base64url(pair.sign(text.as_bytes())))
    };
    (jwk, sign)
}

/// The RFC 7638 thumbprint of an Ed25519 JWK.
pub(crate) fn ed25519_thumbprint(jwk: &Value) -> String {
    let text = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":{}}}"#, jwk["x"]);
    CertThumbprint::of_der(text.as_bytes()).to_string()
}

/// The other ECDSA signature of the same text: `s` becomes the order of the curve less `s`.
pub(crate) fn other_signature(jws: &str) -> String {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
        0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let (text, signature) = jws.rsplit_once('.').unwrap();
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut borrow = 0;
    for (s, n) in bytes[32..].iter_mut().zip(ORDER).rev() {
        let difference = i16::from(n) - i16::from(*s) - borrow;
        borrow = i16::from(difference < 0);
        *s = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    format!("{text}.{}", base64url(bytes))
}

/// A signature in DER (RFC 3279), as other protocols have it.
pub(crate) fn der_signature(jws: &str) -> String {
    let (text, signature) = jws.rsplit_once('.').unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let integer = |half: &[u8]| {
        let mut out = vec![2, 33, 0];
        out.extend(half);
        out
    };
    let mut der = vec![0x30, 70];
    der.extend(integer(&bytes[..32]));
    der.extend(integer(&bytes[32..]));
    format!("{text}.{}", base64url(der))
}
