//! Chapter 2, identity headers: whatever a caller claims about itself, no app hears it.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;

use super::Story;
use super::tokens::bearer;
use crate::crypto;
use crate::demo::report::Outcome;
use crate::demo::shot::Target;
use crate::failure::{Failure, OrFail};
use crate::raw::Reply;

/// What the forger wants to be taken for.
const LIE: &str = "spiffe://bank.example/ns/bank/sa/president";
/// Every spelling that some framework takes for the identity.
const NAMES: [&str; 6] = [
    "x-fapi-caller",
    "X_Fapi_Caller",
    "x-fapi_client-id",
    "X-FAPI-CLIENT-ID",
    "x-forwarded-client-cert",
    "client-cert",
];

impl Story<'_> {
    pub(super) async fn forged_headers(&mut self) -> Result<(), Failure> {
        self.report.progress("forging identity headers");
        let target = self.target("payments")?;
        let token = self.shop_token(None).await?;
        let caller = self.mesh.member("shop")?.spiffe_id();

        let mut ask = bearer(target.ask("POST", "/transfers"), &token);
        for name in NAMES {
            ask = ask.header(name, LIE);
        }
        let shot = target.shoot(self.shop.tls(), ask).await?;
        let observed = believed(shot.outcome.clone(), &shot.json(), &caller);
        self.report.add("2 forged identity headers, in every spelling, reach no app", Outcome::status(200), observed);
        Ok(())
    }

    pub(super) async fn forged_trailers(&mut self) -> Result<(), Failure> {
        let target = self.target("payments")?;
        let token = self.shop_token(None).await?;
        let caller = self.mesh.member("shop")?.spiffe_id();
        let observed = self.forged_trailers_http1(&target, &token, &caller).await?;
        self.report.add("2 the same in trailers, HTTP/1.1", Outcome::status(200), observed);
        let observed = self.forged_trailers_http2(&target, &token, &caller).await?;
        self.report.add("2 the same in trailers, HTTP/2", Outcome::status(200), observed);
        Ok(())
    }

    async fn forged_trailers_http1(&self, target: &Target, token: &str, caller: &str) -> Result<Outcome, Failure> {
        let id = crypto::uuid()?;
        let names = NAMES.join(", ");
        let trailers: String = NAMES.iter().map(|name| format!("{name}: {LIE}\r\n")).collect();
        let request = format!(
            "POST /transfers HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\nx-fapi-interaction-id: {id}\r\n\
             te: trailers\r\ntrailer: {names}\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n{trailers}\r\n",
            target.host
        );
        let marks = target.marks();
        let mut line = target.open(self.shop.tls()).await?;
        let reply = line.send(request.as_bytes()).await;
        let reply: Reply =
            reply.map_err(|refused| refused.error).or_fail("no answer", &target.host, "read the sidecar's log")?;
        let outcome = target.decided(reply.status, &id, &marks).await;
        Ok(believed(outcome, &reply.json(), caller))
    }

    async fn forged_trailers_http2(&self, target: &Target, token: &str, caller: &str) -> Result<Outcome, Failure> {
        let (id, remedy) = (crypto::uuid()?, "read the sidecar's log");
        let mut trailers = HeaderMap::new();
        for name in NAMES {
            let name = HeaderName::from_bytes(name.as_bytes()).or_fail("not a name", name, remedy)?;
            trailers.append(name, HeaderValue::from_static(LIE));
        }
        let body = Full::new(Bytes::from_static(b"{}")).with_trailers(std::future::ready(Some(Ok(trailers))));
        let request = Request::post(format!("{}/transfers", target.origin))
            .header("authorization", format!("Bearer {token}"))
            .header("x-fapi-interaction-id", &id)
            .body(body)
            .or_fail("no request", &target.host, remedy)?;
        let marks = target.marks();
        let line = target.open(&self.shop.http2()?).await?;
        let io = TokioIo::new(line.into_stream());
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.or_fail("no HTTP/2", &id, remedy)?;
        let connection = tokio::spawn(connection);
        let reply = sender.send_request(request).await.or_fail("no answer", &target.host, remedy)?;
        let status = reply.status().as_u16();
        let said = reply.into_body().collect().await.or_fail("half an answer", &target.host, remedy)?.to_bytes();
        connection.abort();
        let outcome = target.decided(status, &id, &marks).await;
        Ok(believed(outcome, &serde_json::from_slice(&said).unwrap_or_default(), caller))
    }
}

/// The app must have been told the truth, all of it, and nothing else.
fn believed(outcome: Outcome, said: &Value, caller: &str) -> Outcome {
    if outcome.reason.is_some() {
        return outcome;
    }
    if said.to_string().contains(LIE) {
        return outcome.because(format!("an app was told the lie: {}", said["told"]));
    }
    if said["told"]["caller"] != caller {
        return outcome.because(format!("the app was told {}", said["told"]));
    }
    outcome
}
