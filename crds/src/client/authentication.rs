//! How a client authenticates.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::patterns::{BASE64URL, KEY_ID};

/// How the service account authenticates at the issuer. There are no shared secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!has(self.jwks) || self.method == 'PrivateKeyJWT'")
        .message("jwks holds the keys of PrivateKeyJWT: write that, or remove them")
)]
pub struct Authentication {
    /// `TLSClientAuth`, by the certificate that its sidecar has, or `PrivateKeyJWT`, by signed assertions. At the mesh's own
    /// issuer the certificate of a sidecar counts in either case.
    #[serde(default = "certificate")]
    pub method: AuthenticationMethod,

    /// The public keys of a client without a sidecar that signs the assertions of `PrivateKeyJWT` itself (RFC 7517); the
    /// private ones never leave it. Without them sidecars sign, each with a key that it makes in memory; the operator
    /// publishes the public halves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "JsonWebKeySet")]
    pub jwks: Option<JsonWebKeySet>,
}

/// The ways to authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AuthenticationMethod {
    /// RFC 8705, by the SPIFFE ID in the certificate.
    #[serde(rename = "TLSClientAuth")]
    TlsClientAuth,
    /// RFC 7523, by a signed assertion.
    #[serde(rename = "PrivateKeyJWT")]
    PrivateKeyJwt,
}

fn certificate() -> AuthenticationMethod {
    AuthenticationMethod::TlsClientAuth
}

/// A set of public keys, as a JWK Set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JsonWebKeySet {
    /// The keys, each with its own `kid`: an old and a new one while keys are changed.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(validation = Rule::new("self.all(k, self.exists_one(l, l.kid == k.kid))").message("each kid once"))]
    pub keys: Vec<JsonWebKey>,
}

/// A public key for ES256 (P-256), PS256 (RSA of 2048 bits or more) or EdDSA (Ed25519). It has no field for a private one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JsonWebKey {
    /// The id that assertions name in their header.
    #[schemars(length(min = 1, max = 128), regex(pattern = KEY_ID))]
    pub kid: String,

    /// The type of the key.
    pub kty: KeyType,

    /// The curve of an EC or OKP key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Curve")]
    pub crv: Option<Curve>,

    /// The x coordinate, or the whole public key on Ed25519.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 43, max = 43), regex(pattern = BASE64URL))]
    pub x: Option<String>,

    /// The y coordinate on P-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 43, max = 43), regex(pattern = BASE64URL))]
    pub y: Option<String>,

    /// The modulus of an RSA key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 342, max = 1366), regex(pattern = BASE64URL))]
    pub n: Option<String>,

    /// The exponent of an RSA key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 2, max = 7), regex(pattern = BASE64URL))]
    pub e: Option<String>,

    /// The algorithm; without it, the one that the key can be used with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SigningAlgorithm")]
    pub alg: Option<SigningAlgorithm>,

    /// What the key is for: signatures.
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "KeyUse")]
    pub usage: Option<KeyUse>,
}

/// Types of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the names say it; doc comments would end in the schema")]
pub enum KeyType {
    #[serde(rename = "EC")]
    Ec,
    #[serde(rename = "OKP")]
    Okp,
    #[serde(rename = "RSA")]
    Rsa,
}

/// Curves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the names say it; doc comments would end in the schema")]
pub enum Curve {
    #[serde(rename = "P-256")]
    P256,
    Ed25519,
}

/// The algorithms of FAPI 2.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the names say it; doc comments would end in the schema")]
pub enum SigningAlgorithm {
    ES256,
    PS256,
    EdDSA,
    Ed25519,
}

/// Uses of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the names say it; doc comments would end in the schema")]
pub enum KeyUse {
    #[serde(rename = "sig")]
    Signatures,
}
