//! Chapter 2, the issuer: it gives nobody a token that the called side has not granted, and says so.

use serde_json::Value;

use super::Story;
use crate::demo::report::Outcome;
use crate::demo::thief::Thief;
use crate::failure::Failure;
use crate::token::Wish;

impl Story<'_> {
    pub(super) async fn issuer_refuses(&mut self) -> Result<(), Failure> {
        self.report.progress("asking the issuer for what is not granted");
        let ledger = self.mesh.member("ledger")?.origin();
        let payments = self.mesh.member("payments")?.origin();
        let wish = |audience, scope| Wish { audience, scope, dpop: None, subject: None };
        let refused = |reason: &str| Outcome::status(400).because(reason);

        let observed = self.wished(&self.intruder, &wish(&ledger, None)).await?;
        self.report.add("2 the intruder asks for a token for ledger", refused("caller_not_allowed"), observed);
        let observed = self.wished(&self.shop, &wish("https://vault.bank", None)).await?;
        self.report.add("2 shop asks for a token for nobody's audience", refused("audience_unknown"), observed);
        let observed = self.wished(&self.shop, &wish(&payments, Some("admin"))).await?;
        self.report.add("2 shop asks for a scope that nobody gave it", refused("scope_not_allowed"), observed);

        let expect = Outcome::default().because("CallerNotAllowed");
        let observed = self.client_status("outside", "intruder", "CallerNotAllowed").await;
        self.report.add("2 the intruder's FapiClient says so in its status", expect, observed);
        Ok(())
    }

    /// Status of the issuer's answer, and the reason in its log.
    pub(super) async fn wished(&self, thief: &Thief, wish: &Wish<'_>) -> Result<Outcome, Failure> {
        let mark = self.mesh.operator_log.mark();
        let reply = thief.wish(&self.issuer, wish).await?;
        let client = thief.identity.spiffe_id.as_str();
        let about = |line: &Value| {
            let fact = |name: &str| line[name].as_str().or(line["fields"][name].as_str());
            fact("event") == Some("token") && fact("client_id") == Some(client) && fact("outcome") == Some("refused")
        };
        let outcome = Outcome::status(reply.status);
        if reply.status == 200 {
            return Ok(outcome);
        }
        let line = mark.find(about).await.unwrap_or_default();
        let reason = line["reason"].as_str().or(line["fields"]["reason"].as_str());
        Ok(outcome.because(reason.unwrap_or("nothing was logged")))
    }
}
