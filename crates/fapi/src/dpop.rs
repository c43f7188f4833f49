//! Proof of possession (RFC 9449): what a proof must be, nonces, replay, and making proofs.

mod nonce;
mod replay;
mod signer;

use http::{HeaderMap, Method};
pub use nonce::NonceMinter;
pub use replay::ReplaySet;
pub use signer::{ProofClaims, ProofSigner};

use crate::{
    rejection::Rejection,
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
    _headers: &HeaderMap,
    _method: &Method,
    _htu: &str,
    _nonces: &NonceMinter,
    _replay: &ReplaySet,
    _caller: &SpiffeId,
    _now: UnixTime,
) -> Result<JwkThumbprint, Rejection> {
    Err(Rejection::ProofMalformed)
}
