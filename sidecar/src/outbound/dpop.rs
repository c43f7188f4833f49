//! Proofs of possession for outbound requests (RFC 9449 sections 4 and 9), and the nonces of peers.

use std::cell::{Cell, RefCell};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use fapi::{ProofClaims, Rejection, UnixTime};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header, uri::PathAndQuery};

use super::{body::AppBody, failure::Failure, head, own::Protocol, target::Target};
use crate::{
    clock::Clock,
    headers::{DPOP_NONCE, challenges},
    random,
    tokens::ProofMaterial,
};

/// Where a sidecar gives a nonce without touching its app.
pub(crate) const PRIMER_PATH: &str = "/.well-known/fapi-mesh/nonce";

/// Sidecars take a nonce for 300 seconds; one that is nearly over is not worth a try.
const GOOD_FOR: u64 = 200;
const MAX_BYTES: usize = 256;

/// The newest nonce of one endpoint.
#[derive(Default)]
pub(super) struct Nonce {
    value: RefCell<String>,
    at: Cell<UnixTime>,
}

impl Nonce {
    /// Takes the nonce out of a response, so that no app ever sees it.
    pub(super) fn take_from(&self, headers: &mut HeaderMap, clock: &Clock) {
        let Some(found) = headers.remove(&DPOP_NONCE) else { return };
        if let Ok(text) = found.to_str()
            && text.len() <= MAX_BYTES
        {
            let mut value = self.value.borrow_mut();
            value.clear();
            value.push_str(text);
            self.at.set(clock.now());
        }
    }

    /// Whether the next proof will probably pass with it.
    pub(super) fn is_fresh(&self, now: UnixTime) -> bool {
        !self.value.borrow().is_empty() && now < self.at.get().plus(GOOD_FOR)
    }

    /// A proof for one sending of one request to `htu`.
    pub(super) fn proof(
        &self,
        material: &ProofMaterial,
        method: &Method,
        htu: &str,
        now: UnixTime,
    ) -> Result<HeaderValue, Failure> {
        let unmade = Failure::Rejected(Rejection::TokenUnavailable);
        let jti = URL_SAFE_NO_PAD.encode(random::bytes::<16>().map_err(|_| unmade.clone())?);
        let nonce = self.value.borrow();
        let nonce = Some(nonce.as_str()).filter(|nonce| !nonce.is_empty());
        let claims = ProofClaims { htm: method.as_str(), htu, ath: Some(&material.ath), nonce, jti: &jti, now };
        let proof = material.signer.proof(&claims).map_err(|_| unmade.clone())?;
        let mut value = HeaderValue::try_from(proof).map_err(|_| unmade)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// Asks for a nonce, without a body and without reaching any app.
pub(super) fn primer(target: &Target, protocol: Protocol) -> Request<AppBody> {
    let mut request = Request::new(AppBody::Empty);
    *request.method_mut() = Method::HEAD;
    *request.uri_mut() = head::uri(PathAndQuery::from_static(PRIMER_PATH), target, protocol);
    if protocol == Protocol::H1 {
        request.headers_mut().insert(header::HOST, target.host.clone());
    }
    request
}

/// Whether a response asks for the same request with the nonce that it brings (RFC 9449 section 9).
pub(super) fn wants_nonce(status: StatusCode, headers: &HeaderMap) -> bool {
    status == StatusCode::UNAUTHORIZED
        && headers.contains_key(&DPOP_NONCE)
        && challenges(headers).any(|challenge| challenge.is("DPoP") && challenge.says("error", "use_dpop_nonce"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_challenge_of_dpop_with_a_nonce_has_a_request_sent_again() {
        let wants = |status, challenge: &'static str, nonce: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            if nonce {
                headers.insert(DPOP_NONCE, HeaderValue::from_static("n"));
            }
            wants_nonce(status, &headers)
        };
        let asked = "Basic realm=\"a\", DPoP algs=\"ES256\", error=\"use_dpop_nonce\"";
        assert!(wants(StatusCode::UNAUTHORIZED, asked, true));
        assert!(!wants(StatusCode::UNAUTHORIZED, asked, false));
        assert!(!wants(StatusCode::FORBIDDEN, asked, true));
        for of_the_app in ["X error=\"use_dpop_nonce\"", "Basic realm=\"DPoP error=\\\"use_dpop_nonce\\\"\"", "DPoP"] {
            assert!(!wants(StatusCode::UNAUTHORIZED, of_the_app, true), "{of_the_app}");
        }
    }
}
