//! `fapictl proof`: one DPoP proof (RFC 9449, section 4.2) for one request.

use serde_json::{Value, json};

use crate::args::ProofArgs;
use crate::failure::Failure;
use crate::jose::{Key, base64};
use crate::{clock, crypto, files};

/// The file, in an identity folder, with the key that proofs are made with.
pub(crate) const KEY_FILE: &str = "dpop.key";

/// Prints one proof.
pub(crate) fn run(args: &ProofArgs) -> Result<(), Failure> {
    let path = args.identity.join(KEY_FILE);
    let pem = files::read(&path, "get a token with `fapictl token --dpop` first: it keeps the key")?;
    let key = Key::from_pem(&pem, &path.display().to_string())?;
    let token = match (&args.token, &args.token_file) {
        (Some(token), _) => Some(token.clone()),
        (None, Some(path)) => Some(files::read(path, "write the token there first")?.trim().to_owned()),
        (None, None) => None,
    };
    let claims = claims(&args.method, &args.url, token.as_deref(), args.nonce.as_deref())?;
    println!("{}", sign(&key, &claims)?);
    Ok(())
}

/// The claims of a good proof, made now.
pub(crate) fn claims(method: &str, url: &str, token: Option<&str>, nonce: Option<&str>) -> Result<Value, Failure> {
    let mut claims = json!({
        "jti": crypto::uuid()?,
        "htm": method,
        "htu": url.split(['?', '#']).next(),
        "iat": clock::now(),
    });
    if let Some(token) = token {
        claims["ath"] = json!(base64(&crypto::sha256(token.as_bytes())));
    }
    if let Some(nonce) = nonce {
        claims["nonce"] = json!(nonce);
    }
    Ok(claims)
}

/// Signs `claims` as a proof with `key`.
pub(crate) fn sign(key: &Key, claims: &Value) -> Result<String, Failure> {
    key.sign(&json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": key.jwk()}), claims)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;
    use crate::jose::read;

    #[test]
    fn a_proof_names_the_request_without_its_query() {
        let key = Key::generate().unwrap();
        let claims = claims("GET", "https://ledger.bank/x?secret=1#f", Some("token"), Some("n")).unwrap();
        let (header, claims) = read(&sign(&key, &claims).unwrap());
        assert_eq!(header["typ"], "dpop+jwt");
        assert_eq!(header["jwk"], key.jwk());
        assert_eq!(claims["htu"], "https://ledger.bank/x");
        // SHA-256 of "token", base64url.
        assert_eq!(claims["ath"], "PEaenWxYddN6Q_NT1PiOYfz4EsZu7jRXRlpAsNpBU-A");
        assert_eq!(claims["nonce"], "n");
    }
}
