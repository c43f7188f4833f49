use serde_json::json;

use crate::{
    jws::{SigningError, SigningKey},
    value::{JwkThumbprint, SigningAlg, TokenHash, UnixTime},
};

/// Makes the proofs of one client with one key (RFC 9449 section 4.2).
#[derive(Debug)]
pub struct ProofSigner {
    key: SigningKey,
    header: String,
}

/// What one proof says.
#[derive(Debug, Clone, Copy)]
pub struct ProofClaims<'a> {
    /// The method of the request.
    pub htm: &'a str,
    /// The URL of the request; query and fragment are cut off.
    pub htu: &'a str,
    /// The hash of the access token that goes with it; none at a token endpoint.
    pub ath: Option<&'a TokenHash>,
    /// The newest nonce of the server.
    pub nonce: Option<&'a str>,
    /// A new random value, at least 96 bits.
    pub jti: &'a str,
    /// The time of creation.
    pub now: UnixTime,
}

impl ProofSigner {
    /// A signer with a new random key.
    ///
    /// # Errors
    /// The crypto library could not make a key.
    pub fn generate() -> Result<Self, SigningError> {
        SigningKey::generate().map(Self::new)
    }

    /// A signer with this key.
    #[must_use]
    pub fn new(key: SigningKey) -> Self {
        let alg = SigningAlg::Es256.name();
        let header = json!({"alg": alg, "jwk": key.public_jwk(), "typ": "dpop+jwt"}).to_string();
        Self { key, header }
    }

    /// The key, for storing it.
    #[must_use]
    pub const fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The thumbprint that tokens are bound to (`jkt`).
    #[must_use]
    pub const fn thumbprint(&self) -> JwkThumbprint {
        self.key.thumbprint()
    }

    /// Signs a proof for one request.
    ///
    /// # Errors
    /// The crypto library could not sign.
    pub fn proof(&self, claims: &ProofClaims<'_>) -> Result<String, SigningError> {
        let htu = claims.htu.split(['?', '#']).next().unwrap_or_default();
        let mut payload = json!({"htm": claims.htm, "htu": htu, "iat": claims.now.as_secs(), "jti": claims.jti});
        if let Some(members) = payload.as_object_mut() {
            if let Some(ath) = claims.ath {
                members.insert("ath".to_owned(), ath.ath().into());
            }
            if let Some(nonce) = claims.nonce {
                members.insert("nonce".to_owned(), nonce.into());
            }
        }
        self.key.sign_compact(self.header.as_bytes(), payload.to_string().as_bytes())
    }
}
