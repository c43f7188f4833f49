//! Chapter 6: a policy that only audits. Bad calls pass, are logged as what they are, and bring no identity.

use fapi::Rejection;
use serde_json::Value;

use super::{CHANGE, Story};
use crate::demo::config::Payments;
use crate::demo::report::Outcome;
use crate::failure::Failure;
use crate::wait::until;

impl Story<'_> {
    pub(super) async fn audit(&mut self) -> Result<(), Failure> {
        self.report.progress("auditing instead of enforcing");
        self.steal_again().await?;
        self.mesh.config.payments(&Payments { mode: "Audit", ..Payments::default() })?;
        let target = self.target("payments")?;
        let expect = Outcome::status(200).because(Rejection::TokenMissing.id());
        let mut last = Err(Failure::new("the call was not made", "chapter 6", "run the demo again"));
        let passes = until(CHANGE, async || {
            last = target.shoot(self.shop.tls(), target.ask("POST", "/transfers")).await;
            match &last {
                Ok(shot) => (shot.outcome == expect).then_some(()),
                Err(_) => Some(()),
            }
        });
        passes.await;
        let shot = last?;
        let told = &shot.json()["told"];
        let nameless = told["caller"] == Value::Null && told["client_id"] == Value::Null;
        let observed = match nameless {
            true => shot.outcome,
            false => shot.outcome.because(format!("the app was told {told}")),
        };
        self.report.add("6 Audit: a call without a token passes, nameless, as would_refuse", expect, observed);
        self.mesh.config.payments(&Payments::default())
    }
}
