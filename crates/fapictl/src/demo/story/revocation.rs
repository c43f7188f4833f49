//! Chapter 7: what was stolen is revoked, under a living connection. Nobody else notices.

use fapi::{CertThumbprint, Rejection};

use super::policy::Lasting;
use super::tokens::bearer;
use super::{CHANGE, Story};
use crate::demo::report::Outcome;
use crate::failure::{Failure, OrFail};
use crate::jose;
use crate::token::Wish;
use crate::wait::until;

impl Story<'_> {
    pub(super) async fn revocation(&mut self) -> Result<(), Failure> {
        self.report.progress("revoking what was stolen, under a living connection");
        self.steal_again().await?;
        let mut lasting = Lasting::open(self.target("payments")?, self.shop.tls()).await?;
        self.token_revoked(&mut lasting).await?;
        self.certificate_revoked().await?;
        let reply = self.mesh.member("shop")?.ask_app("/call/http1").await;
        let reply = reply.or_fail("shop's app does not answer", "shop", "read its log")?;
        let status = reply.json()["status"].as_u64().and_then(|status| u16::try_from(status).ok());
        let observed = Outcome { status, reason: None };
        self.report.add("7 shop itself, with a certificate of its own, calls on", Outcome::status(200), observed);
        Ok(())
    }

    async fn token_revoked(&mut self, lasting: &mut Lasting) -> Result<(), Failure> {
        let token = self.shop_token(None).await?;
        let good = Outcome::status(200);
        let observed = lasting.becomes(&token, &good).await?;
        self.report.add("7 a stolen token passes, from the stolen certificate", good.clone(), observed);
        let (_, claims) = jose::read(&token);
        self.mesh.config.revoke("token", &format!("token: {{issuer: {}, id: {}}}", claims["iss"], claims["jti"]))?;
        let refused = Outcome::refused(Rejection::Revoked);
        let observed = lasting.becomes(&token, &refused).await?;
        self.report.add("7 the token is revoked; same connection", refused, observed);
        let other = self.shop_token(None).await?;
        let observed = lasting.transfer(&other).await?;
        self.report.add("7 another token of the same client passes", good, observed);
        Ok(())
    }

    async fn certificate_revoked(&mut self) -> Result<(), Failure> {
        let token = self.shop_token(None).await?;
        let leaf = self.shop.identity.chain.first().or_fail("no certificate", "shop", "run the demo again")?;
        let thumbprint = CertThumbprint::of_der(leaf);
        self.mesh.config.revoke("certificate", &format!("certificate: {thumbprint}"))?;
        let target = self.target("payments")?;
        let refused = Outcome::default().because(Rejection::Revoked.id());
        let mut last = Err(Failure::new("the call was not made", "chapter 7", "run the demo again"));
        let shut_out = until(CHANGE, async || {
            last = target.shoot(self.shop.tls(), bearer(target.ask("POST", "/transfers"), &token)).await;
            match &last {
                Ok(shot) => (shot.outcome == refused).then_some(()),
                Err(_) => Some(()),
            }
        });
        shut_out.await;
        self.shot("7 the stolen certificate is revoked: no handshake with it", refused, &last?);
        let audience = target.origin.clone();
        let wish = Wish { audience: &audience, scope: None, dpop: None, subject: None };
        let observed = self.wished(&self.shop, &wish).await?;
        let expect = Outcome::status(400).because("revoked");
        self.report.add("7 the issuer gives it no token", expect, observed);
        Ok(())
    }
}
