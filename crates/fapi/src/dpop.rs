//! Proof of possession (RFC 9449): what a proof must be, nonces, replay, and making proofs.

mod check;
mod htu;
mod nonce;
mod proof;
mod replay;
mod signer;

pub(crate) use check::{CheckedProof, Target};
use http::{HeaderMap, Method};
use htu::Htu;
pub use nonce::NonceMinter;
pub(crate) use proof::ProofHeaders;
pub use replay::ReplaySet;
pub use signer::{ProofClaims, ProofSigner};

use crate::{
    rejection::Rejection,
    token::{DPOP, at_most_one},
    value::{JwkThumbprint, SpiffeId, UnixTime},
};

/// Checks the proof of a token request (RFC 9449 section 5): everything of section 4.3 but `ath`, then replay.
///
/// `htu` is the token endpoint's URL from the server's own configuration. Gives the thumbprint that the token is bound to.
///
/// # Errors
/// [`Rejection::ProofMissing`] without a `DPoP` header, [`Rejection::RequestMalformed`] with several, else the rule that
/// the proof breaks.
pub fn check_token_endpoint_proof(
    headers: &HeaderMap,
    method: &Method,
    htu: &str,
    nonces: &NonceMinter,
    replay: &ReplaySet,
    caller: &SpiffeId,
    now: UnixTime,
) -> Result<JwkThumbprint, Rejection> {
    let header = at_most_one(&headers.get_all(DPOP))?.ok_or(Rejection::ProofMissing)?;
    let own = Htu::parse(htu).ok_or(Rejection::ProofHtu)?;
    let origins = std::iter::once(own.origin());
    let target = Target { method, origins, path: own.path(), token: None, nonces, now };
    let proof = CheckedProof::check(header, target, &mut ProofHeaders::default())?;
    replay.reserve(caller, proof.replay_key(), now)?;
    Ok(proof.key())
}

#[cfg(test)]
mod tests;
