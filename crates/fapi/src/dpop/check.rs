use http::{HeaderValue, Method};

use super::{
    NonceMinter,
    htu::Htu,
    proof::{ProofHeaders, SignedProof},
};
use crate::{
    crypto::sha256,
    rejection::Rejection,
    token::FUTURE_LEEWAY,
    value::{JwkThumbprint, Origin, TokenHash, UnixTime},
};

/// What a proof must fit.
pub(crate) struct Target<'a, O> {
    pub(crate) method: &'a Method,
    /// The origins that `htu` may have. Never taken from `Host` or a forwarded header.
    pub(crate) origins: O,
    /// The path as received.
    pub(crate) path: &'a str,
    /// The token beside the proof, with the key that it is bound to; none at a token endpoint.
    pub(crate) token: Option<(&'a TokenHash, JwkThumbprint)>,
    pub(crate) nonces: &'a NonceMinter,
    pub(crate) now: UnixTime,
}

/// A proof that fits its request and carries a good nonce. It counts once it is reserved against replay.
#[derive(Debug)]
pub(crate) struct CheckedProof {
    key: JwkThumbprint,
    replay_key: [u8; 16],
}

impl CheckedProof {
    /// Checks 2 to 12 of RFC 9449 section 4.3. The nonce comes last, so that only an otherwise good proof is asked to
    /// try again.
    pub(crate) fn check<'o, O: Iterator<Item = &'o Origin>>(
        header: &HeaderValue,
        target: Target<'_, O>,
        headers: &mut ProofHeaders,
    ) -> Result<Self, Rejection> {
        let text = header.to_str().map_err(|_| Rejection::ProofMalformed)?;
        let signed = SignedProof::verify(text, headers)?;
        let proof = signed.text()?;
        if proof.htm != target.method.as_str() {
            return Err(Rejection::ProofHtm);
        }
        let htu = Htu::parse(proof.htu).ok_or(Rejection::ProofHtu)?;
        if !htu.is(target.origins, target.path) {
            return Err(Rejection::ProofHtu);
        }
        check_age(proof.issued, proof.not_before, proof.expires, target.now)?;
        if let Some((hash, key)) = target.token {
            if !proof.ath.is_some_and(|ath| hash.is_ath(ath)) {
                return Err(Rejection::ProofAth);
            }
            if signed.key() != key {
                return Err(Rejection::ProofKeyMismatch);
            }
        }
        let nonce = proof.nonce.ok_or(Rejection::ProofNonceRequired)?;
        if !target.nonces.knows(nonce, target.now) {
            return Err(Rejection::ProofNonceStale);
        }
        Ok(Self { key: signed.key(), replay_key: replay_key(&signed.key(), proof.jti) })
    }

    pub(crate) const fn key(&self) -> JwkThumbprint {
        self.key
    }

    /// What is remembered of it: key and `jti`, hashed, so that neither a long `jti` nor another spelling of the signature
    /// matters.
    pub(crate) const fn replay_key(&self) -> [u8; 16] {
        self.replay_key
    }
}

fn check_age(
    issued: UnixTime,
    not_before: Option<UnixTime>,
    expires: Option<UnixTime>,
    now: UnixTime,
) -> Result<(), Rejection> {
    let latest = now.plus(FUTURE_LEEWAY);
    let too_early = issued > latest || not_before.is_some_and(|start| start > latest);
    let too_late = now > issued.plus(MAX_AGE) || expires.is_some_and(|end| now >= end.plus(EXP_LEEWAY));
    if too_early || too_late { Err(Rejection::ProofStale) } else { Ok(()) }
}

fn replay_key(key: &JwkThumbprint, jti: &str) -> [u8; 16] {
    let mut text = Vec::with_capacity(32 + jti.len());
    text.extend_from_slice(key.as_bytes());
    text.extend_from_slice(jti.as_bytes());
    let mut out = [0; 16];
    for (to, from) in out.iter_mut().zip(sha256(&text)) {
        *to = from;
    }
    out
}

/// Seconds that a proof is taken after its `iat`.
const MAX_AGE: u64 = 60;
const EXP_LEEWAY: u64 = 5;
