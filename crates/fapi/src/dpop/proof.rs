use std::sync::Arc;

use crate::{
    json::{Members, NotStrict},
    jwk::Jwk,
    jws::Compact,
    recent::Recent,
    rejection::Rejection,
    value::{JwkThumbprint, SigningAlg, UnixTime},
};

/// A proof that its own key has signed and that says all that a proof must (RFC 9449 section 4.2). Whether it fits a
/// request is checked next.
pub(super) struct SignedProof<'a> {
    jws: Compact<'a>,
    key: JwkThumbprint,
}

/// The headers of the last proofs that verified, each with the key that was read from it: a client signs with one key,
/// so that its next proof has the same header, byte for byte.
pub(crate) type ProofHeaders = Recent<Jwk, 4>;

/// What a proof says.
pub(super) struct ProofText<'a> {
    pub(super) htm: &'a str,
    pub(super) htu: &'a str,
    pub(super) jti: &'a str,
    pub(super) ath: Option<&'a str>,
    pub(super) nonce: Option<&'a str>,
    pub(super) issued: UnixTime,
    pub(super) not_before: Option<UnixTime>,
    pub(super) expires: Option<UnixTime>,
}

impl<'a> SignedProof<'a> {
    /// Checks 2 to 7 of RFC 9449 section 4.3: form, `typ`, `alg`, a public key in `jwk`, signature.
    pub(super) fn verify(text: &'a str, headers: &mut ProofHeaders) -> Result<Self, Rejection> {
        let jws = Compact::parse(text, MAX_BYTES).map_err(|_| Rejection::ProofMalformed)?;
        let known = headers.find(jws.header_text().as_bytes());
        let is_new = known.is_none();
        let jwk = known.or_else(|| header_key(&jws).map(Arc::new)).ok_or(Rejection::ProofMalformed)?;
        if !jws.is_signed_by(&jwk.key) {
            return Err(Rejection::ProofMalformed);
        }
        if is_new {
            headers.keep(jws.header_text().as_bytes(), &jwk);
        }
        Ok(Self { jws, key: jwk.thumbprint })
    }

    pub(super) const fn key(&self) -> JwkThumbprint {
        self.key
    }

    /// The claims, with check 3: all that are required are there.
    pub(super) fn text(&self) -> Result<ProofText<'_>, Rejection> {
        self.read().map_err(|_| Rejection::ProofMalformed)
    }

    fn read(&self) -> Result<ProofText<'_>, NotStrict> {
        let claims = self.jws.payload();
        let jti = claims.need_text("jti")?;
        if !(1..=MAX_JTI).contains(&jti.len()) {
            return Err(NotStrict);
        }
        Ok(ProofText {
            htm: claims.need_text("htm")?,
            htu: claims.need_text("htu")?,
            jti,
            ath: claims.text("ath")?,
            nonce: claims.text("nonce")?,
            issued: UnixTime::from_secs(claims.need_seconds("iat")?),
            not_before: claims.seconds("nbf")?.map(UnixTime::from_secs),
            expires: claims.seconds("exp")?.map(UnixTime::from_secs),
        })
    }
}

/// The key in the header, if `typ` and `alg` are right and the key is one of that algorithm.
fn header_key(jws: &Compact<'_>) -> Option<Jwk> {
    let header = jws.header().ok()?;
    let header = header.view();
    if header.text("typ").ok()? != Some("dpop+jwt") {
        return None;
    }
    let alg = SigningAlg::from_jose(header.text("alg").ok()??)?;
    let jwk = Jwk::parse(Members::of(header.value("jwk")?).ok()?)?;
    (jwk.key.alg() == alg).then_some(jwk)
}

const MAX_BYTES: usize = 4 * 1024;
const MAX_JTI: usize = 256;
