//! Chapter 2, proofs: ledger takes DPoP tokens only. The thief has payments' certificate, a token of payments,
//! and the key that it is bound to; each proof is wrong in one thing.

use fapi::Rejection;
use serde_json::{Value, json};

use super::Story;
use super::tokens::{IssuerKey, bearer, merge};
use crate::clock;
use crate::demo::report::Outcome;
use crate::demo::shot::{Shot, Target};
use crate::failure::{Failure, OrFail};
use crate::jose::{Key, base64};
use crate::raw::Ask;
use crate::{crypto, proof};

const METHOD: &str = "POST";
const PATH: &str = "/entries";
/// Older than any proof may be.
const STALE: u64 = 120;

/// What a thief of proofs has.
struct Loot {
    target: Target,
    url: String,
    token: String,
    key: Key,
    nonce: String,
}

impl Loot {
    fn ask(&self) -> Ask {
        self.target.ask(METHOD, PATH)
    }

    /// The request with the token, as RFC 9449 section 7.1 has it, and a proof.
    fn with(&self, proof: String) -> Ask {
        self.ask().header("authorization", format!("DPoP {}", self.token)).header("dpop", proof)
    }

    /// A good proof, but for what `change` does to its claims.
    fn proof(&self, change: &Value) -> Result<String, Failure> {
        let mut claims = proof::claims(METHOD, &self.url, Some(&self.token), Some(&self.nonce))?;
        merge(&mut claims, change);
        proof::sign(&self.key, &claims)
    }
}

impl Story<'_> {
    pub(super) async fn proofs(&mut self) -> Result<(), Failure> {
        self.report.progress("attacking proofs");
        let mut loot = self.loot().await?;
        let first = self.shoot_as_payments(&loot, loot.with(loot.proof(&json!({"nonce": null}))?)).await?;
        loot.nonce = match &self.own {
            // He will not hear of one.
            Some(_) => "made-up".to_owned(),
            None => first.nonce().or_fail("no nonce came back", "ledger", "read its log")?,
        };
        self.shot("2 a proof without nonce", Outcome::refused(Rejection::ProofNonceRequired), &first);
        self.replay(&loot).await?;
        self.wrong_proofs(&loot).await?;
        self.wrong_places(&loot).await
    }

    async fn loot(&self) -> Result<Loot, Failure> {
        let target = self.target("ledger")?;
        let key = Key::generate()?;
        let token = self.payments.token(&self.issuer, &target.origin, None, Some(&key)).await?;
        Ok(Loot { url: format!("{}{PATH}", target.origin), target, token, key, nonce: String::new() })
    }

    /// The one good proof, and the same once more.
    async fn replay(&mut self, loot: &Loot) -> Result<(), Failure> {
        let proof = loot.proof(&json!({}))?;
        let good = self.shoot_as_payments(loot, loot.with(proof.clone())).await?;
        self.shot("2 (a stolen certificate, token and key, all of payments, pass)", Outcome::status(200), &good);
        let again = self.shoot_as_payments(loot, loot.with(proof)).await?;
        self.shot("2 a proof replayed", Outcome::refused(Rejection::ProofReplayed), &again);
        Ok(())
    }

    async fn wrong_proofs(&mut self, loot: &Loot) -> Result<(), Failure> {
        let elsewhere = loot.url.replace("ledger", "payments");
        let other_token = base64(&crypto::sha256(b"another token"));
        let by_another = {
            let claims = proof::claims(METHOD, &loot.url, Some(&loot.token), Some(&loot.nonce))?;
            proof::sign(&Key::generate()?, &claims)?
        };
        let shots = [
            ("2 a proof for another URL", loot.proof(&json!({"htu": elsewhere}))?, Rejection::ProofHtu),
            ("2 a proof for another method", loot.proof(&json!({"htm": "GET"}))?, Rejection::ProofHtm),
            ("2 a proof for another token", loot.proof(&json!({"ath": other_token}))?, Rejection::ProofAth),
            ("2 a proof by another key", by_another, Rejection::ProofKeyMismatch),
            ("2 a stale proof", loot.proof(&json!({"iat": clock::now() - STALE}))?, Rejection::ProofStale),
            ("2 a nonce of nobody", loot.proof(&json!({"nonce": "made-up"}))?, Rejection::ProofNonceStale),
            ("2 something else as the proof", "e30.e30.e30".to_owned(), Rejection::ProofMalformed),
        ];
        for (step, proof, rejection) in shots {
            let shot = self.shoot_as_payments(loot, loot.with(proof)).await?;
            self.shot(step, Outcome::refused(rejection), &shot);
        }
        Ok(())
    }

    /// Good tokens and good proofs in the wrong place.
    async fn wrong_places(&mut self, loot: &Loot) -> Result<(), Failure> {
        let everything = loot.with(loot.proof(&json!({}))?);
        let shot = loot.target.shoot(self.intruder.tls(), everything).await?;
        let step = "2 a DPoP token with its stolen key over the intruder's mTLS";
        self.shot(step, Outcome::refused(Rejection::CallerMismatch), &shot);

        let shot = self.shoot_as_payments(loot, bearer(loot.ask(), &loot.token)).await?;
        self.shot("2 a DPoP token sent as Bearer", Outcome::refused(Rejection::BoundTokenSentAsBearer), &shot);

        let naked = loot.ask().header("authorization", format!("DPoP {}", loot.token));
        let shot = self.shoot_as_payments(loot, naked).await?;
        self.shot("2 a DPoP token without any proof", Outcome::refused(Rejection::ProofMissing), &shot);

        let two = loot.with(loot.proof(&json!({}))?).header("dpop", loot.proof(&json!({}))?);
        let shot = self.shoot_as_payments(loot, two).await?;
        self.shot("2 two proofs", Outcome::refused(Rejection::RequestMalformed), &shot);

        let certificate = json!({"cnf": {"x5t#S256": self.payments.identity.thumbprint()}});
        let bound = IssuerKey::read(self)?.forge(&loot.token, &json!({}), &certificate)?;
        let shot = self.shoot_as_payments(loot, bearer(loot.ask(), &bound)).await?;
        self.shot(
            "2 a certificate-bound token where DPoP is demanded",
            Outcome::refused(Rejection::BindingMissing),
            &shot,
        );
        Ok(())
    }

    async fn shoot_as_payments(&self, loot: &Loot, ask: Ask) -> Result<Shot, Failure> {
        loot.target.shoot(self.payments.tls(), ask).await
    }
}
