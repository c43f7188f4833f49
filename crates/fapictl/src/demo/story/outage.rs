//! Chapter 5: the operator is killed. The mesh lives on what it has, and refuses what it does not know.

use std::time::Duration;

use fapi::Rejection;
use tokio::time::{Instant, sleep_until};

use super::Story;
use super::load::Load;
use crate::crypto;
use crate::demo::config::TOKEN_SECONDS;
use crate::demo::mesh::plain;
use crate::demo::report::Outcome;
use crate::demo::shot::Target;
use crate::failure::{Failure, OrFail};
use crate::raw::Ask;
use crate::wait::until;

/// Longer than the interval at which tokens are refreshed (half their life), shorter than what is left of one that
/// was fetched just before.
const AWAY: Duration = Duration::from_millis(TOKEN_SECONDS * 1000 / 2 + 500);
/// Renewal of everything, before and after.
const RENEWAL: Duration = Duration::from_secs(10);
/// How often the returned operator is asked to renew: the first ones may come before the sidecars are back.
const ASK_AGAIN: Duration = Duration::from_millis(500);

impl Story<'_> {
    pub(super) async fn outage(&mut self) -> Result<(), Failure> {
        self.steal_again().await?;
        let outbound = self.mesh.member("shop")?.outbound();
        let load = Load::start(outbound).await?;
        // New certificates bring new tokens, so that every sidecar has a whole token life before it.
        let before = self.shown().await?;
        self.mesh.renew_certificates()?;
        let ready = self.all_renewed(&before, RENEWAL).await;
        ready.then_some(()).or_fail("the certificates were not renewed", "chapter 5", "read the sidecars' logs")?;

        self.report.progress("the operator is gone, calls go on");
        let back_at = Instant::now() + AWAY;
        self.mesh.kill_operator().await;
        let looked_up = self.new_destination().await?;
        sleep_until(back_at).await;

        self.report.progress("the operator comes back");
        let before = self.shown().await?;
        self.mesh.start_operator()?;
        self.mesh.operator_is_back().await?;
        let renewed = self.renewed_again(&before).await;
        let calls = load.stop().await?;

        let step = format!("5 the operator is killed for {:.1} s under calls: none fails", AWAY.as_secs_f32());
        self.report.add(step, Outcome::status(200), calls.outcome());
        let expect = Outcome::refused(Rejection::DestinationUnknown);
        self.report.add("5 a destination that nobody asked for before, while it is away", expect, looked_up);
        let renewal = if renewed { Outcome::status(200) } else { Outcome::default().because("not renewed") };
        self.report.add("5 it comes back: sidecars reconnect, renewals go on", Outcome::status(200), renewal);
        Ok(())
    }

    /// shop calls ledger, which it never did. Its sidecar cannot ask, and must not guess.
    async fn new_destination(&self) -> Result<Outcome, Failure> {
        let (shop, ledger) = (self.mesh.member("shop")?, self.mesh.member("ledger")?);
        let id = crypto::uuid()?;
        let seen_by_ledger = ledger.app_log.mark();
        let target = Target::of(shop);
        let marks = target.marks();
        let url = format!("http://{}/entries", ledger.host());
        let ask = Ask::new("POST", &ledger.host(), &url).header("x-fapi-interaction-id", &id);
        let reply = plain(shop.outbound(), &ask).await.or_fail("no answer", "shop's sidecar", "read its log")?;
        if seen_by_ledger.lines().iter().any(|line| line["told"]["interaction_id"] == id) {
            return Ok(Outcome::status(reply.status).because("it reached the app of ledger"));
        }
        Ok(target.decided(reply.status, &id, &marks).await)
    }

    async fn renewed_again(&self, before: &super::rotation::Shown) -> bool {
        let renewed = until(RENEWAL, async || {
            self.mesh.renew_certificates().ok()?;
            self.all_renewed(before, ASK_AGAIN).await.then_some(())
        });
        renewed.await.is_some()
    }
}
