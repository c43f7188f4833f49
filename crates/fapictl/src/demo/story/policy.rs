//! Chapter 3: the rules change while calls run. A change holds for connections and tokens that already exist;
//! a broken file changes nothing.

use fapi::Rejection;
use serde_json::Value;

use super::tokens::bearer;
use super::{CHANGE, Story};
use crate::demo::config::Payments;
use crate::demo::report::Outcome;
use crate::demo::shot::Target;
use crate::failure::Failure;
use crate::raw::{Line, Tls};
use crate::token::Wish;
use crate::wait::until;

/// A connection that stays open through a whole chapter.
pub(super) struct Lasting {
    target: Target,
    line: Line,
}

impl Lasting {
    /// Opens it.
    pub(super) async fn open(target: Target, tls: &Tls) -> Result<Self, Failure> {
        Ok(Self { line: target.open(tls).await?, target })
    }

    /// One transfer over the old connection.
    pub(super) async fn transfer(&mut self, token: &str) -> Result<Outcome, Failure> {
        let ask = bearer(self.target.ask("POST", "/transfers"), token);
        Ok(self.target.shoot_over(&mut self.line, ask).await?.outcome)
    }

    /// Transfers until the outcome is the one that a change should bring; the last outcome in any case.
    pub(super) async fn becomes(&mut self, token: &str, expect: &Outcome) -> Result<Outcome, Failure> {
        let mut last = Ok(Outcome::default());
        let done = until(CHANGE, async || {
            last = self.transfer(token).await;
            match &last {
                Ok(outcome) => (outcome == expect).then_some(()),
                Err(_) => Some(()),
            }
        });
        done.await;
        last
    }
}

impl Story<'_> {
    pub(super) async fn policy(&mut self) -> Result<(), Failure> {
        self.report.progress("changing policy under a living connection");
        self.steal_again().await?;
        let mut lasting = Lasting::open(self.target("payments")?, self.shop.tls()).await?;
        self.mesh.config.shop_lists_scopes()?;

        self.out_of_callers(&mut lasting).await?;
        self.scope_withdrawn(&mut lasting).await?;
        self.broken_file(&mut lasting).await
    }

    async fn out_of_callers(&mut self, lasting: &mut Lasting) -> Result<(), Failure> {
        let token = self.shop_token(None).await?;
        self.mesh.config.payments(&Payments { caller: "nobody", ..Payments::default() })?;
        let refused = Outcome::refused(Rejection::CallerNotAllowed);
        let observed = lasting.becomes(&token, &refused).await?;
        self.report.add("3 shop is taken out of callers; same token, same connection", refused, observed);
        self.mesh.config.payments(&Payments::default())?;
        let restored = Outcome::status(200);
        let observed = lasting.becomes(&token, &restored).await?;
        self.report.add("3 shop is put back", restored, observed);
        Ok(())
    }

    async fn scope_withdrawn(&mut self, lasting: &mut Lasting) -> Result<(), Failure> {
        let token = self.shop_token(None).await?;
        self.mesh.config.payments(&Payments { scope: "transfers:approve", ..Payments::default() })?;
        let refused = Outcome::refused(Rejection::ScopeInsufficient);
        let observed = lasting.becomes(&token, &refused).await?;
        self.report.add("3 a scope of shop is withdrawn: its token no longer suffices", refused, observed);

        let audience = lasting.target.origin.clone();
        let wish = Wish { audience: &audience, scope: Some("transfers:write"), dpop: None, subject: None };
        let observed = self.wished(&self.shop, &wish).await?;
        let expect = Outcome::status(400).because("scope_not_allowed");
        self.report.add("3 the issuer does not give it either", expect, observed);

        let expect = Outcome::default().because("ScopeNotAllowed");
        let observed = self.client_status("bank", "shop", "ScopeNotAllowed").await;
        self.report.add("3 shop's FapiClient says so in its status", expect, observed);

        self.mesh.config.payments(&Payments::default())?;
        let restored = Outcome::status(200);
        let observed = lasting.becomes(&token, &restored).await?;
        self.report.add("3 the scope is given back", restored, observed);
        Ok(())
    }

    /// The last good version stays in force, also when the operator begins anew with only the broken file to read.
    async fn broken_file(&mut self, lasting: &mut Lasting) -> Result<(), Failure> {
        let file = self.mesh.config.break_payments()?;
        let observed = self.problem(file).await;
        self.report.add("3 a broken file is reported", Outcome::default().because(file), observed);
        let token = self.shop_token(None).await?;
        let observed = lasting.transfer(&token).await?;
        self.report.add("3 it changes nothing", Outcome::status(200), observed);

        self.report.progress("restarting the operator");
        self.mesh.stop_operator().await;
        self.mesh.forget_problems();
        self.mesh.start_operator()?;
        self.mesh.operator_is_back().await?;
        let observed = self.problem(file).await;
        self.report.add("3 it is reported again by a restarted operator", Outcome::default().because(file), observed);
        // A new token says that the new operator has the old rules: without any it would grant none.
        let token = self.shop_token(Some("transfers:write")).await?;
        let observed = lasting.transfer(&token).await?;
        self.report.add("3 it still changes nothing", Outcome::status(200), observed);

        self.mesh.config.payments(&Payments::default())?;
        Ok(())
    }

    /// The file that the list of problems names, once it names one with a line, a field and a remedy.
    async fn problem(&self, file: &str) -> Outcome {
        let path = self.mesh.folder().join("status/problems.yaml");
        let found = until(CHANGE, async || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let list: Value = serde_saphyr::from_str(&text).unwrap_or_default();
            list.as_array()?.iter().find_map(|problem| {
                let told = problem["file"].as_str()?;
                let whole = problem["line"].is_u64() && problem["field"].is_string() && problem["remedy"].is_string();
                (whole && told.ends_with(file)).then(|| file.to_owned())
            })
        });
        Outcome::default().because(found.await.unwrap_or_else(|| "nothing was reported".to_owned()))
    }
}
