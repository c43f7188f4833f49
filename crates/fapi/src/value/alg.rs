use std::fmt;

use serde::{Deserialize, Serialize};

/// The signature algorithms that FAPI 2.0 Security Profile 5.4.1 allows; no other can be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SigningAlg {
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// RSASSA-PSS with SHA-256, keys of 2048 to 8192 bits.
    Ps256,
    /// EdDSA over Ed25519, spelled `EdDSA` (RFC 8037) or `Ed25519` (RFC 9864).
    EdDsa,
}

impl SigningAlg {
    /// The names offered in `algs` of a DPoP challenge (RFC 9449 section 7.1).
    pub const OFFERED: &'static str = "ES256 PS256 EdDSA";

    /// Reads the `alg` of a JOSE header: case counts (RFC 7515 section 4.1.1).
    #[must_use]
    pub fn from_jose(name: &str) -> Option<Self> {
        match name {
            "ES256" => Some(Self::Es256),
            "PS256" => Some(Self::Ps256),
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            _ => None,
        }
    }

    /// The JOSE name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Ps256 => "PS256",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// How a token is tied to its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SenderConstraint {
    /// By the certificate of the TLS connection (RFC 8705 section 3).
    #[serde(rename = "MTLS")]
    Mtls,
    /// By a proof signed for each request (RFC 9449).
    #[serde(rename = "DPoP")]
    Dpop,
}

impl fmt::Display for SenderConstraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mtls => "MTLS",
            Self::Dpop => "DPoP",
        })
    }
}
