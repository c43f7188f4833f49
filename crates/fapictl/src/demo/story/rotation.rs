//! Chapter 4: every certificate of the mesh is replaced again and again while calls run.

use std::collections::HashMap;
use std::time::Duration;

use rustls::pki_types::CertificateDer;

use super::Story;
use super::load::{CONNECTIONS, Load};
use crate::demo::report::Outcome;
use crate::demo::shot::Target;
use crate::failure::Failure;
use crate::wait::until;

const ROTATIONS: usize = 20;
/// One rotation of the whole mesh.
const ONE: Duration = Duration::from_secs(10);

/// The certificate that each sidecar shows, by service.
pub(super) type Shown = HashMap<String, CertificateDer<'static>>;

impl Story<'_> {
    pub(super) async fn rotation(&mut self) -> Result<(), Failure> {
        self.steal_again().await?;
        let load = Load::start(self.mesh.member("shop")?.outbound()).await?;
        let mut done = 0;
        while done < ROTATIONS {
            self.report
                .progress(&format!("rotation {} of {ROTATIONS}, under calls on {CONNECTIONS} connections", done + 1));
            let before = self.shown().await?;
            self.mesh.renew_certificates()?;
            if !self.all_renewed(&before, ONE).await {
                break;
            }
            done += 1;
        }
        let calls = load.stop().await?;
        let observed = match done {
            ROTATIONS => calls.outcome(),
            _ => Outcome::default().because(format!("rotation {} did not end", done + 1)),
        };
        let step =
            format!("4 {ROTATIONS} renewals of all certificates under calls on {CONNECTIONS} connections: none fails");
        self.report.add(step, Outcome::status(200), observed);
        Ok(())
    }

    /// What every sidecar shows to a caller just now.
    pub(super) async fn shown(&self) -> Result<Shown, Failure> {
        let mut shown = Shown::new();
        for target in self.mesh.members.iter().map(Target::of) {
            let line = target.open(self.shop.tls()).await?;
            shown.extend(line.server_leaf().map(|leaf| (target.host.clone(), leaf.clone())));
        }
        Ok(shown)
    }

    /// Waits until every sidecar shows another certificate than `before`.
    pub(super) async fn all_renewed(&self, before: &Shown, limit: Duration) -> bool {
        let renewed = until(limit, async || {
            let now = self.shown().await.ok()?;
            before.iter().all(|(host, leaf)| now.get(host).is_some_and(|new| new != leaf)).then_some(())
        });
        renewed.await.is_some()
    }
}
