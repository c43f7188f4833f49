//! Who attacks: a client that has stolen an identity of the mesh and speaks raw TLS and HTTP.

use crate::failure::{Failure, OrFail};
use crate::identity::{Identity, Operator};
use crate::jose::Key;
use crate::raw::{Reply, Tls};
use crate::token::{Issuer, Wish};

use super::mesh::Member;

const OPERATOR_NAMESPACE: &str = "fapi-mesh";

/// The certificate of a workload in the wrong hands. It was enrolled with the workload's own token file, so for
/// the mesh it is as good as the workload's.
pub(crate) struct Thief {
    pub(crate) identity: Identity,
    tls: Tls,
}

impl Thief {
    /// Takes the identity of `member`.
    pub(crate) async fn of(operator: &Operator, member: &Member) -> Result<Self, Failure> {
        let identity = operator.enroll(&member.namespace, &member.name, OPERATOR_NAMESPACE).await?;
        let tls = speaking(&identity, b"http/1.1")?;
        Ok(Self { identity, tls })
    }

    /// Connections with the stolen certificate, HTTP/1.1.
    pub(crate) fn tls(&self) -> &Tls {
        &self.tls
    }

    /// The same, HTTP/2.
    pub(crate) fn http2(&self) -> Result<Tls, Failure> {
        speaking(&self.identity, b"h2")
    }

    /// What the issuer says to a wish of this workload.
    pub(crate) async fn wish(&self, issuer: &Issuer, wish: &Wish<'_>) -> Result<Reply, Failure> {
        issuer.ask(&self.tls, self.identity.spiffe_id.as_str(), wish).await
    }

    /// A token for `audience`; fails when the issuer refuses.
    pub(crate) async fn token(
        &self,
        issuer: &Issuer,
        audience: &str,
        scope: Option<&str>,
        dpop: Option<&Key>,
    ) -> Result<String, Failure> {
        let reply = self.wish(issuer, &Wish { audience, scope, dpop, subject: None }).await?;
        let answer = reply.json();
        let token = answer["access_token"].as_str().map(ToOwned::to_owned);
        let what = format!("{} got no token ({})", self.identity.spiffe_id.as_str(), answer["error"]);
        token.or_fail(&what, audience, "see the operator's log")
    }
}

fn speaking(identity: &Identity, alpn: &[u8]) -> Result<Tls, Failure> {
    let tls = Tls::new(Some(identity.for_tls()), alpn);
    tls.or_fail("the stolen certificate cannot be used", identity.spiffe_id.as_str(), "run the demo again")
}
