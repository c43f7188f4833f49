//! Chapter 8: payments hands shop's calls on (RFC 8693). ledger learns for whom they are made, and nobody acts for shop without
//! a call of shop.

use serde_json::{Value, json};

use super::{CHANGE, Story};
use crate::demo::mesh::Member;
use crate::demo::report::Outcome;
use crate::failure::{Failure, OrFail};
use crate::jose::{self, Key};
use crate::raw::Reply;
use crate::token::Wish;
use crate::wait::until;

const ENTRIES: &str = "http://ledger.bank/entries";

impl Story<'_> {
    pub(super) async fn handing_on(&mut self) -> Result<(), Failure> {
        self.report.progress("handing calls on, with everybody's name");
        self.mesh.config.payments_hands_on(true)?;
        let context = self.handed_on().await?;
        self.without_a_call(&context).await?;
        self.steal_again().await?;
        self.exchange().await?;
        self.mesh.config.payments_hands_on(false)
    }

    /// Waits until ledger is told for whom payments calls. The handle of that call, which has ended by then.
    async fn handed_on(&mut self) -> Result<String, Failure> {
        let [shop, payments] = ["shop", "payments"].map(|name| self.mesh.member(name).map(Member::spiffe_id));
        let wanted = (json!(payments?), json!(shop?));
        let mut said = Value::Null;
        let told = until(CHANGE, async || {
            let reply = self.mesh.member("shop").ok()?.ask_app("/call/http1").await.ok()?;
            said = reply.json();
            let told = &said["answer"]["next"]["told"];
            ((&told["caller"], &told["subject"]) == (&wanted.0, &wanted.1)).then_some(())
        });
        let told = told.await;
        let status = said["status"].as_u64().and_then(|status| u16::try_from(status).ok());
        let leaked = header(&said["answer"]["next"]["told"], "x-fapi-context").is_some();
        let observed = Outcome { status, reason: None };
        let observed =
            if told.is_none() || leaked { observed.because(format!("ledger was told {said}")) } else { observed };
        self.report.add("8 ledger is told: caller payments, on behalf of shop", Outcome::status(200), observed);
        header(&said["answer"]["told"], "x-fapi-context").or_fail(
            "payments' app got no handle",
            "payments",
            "read its log",
        )
    }

    /// payments' app calls ledger with nothing to hand on.
    async fn without_a_call(&mut self, ended: &str) -> Result<(), Failure> {
        let payments = self.mesh.member("payments")?;
        let reply = payments.ask_app("/call/http1").await;
        let said = reply.or_fail("payments' app does not answer", "payments", "read its log")?.json();
        let status = said["status"].as_u64().and_then(|status| u16::try_from(status).ok());
        let alone = Outcome { status, reason: said["answer"]["error"].as_str().map(ToOwned::to_owned) };
        let late = self.called_for(ended).await?;
        let unknown = self.called_for(&"0".repeat(32)).await?;
        let refused = |status: u16, reason: &str| Outcome::status(status).because(reason);
        self.report.add("8 payments calls ledger for nobody", refused(400, "request_malformed"), alone);
        self.report.add("8 for a call that has ended", refused(503, "token_unavailable"), late);
        self.report.add("8 for a call that payments never got", refused(503, "token_unavailable"), unknown);
        Ok(())
    }

    async fn called_for(&self, context: &str) -> Result<Outcome, Failure> {
        let reply = self.mesh.member("payments")?.call_for(ENTRIES, context).await;
        let reply: Reply = reply.or_fail("payments' sidecar does not answer", "payments", "read its log")?;
        let outcome = Outcome::status(reply.status);
        Ok(match reply.json()["error"].as_str() {
            Some(reason) => outcome.because(reason),
            None => outcome,
        })
    }

    /// The issuer, asked by thieves of payments and of an intruder.
    async fn exchange(&mut self) -> Result<(), Failure> {
        let (audience, key) = (self.mesh.member("ledger")?.origin(), Key::generate()?);
        let wish = |subject| Wish { audience: &audience, scope: None, dpop: Some(&key), subject: Some(subject) };
        let token = self.shop_token(None).await?;
        let reply = self.payments.wish(&self.issuer, &wish(&token)).await?;
        let (_, claims) = jose::read(reply.json()["access_token"].as_str().unwrap_or_default());
        let chain = format!("sub {}, act {}", claims["sub"], claims["act"]);
        let [shop, payments] = [&self.shop, &self.payments].map(|thief| thief.identity.spiffe_id.as_str());
        let expect = Outcome::status(200).because(format!("sub {}, act {}", json!(shop), json!({"sub": payments})));
        self.report.add(
            "8 shop's token, exchanged by payments for ledger",
            expect,
            Outcome::status(reply.status).because(chain),
        );

        let refused = |reason: &str| Outcome::status(400).because(reason);
        let own = self.payments.token(&self.issuer, &audience, None, Some(&key)).await?;
        let observed = self.wished(&self.payments, &wish(&own)).await?;
        self.report.add("8 a token that was not sent to payments", refused("subject_token_audience"), observed);
        let observed = self.wished(&self.intruder, &wish(&token)).await?;
        self.report.add("8 shop's token in the intruder's hands", refused("subject_token_audience"), observed);
        let observed = self.wished(&self.payments, &wish(&self.old)).await?;
        self.report.add("8 a token of shop that has expired", refused("subject_token_expired"), observed);
        let (_, claims) = jose::read(&token);
        self.mesh
            .config
            .revoke("handed-on", &format!("token: {{issuer: {}, id: {}}}", claims["iss"], claims["jti"]))?;
        let expect = refused("subject_token_revoked");
        let mut observed = Ok(Outcome::default());
        let revoked = until(CHANGE, async || {
            observed = self.wished(&self.payments, &wish(&token)).await;
            match &observed {
                Ok(outcome) => (*outcome == expect).then_some(()),
                Err(_) => Some(()),
            }
        });
        revoked.await;
        self.report.add("8 a token of shop that was revoked", expect, observed?);
        Ok(())
    }
}

/// A header that an app was told.
fn header(told: &Value, name: &str) -> Option<String> {
    let found = told["telling"].as_array()?.iter().find(|header| header[0] == name)?;
    found[1].as_str().map(ToOwned::to_owned)
}
