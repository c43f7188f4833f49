use http::HeaderValue;

use super::*;
use crate::testing::{Jwt, PROOF_KEY, SHOP, World, id};

const ENDPOINT: &str = "https://127.0.0.1:8443/token";

struct Endpoint(World);

impl Endpoint {
    fn new() -> Self {
        Self(World::new())
    }

    fn proof(&self) -> Jwt {
        self.0.proof("").without("ath").claim("htu", ENDPOINT)
    }

    fn check(&self, proofs: &[String]) -> Result<JwkThumbprint, Rejection> {
        let mut headers = HeaderMap::new();
        for proof in proofs {
            headers.append(DPOP, HeaderValue::from_str(proof).unwrap());
        }
        let world = &self.0;
        check_token_endpoint_proof(
            &headers,
            &Method::POST,
            ENDPOINT,
            &world.nonces,
            &world.replay,
            &id(SHOP),
            world.now,
        )
    }

    fn outcome(&self, proof: &Jwt) -> Result<JwkThumbprint, Rejection> {
        self.check(&[proof.proven()])
    }
}

#[test]
fn a_token_request_gets_the_thumbprint_once() {
    let endpoint = Endpoint::new();
    let proof = endpoint.proof();
    assert_eq!(endpoint.outcome(&proof), Ok(PROOF_KEY.thumbprint()));
    assert_eq!(endpoint.outcome(&proof), Err(Rejection::ProofReplayed));
}

#[test]
fn a_token_request_has_one_proof_header() {
    let endpoint = Endpoint::new();
    let proof = endpoint.proof().proven();
    assert_eq!(endpoint.check(&[]), Err(Rejection::ProofMissing));
    assert_eq!(endpoint.check(&[proof.clone(), proof]), Err(Rejection::RequestMalformed));
}

#[test]
fn a_token_request_is_checked_as_a_call_is() {
    let endpoint = Endpoint::new();
    let proof = endpoint.proof();
    let now = endpoint.0.now.as_secs();
    for (bent, rejection) in [
        (proof.clone().claim("htm", "GET"), Rejection::ProofHtm),
        (proof.clone().claim("htu", "https://127.0.0.1:8443/other"), Rejection::ProofHtu),
        (proof.clone().claim("htu", "https://127.0.0.1/token"), Rejection::ProofHtu),
        (proof.clone().claim("iat", now - 61), Rejection::ProofStale),
        (proof.clone().claim("jti", ""), Rejection::ProofMalformed),
        (proof.clone().without("nonce"), Rejection::ProofNonceRequired),
        (proof.clone().claim("nonce", "x"), Rejection::ProofNonceStale),
    ] {
        assert_eq!(endpoint.outcome(&bent), Err(rejection));
    }
    assert_eq!(endpoint.outcome(&proof), Ok(PROOF_KEY.thumbprint()), "nothing was reserved by the bad ones");
}

#[test]
fn a_proof_is_taken_up_to_its_bounds() {
    let endpoint = Endpoint::new();
    let (proof, now) = (endpoint.proof(), endpoint.0.now.as_secs());
    for (n, good) in [("iat", now - 60), ("iat", now + 10), ("nbf", now + 10), ("exp", now - 4)].iter().enumerate() {
        let good = proof.clone().claim("jti", format!("good-{n}")).claim(good.0, good.1);
        assert_eq!(endpoint.outcome(&good), Ok(PROOF_KEY.thumbprint()), "{n}");
    }
    for (claim, bad) in [("iat", now - 61), ("iat", now + 11), ("nbf", now + 11), ("exp", now - 5)] {
        assert_eq!(endpoint.outcome(&proof.clone().claim(claim, bad)), Err(Rejection::ProofStale), "{claim}");
    }
    let padded = |length: usize| proof.clone().claim("more", "m".repeat(length)).proven();
    let room = (4096 - padded(0).len()) / 4 * 3;
    assert_eq!(endpoint.check(&[padded(room - 3)]), Ok(PROOF_KEY.thumbprint()));
    assert_eq!(endpoint.check(&[padded(room + 6)]), Err(Rejection::ProofMalformed));
}

#[test]
fn nonces_can_be_sent_and_are_never_equal_between_processes() {
    let now = UnixTime::from_secs(1_800_000_000);
    let (mine, theirs) = (NonceMinter::new([1; 32]), NonceMinter::new([2; 32]));
    let nonce = mine.mint(now);
    assert_eq!(nonce.len(), 32);
    assert!(nonce.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    assert!(mine.knows(&nonce, now) && mine.knows(&nonce, now.plus(300)));
    assert!(!theirs.knows(&nonce, now) && !mine.knows(&nonce, now.plus(301)) && !mine.knows(&nonce, now.minus(1)));
    assert!(
        !mine.knows(&format!("{nonce}A"), now)
            && !mine.knows("", now)
            && !mine.knows(&nonce.replace(&nonce[..1], "."), now)
    );
}
