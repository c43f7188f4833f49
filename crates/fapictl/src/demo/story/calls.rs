//! Chapter 1: shop calls payments, payments calls ledger. Plain programs, and everything passes.

use serde_json::Value;

use super::Story;
use crate::demo::report::Outcome;
use crate::failure::{Failure, OrFail};

/// Ways to call, as the app knows them, and the status of success.
const WAYS: [(&str, &str, u16); 4] = [
    ("http1", "1 shop calls payments calls ledger, HTTP/1.1", 200),
    ("http2", "1 shop calls payments calls ledger, HTTP/2", 200),
    ("grpc", "1 shop calls payments, gRPC with trailers", 200),
    ("websocket", "1 shop calls payments, WebSocket", 101),
];

impl Story<'_> {
    pub(super) async fn calls(&mut self) -> Result<(), Failure> {
        self.report.progress("shop calls payments calls ledger");
        for (way, step, status) in WAYS {
            let reply = self.mesh.member("shop")?.ask_app(&format!("/call/{way}")).await;
            let reply = reply.or_fail("shop's app does not answer", "shop", "read its log")?;
            let observed = self.judged(&reply.json(), way)?;
            self.report.add(step, Outcome::status(status), observed);
        }
        Ok(())
    }

    /// The status that shop's app saw, and what is wrong with the answer, if anything.
    fn judged(&self, said: &Value, way: &str) -> Result<Outcome, Failure> {
        let status = said["status"].as_u64().and_then(|status| u16::try_from(status).ok());
        let outcome = Outcome { status, reason: said["error"].as_str().map(ToOwned::to_owned) };
        let answer = &said["answer"];
        let mut expected = vec![(&answer["told"]["caller"], Value::from(self.mesh.member("shop")?.spiffe_id()))];
        match way {
            "grpc" => {
                expected.push((&answer["same"], true.into()));
                expected.push((&answer["grpc_status"], "0".into()));
            }
            "websocket" => expected.push((&answer["same"], true.into())),
            _ => {
                let payments = self.mesh.member("payments")?.spiffe_id();
                expected.push((&answer["next"]["told"]["caller"], payments.into()));
            }
        }
        let wrong = expected.into_iter().find(|(found, wanted)| *found != wanted);
        Ok(match (outcome.reason.is_some(), wrong) {
            (false, Some((found, wanted))) => outcome.because(format!("{found} where {wanted} was due: {answer}")),
            _ => outcome,
        })
    }
}
