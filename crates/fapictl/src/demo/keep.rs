//! What `--keep` does when the story is over: slows the mesh down to human speed and prints commands to paste.

use std::time::Duration;

use super::mesh::{Mesh, SHELL};
use super::report::Report;
use super::thief::Thief;
use crate::failure::{Failure, OrFail};
use crate::jose;
use crate::token::Issuer;
use crate::wait::until;

/// Seconds. Nobody pastes fast enough for the lifetimes of the story.
const CERTIFICATE: u64 = 24 * 3600;
const TOKEN: u64 = 3600;
/// The operator takes the new lifetimes over within this time.
const CHANGE: Duration = Duration::from_secs(10);

/// Prints how to attack the mesh that now stays up.
pub(crate) async fn stay(mesh: &Mesh, report: &Report) -> Result<(), Failure> {
    report.progress("slowing down for people");
    mesh.config.lifetimes(CERTIFICATE, TOKEN)?;
    let slow = until(CHANGE, async || slow(mesh).await.ok()?.then_some(())).await;
    slow.or_fail("the new lifetimes are not taken over", mesh.folder().display(), "read the operator's log")?;
    // Not all sidecars must renew now: each does when its time comes.
    mesh.renew_certificates()?;
    mesh.describe()?;
    report.quiet();
    commands(mesh);
    Ok(())
}

/// Whether a token that is fetched now lives long.
async fn slow(mesh: &Mesh) -> Result<bool, Failure> {
    let operator = mesh.operator()?;
    let thief = Thief::of(&operator, mesh.member("shop")?).await?;
    let audience = mesh.member("payments")?.origin();
    let token = thief.token(&Issuer::of(&operator)?, &audience, None, None).await?;
    let (_, claims) = jose::read(&token);
    let (start, end) = (claims["iat"].as_u64().unwrap_or_default(), claims["exp"].as_u64().unwrap_or_default());
    Ok(end.saturating_sub(start) > TOKEN / 2)
}

/// On stderr, so that `--output json` stays JSON.
fn commands(mesh: &Mesh) {
    let state = mesh.folder().display();
    eprintln!(
        r#"
The mesh stays up until Ctrl-C; {state}/demo.json describes it. In another terminal, be shop, then be a thief:

  . {state}/{SHELL}
  fapictl identity --state "$MESH" --workload bank/shop-1 --out "$MESH/shop"
  fapictl identity --state "$MESH" --workload outside/intruder-1 --out "$MESH/intruder"
  TOKEN=$(fapictl token --identity "$MESH/shop" --issuer "$ISSUER" --audience https://payments.bank)
  curl -ki --cert "$MESH/shop/chain.pem" --key "$MESH/shop/key.pem" --connect-to "payments.bank:443:$PAYMENTS" \
    -H "Authorization: Bearer $TOKEN" -X POST https://payments.bank/transfers
  curl -ki --cert "$MESH/intruder/chain.pem" --key "$MESH/intruder/key.pem" --connect-to "payments.bank:443:$PAYMENTS" \
    -H "Authorization: Bearer $TOKEN" -X POST https://payments.bank/transfers
  tail -n 1 "$MESH/logs/payments-1.log"
"#
    );
}
