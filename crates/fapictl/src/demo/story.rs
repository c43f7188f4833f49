//! The story that the demo plays, chapter by chapter. Every row of the report is something that happened.

mod audit;
mod calls;
mod forged;
mod handing_on;
mod handshakes;
mod issuer;
mod load;
mod outage;
mod policy;
mod proofs;
mod revocation;
mod rotation;
mod tokens;

use std::time::Duration;

use fapi::Rejection;
use serde_json::Value;
use tokens::Kept;

use super::logs::Log;
use super::mesh::Mesh;
use super::report::{Outcome, Report};
use super::shot::{Shot, Target};
use super::thief::Thief;
use crate::failure::{Failure, OrFail};
use crate::token::Issuer;
use crate::wait::until;

/// A change of policy must be in force within this time.
const CHANGE: Duration = Duration::from_secs(5);
/// How long an attack waits for a token to expire, in seconds.
const PATIENCE: u64 = 60;

/// What every chapter needs.
struct Story<'a> {
    mesh: &'a mut Mesh,
    report: &'a mut Report,
    issuer: Issuer,
    shop: Thief,
    payments: Thief,
    intruder: Thief,
    /// A token of shop for payments from the beginning: in the last chapter it has expired.
    old: String,
    /// The log of the sidecar that the attacker himself has.
    own: Option<Log>,
}

/// Plays it all.
pub(crate) async fn play(mesh: &mut Mesh, report: &mut Report) -> Result<(), Failure> {
    let mut story = Story::begin(mesh, report).await?;
    let expired = story.keep_until_expired().await?;
    story.calls().await?;
    story.handshakes().await?;
    story.impostor().await?;
    story.tokens().await?;
    story.proofs().await?;
    story.issuer_refuses().await?;
    story.forged_headers().await?;
    story.forged_trailers().await?;
    story.policy().await?;
    story.rotation().await?;
    story.outage().await?;
    story.expired(expired).await?;
    story.audit().await?;
    story.revocation().await?;
    story.handing_on().await
}

/// Plays what needs no hand on the mesh: the attacks. One of them needs a token that has expired, and is left out where that takes
/// longer than anybody waits.
pub(crate) async fn attack(mesh: &mut Mesh, report: &mut Report) -> Result<(), Failure> {
    let mut story = Story::begin(mesh, report).await?;
    let kept = story.keep_until_expired().await?;
    story.handshakes().await?;
    story.impostor().await?;
    story.tokens().await?;
    story.proofs().await?;
    story.issuer_refuses().await?;
    story.forged_headers().await?;
    story.forged_trailers().await?;
    if kept.seconds > PATIENCE {
        story.report.progress(&format!("not played: a token that has expired, as it would in {} s", kept.seconds));
        return Ok(());
    }
    story.expired(kept).await
}

/// Plays them as an app of the mesh, in the pod of the intruder. What is sent to other pods must not leave; the operator is not in the
/// mesh, so it is reached, and refuses by itself. Trailers come with requests that do not get that far.
pub(crate) async fn attack_from_mesh(mesh: &mut Mesh, report: &mut Report) -> Result<(), Failure> {
    let mut story = Story::begin(mesh, report).await?;
    story.own = Some(story.mesh.member("intruder")?.log.clone());
    story.report.expect_instead(Some(Outcome::default().because(Rejection::OpaqueNotAllowed.id())));
    story.handshakes().await?;
    story.tokens().await?;
    story.proofs().await?;
    story.forged_headers().await?;
    story.report.expect_instead(None);
    story.issuer_refuses().await
}

impl<'a> Story<'a> {
    async fn begin(mesh: &'a mut Mesh, report: &'a mut Report) -> Result<Self, Failure> {
        let operator = mesh.operator()?;
        let issuer = Issuer::of(&operator)?;
        let shop = Thief::of(&operator, mesh.member("shop")?).await?;
        Ok(Self {
            old: shop.token(&issuer, &mesh.member("payments")?.origin(), None, None).await?,
            issuer,
            shop,
            payments: Thief::of(&operator, mesh.member("payments")?).await?,
            intruder: Thief::of(&operator, mesh.member("intruder")?).await?,
            own: None,
            mesh,
            report,
        })
    }

    /// Steals all identities anew: certificates of the demo live for half a minute only.
    async fn steal_again(&mut self) -> Result<(), Failure> {
        let operator = self.mesh.operator()?;
        self.shop = Thief::of(&operator, self.mesh.member("shop")?).await?;
        self.payments = Thief::of(&operator, self.mesh.member("payments")?).await?;
        self.intruder = Thief::of(&operator, self.mesh.member("intruder")?).await?;
        Ok(())
    }

    fn target(&self, name: &str) -> Result<Target, Failure> {
        Ok(Target::of(self.mesh.member(name)?).behind(self.own.clone()))
    }

    /// A token of the stolen shop for payments.
    async fn shop_token(&self, scope: Option<&str>) -> Result<String, Failure> {
        let audience = self.mesh.member("payments")?.origin();
        self.shop.token(&self.issuer, &audience, scope, None).await
    }

    /// One row for a shot that has been fired.
    fn shot(&mut self, step: &str, expect: Outcome, shot: &Shot) {
        self.report.add(step, expect, shot.outcome.clone());
    }

    /// A status document that the operator writes; `Null` while there is none.
    fn status(&self, kind: &str, namespace: &str, name: &str) -> Value {
        let path = self.mesh.folder().join(format!("status/{kind}/{namespace}/{name}.yaml"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        serde_saphyr::from_str(&text).unwrap_or_default()
    }

    /// Waits until the status of shop's (or another's) FapiClient gives `reason` for its first target.
    async fn client_status(&self, namespace: &str, name: &str, reason: &str) -> Outcome {
        let mut last = "no status".to_owned();
        let found = until(CHANGE, async || {
            let status = self.status("FapiClient", namespace, name);
            let said = status["targets"][0]["reason"].as_str().or(status["status"]["targets"][0]["reason"].as_str());
            said.unwrap_or("no status").clone_into(&mut last);
            (last == reason).then_some(())
        });
        found.await;
        Outcome::default().because(last)
    }

    /// The token that is shown again when it has expired: fetched now, kept over a connection of its own.
    async fn keep_until_expired(&self) -> Result<Kept, Failure> {
        tokens::keep_until_expired(self).await
    }

    async fn expired(&mut self, kept: Kept) -> Result<(), Failure> {
        self.report.progress("waiting for a token to expire");
        let observed = kept.shown.await.or_fail("the attack was not played", "the demo", "run it again")??;
        self.report.add("2 a token that has expired", Outcome::refused(Rejection::TokenExpired), observed);
        Ok(())
    }
}
