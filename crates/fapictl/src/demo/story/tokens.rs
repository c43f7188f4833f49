//! Chapter 2, tokens: payments takes certificate-bound tokens, and only those that are right in everything.

use std::time::Duration;

use fapi::Rejection;
use serde_json::{Value, json};
use tokio::task::{JoinHandle, spawn_local};

use super::Story;
use crate::demo::report::Outcome;
use crate::demo::shot::Target;
use crate::demo::thief::Thief;
use crate::failure::{Failure, OrFail};
use crate::jose::{self, Key};
use crate::raw::Ask;
use crate::{clock, files};

/// Receivers accept a token for so long after its end, for clocks that differ.
const LEEWAY: u64 = 5;

/// The key that signs the mesh's tokens, out of the operator's state. No attacker has it: with it the demo makes
/// tokens that the issuer never would, to show that sidecars do not rely on the issuer alone.
pub(super) struct IssuerKey {
    key: Key,
    kid: Value,
}

impl IssuerKey {
    pub(super) fn read(story: &Story<'_>) -> Result<Self, Failure> {
        use base64::Engine as _;
        let path = story.mesh.folder().join("issuer/keys.json");
        let remedy = "this is a mistake in the demo";
        let document: Value = serde_json::from_str(&files::read(&path, remedy)?).unwrap_or_default();
        let kept = &document["signing"]["key"];
        let der = kept["privateKey"].as_str().unwrap_or_default();
        let der = base64::engine::general_purpose::STANDARD.decode(der);
        let der = der.or_fail("not a key", path.display(), remedy)?;
        Ok(Self { key: Key::from_der(&der, &path.display().to_string())?, kid: kept["kid"].clone() })
    }

    /// A token like `token`, with some members of its header and claims replaced, or removed by `null`.
    pub(super) fn forge(&self, token: &str, header: &Value, claims: &Value) -> Result<String, Failure> {
        let (mut old_header, mut old_claims) = jose::read(token);
        merge(&mut old_header, header);
        merge(&mut old_claims, claims);
        self.key.sign(&old_header, &old_claims)
    }
}

/// RFC 7396, one level deep.
pub(super) fn merge(into: &mut Value, change: &Value) {
    let (Some(into), Some(change)) = (into.as_object_mut(), change.as_object()) else {
        return;
    };
    for (name, value) in change {
        match value {
            Value::Null => into.remove(name),
            value => into.insert(name.clone(), value.clone()),
        };
    }
}

impl Story<'_> {
    pub(super) async fn tokens(&mut self) -> Result<(), Failure> {
        self.report.progress("attacking tokens");
        let target = self.target("payments")?;
        let token = self.shop_token(None).await?;
        let transfer = || target.ask("POST", "/transfers");
        let good = self.shoot_as_shop(&target, bearer(transfer(), &token)).await?;
        self.report.add("2 (the stolen certificate and its own token pass)", Outcome::status(200), good);
        let reading = self.shop_token(Some("accounts:read")).await?;
        let shots = [
            ("2 no token", transfer(), Rejection::TokenMissing),
            ("2 a token without the scope", bearer(transfer(), &reading), Rejection::ScopeInsufficient),
            (
                "2 a method that no rule has",
                bearer(target.ask("DELETE", "/transfers"), &token),
                Rejection::RuleNotMatched,
            ),
            (
                "2 a token in the query",
                target.ask("POST", &format!("/transfers?access_token={token}")),
                Rejection::RequestMalformed,
            ),
            ("2 two tokens", bearer(bearer(transfer(), &token), &reading), Rejection::RequestMalformed),
            (
                "2 a path that two programs read differently",
                bearer(target.ask("POST", "/balance/..%2ftransfers"), &token),
                Rejection::RequestMalformed,
            ),
        ];
        for (step, ask, rejection) in shots {
            let observed = self.shoot_as_shop(&target, ask).await?;
            self.report.add(step, Outcome::refused(rejection), observed);
        }
        self.tokens_elsewhere(&target, &token).await?;
        self.forgeries(&target, &token).await
    }

    /// A good token where it does not belong.
    async fn tokens_elsewhere(&mut self, target: &Target, token: &str) -> Result<(), Failure> {
        let ask = bearer(target.ask("POST", "/transfers"), token);
        let shot = target.shoot(self.intruder.tls(), ask).await?;
        let step = "2 shop's bound token over the intruder's own mTLS";
        self.shot(step, Outcome::refused(Rejection::BindingCertMismatch), &shot);
        let ledger = self.target("ledger")?;
        let observed = self.shoot_as_shop(&ledger, bearer(ledger.ask("POST", "/entries"), token)).await?;
        self.report.add("2 a token for another audience", Outcome::refused(Rejection::AudienceMismatch), observed);
        Ok(())
    }

    /// Tokens that the issuer never made.
    async fn forgeries(&mut self, target: &Target, token: &str) -> Result<(), Failure> {
        let (header, claims) = jose::read(token);
        let with = |change: Value| {
            let mut changed = claims.clone();
            merge(&mut changed, &change);
            changed
        };
        let algorithm = |name: &str| {
            let mut changed = header.clone();
            merge(&mut changed, &json!({"alg": name}));
            changed
        };
        let key = IssuerKey::read(self)?;
        let published = self.issuer.keys(self.shop.tls()).await?;
        let public = published["keys"].as_array().and_then(|keys| keys.iter().find(|jwk| jwk["kid"] == key.kid));
        let public = public.or_fail("the issuer does not publish its key", "its key set", "see its log")?.to_string();
        let now = clock::now();
        let none = json!({});
        let forged = [
            (
                "2 a tampered payload",
                jose::with_claims(token, &with(json!({"scope": "transfers:write accounts:read admin"}))),
                Rejection::SignatureInvalid,
            ),
            ("2 alg none", jose::unsigned(&algorithm("none"), &claims), Rejection::AlgNotAllowed),
            (
                "2 HS256 with the public key as the secret",
                jose::hmac(&algorithm("HS256"), &claims, public.as_bytes())?,
                Rejection::AlgNotAllowed,
            ),
            ("2 signed by somebody else", Key::generate()?.sign(&header, &claims)?, Rejection::SignatureInvalid),
            ("2 a key nobody published", key.forge(token, &json!({"kid": "another"}), &none)?, Rejection::KeyNotFound),
            (
                "2 without cnf, though the issuer signed it",
                key.forge(token, &none, &json!({"cnf": null}))?,
                Rejection::BindingMissing,
            ),
            (
                "2 a binding that nobody knows",
                key.forge(token, &none, &json!({"cnf": {"x5t#S256": claims["cnf"]["x5t#S256"], "kid": "k"}}))?,
                Rejection::BindingUnknown,
            ),
            ("2 a JWT that is no access token", key.forge(token, &json!({"typ": "JWT"}), &none)?, Rejection::TokenType),
            (
                "2 a token from the future",
                key.forge(token, &none, &json!({"iat": now + 60, "exp": now + 120}))?,
                Rejection::TokenNotYetValid,
            ),
            (
                "2 another issuer",
                key.forge(token, &none, &json!({"iss": "https://issuer.example"}))?,
                Rejection::IssuerNotAllowed,
            ),
            (
                "2 payments' name in shop's token",
                key.forge(token, &none, &json!({"sub": self.payments.identity.spiffe_id.as_str()}))?,
                Rejection::CallerMismatch,
            ),
        ];
        for (step, token, rejection) in forged {
            let observed = self.shoot_as_shop(target, bearer(target.ask("POST", "/transfers"), &token)).await?;
            self.report.add(step, Outcome::refused(rejection), observed);
        }
        Ok(())
    }

    /// One shot with shop's stolen certificate.
    pub(super) async fn shoot_as_shop(&self, target: &Target, ask: Ask) -> Result<Outcome, Failure> {
        Ok(target.shoot(self.shop.tls(), ask).await?.outcome)
    }
}

/// The request with a token, as RFC 6750 has it.
pub(super) fn bearer(ask: Ask, token: &str) -> Ask {
    ask.header("authorization", format!("Bearer {token}"))
}

/// A token that is shown when it has expired.
pub(super) struct Kept {
    /// How long that takes.
    pub(super) seconds: u64,
    pub(super) shown: JoinHandle<Result<Outcome, Failure>>,
}

/// Gets a token now and shows it when it has expired, over the very certificate that it is bound to.
pub(super) async fn keep_until_expired(story: &Story<'_>) -> Result<Kept, Failure> {
    let target = story.target("payments")?;
    let thief = Thief::of(&story.mesh.operator()?, story.mesh.member("shop")?).await?;
    let token = thief.token(&story.issuer, &target.origin, None, None).await?;
    let (_, claims) = jose::read(&token);
    let end = claims["exp"].as_u64().or_fail("a token without exp", "the issuer", "see its log")?;
    let seconds = (end + LEEWAY + 1).saturating_sub(clock::now());
    let shown = spawn_local(async move {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let shot = target.shoot(thief.tls(), bearer(target.ask("POST", "/transfers"), &token)).await?;
        Ok(shot.outcome)
    });
    Ok(Kept { seconds, shown })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_removes_and_values_replace() {
        let mut value = json!({"a": 1, "b": 2});
        merge(&mut value, &json!({"a": null, "b": 3, "c": 4}));
        assert_eq!(value, json!({"b": 3, "c": 4}));
    }
}
