//! One attack: a request over a connection of its own, and what became of it. The status is what the attacker
//! saw, the reason is what the sidecar logged about exactly this request, and no app may have seen anything.

use std::net::SocketAddr;

use fapi::Rejection;
use serde_json::Value;

use super::logs::{Log, Mark};
use super::mesh::Member;
use super::report::Outcome;
use crate::crypto;
use crate::failure::{Failure, OrFail};
use crate::raw::{Ask, Line, Reply, Tls, connect, exchange_plain};

/// A sidecar to shoot at.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
    pub(crate) origin: String,
    log: Log,
    app_log: Log,
    /// What the attacker's own sidecar logs, if he has one.
    own: Option<Log>,
}

/// What became of a shot.
pub(crate) struct Shot {
    pub(crate) outcome: Outcome,
    /// None when there was no HTTP answer.
    pub(crate) reply: Option<Reply>,
}

impl Shot {
    /// The value that the answer carries for the next proof (RFC 9449 section 8.2).
    pub(crate) fn nonce(&self) -> Option<String> {
        self.reply.as_ref().and_then(|reply| reply.header("dpop-nonce")).map(ToOwned::to_owned)
    }

    /// What the app behind the sidecar said.
    pub(crate) fn json(&self) -> Value {
        self.reply.as_ref().map(Reply::json).unwrap_or_default()
    }
}

impl Target {
    pub(crate) fn of(member: &Member) -> Self {
        Self {
            address: member.inbound(),
            host: member.host(),
            origin: member.origin(),
            log: member.log.clone(),
            app_log: member.app_log.clone(),
            own: None,
        }
    }

    /// The same for an attacker behind a sidecar of his own, by its log.
    pub(crate) fn behind(self, own: Option<Log>) -> Self {
        Self { own, ..self }
    }

    /// A request to this service.
    pub(crate) fn ask(&self, method: &str, path: &str) -> Ask {
        Ask::new(method, &self.host, path)
    }

    /// Opens a connection for several shots.
    pub(crate) async fn open(&self, tls: &Tls) -> Result<Line, Failure> {
        let remedy = "read the sidecar's log";
        let line = connect(self.address, tls).await.or_fail("no connection", &self.host, remedy)?;
        line.map_err(|refused| refused.error).or_fail("the handshake failed", &self.host, remedy)
    }

    /// Shoots once over a new connection.
    pub(crate) async fn shoot(&self, tls: &Tls, ask: Ask) -> Result<Shot, Failure> {
        if let Some(own) = &self.own {
            return self.stopped(own, tls, &ask).await;
        }
        let marks = (self.log.mark(), self.app_log.mark());
        let line = connect(self.address, tls).await.or_fail("no connection", &self.host, "read the sidecar's log")?;
        match line {
            Ok(mut line) => self.send(&mut line, ask, &marks).await,
            Err(refused) => Ok(handshake(&marks.0, refused.local).await),
        }
    }

    /// Shoots once over a connection that is open.
    pub(crate) async fn shoot_over(&self, line: &mut Line, ask: Ask) -> Result<Shot, Failure> {
        let marks = (self.log.mark(), self.app_log.mark());
        self.send(line, ask, &marks).await
    }

    /// What the attacker's own sidecar does: TLS of the app goes nowhere, and neither does a token of the app in plain HTTP.
    async fn stopped(&self, own: &Log, tls: &Tls, ask: &Ask) -> Result<Shot, Failure> {
        let remedy = "read the log of the attacker's sidecar";
        let mark = own.mark();
        let passed = connect(self.address, tls).await.or_fail("no connection", &self.host, remedy)?.is_ok();
        let mut outcome = match refused_outbound(&mark, &[Rejection::OpaqueNotAllowed]).await {
            _ if passed => Outcome::default().because("TLS of an app has passed its sidecar"),
            Some(reason) => Outcome::default().because(reason),
            None => Outcome::default().because("nothing was logged"),
        };
        if ask.headers.iter().any(|(name, _)| name == "authorization") {
            let mark = own.mark();
            let reply = exchange_plain(self.address, ask).await.or_fail("no answer", &self.host, remedy)?;
            // A request that can be read in two ways is refused before its token is looked at.
            let refusals = [Rejection::AppAuthorizationPresent, Rejection::RequestMalformed];
            if refused_outbound(&mark, &refusals).await.is_none() {
                outcome = Outcome::status(reply.status).because("a token of an app has passed its sidecar");
            }
        }
        Ok(Shot { outcome, reply: None })
    }

    async fn send(&self, line: &mut Line, ask: Ask, marks: &(Mark<'_>, Mark<'_>)) -> Result<Shot, Failure> {
        let id = crypto::uuid()?;
        match line.ask(&ask.header("x-fapi-interaction-id", &id)).await {
            Err(refused) => Ok(handshake(&marks.0, refused.local).await),
            Ok(reply) => {
                let outcome = decided(reply.status, &id, marks).await;
                Ok(Shot { outcome, reply: Some(reply) })
            }
        }
    }

    /// What the sidecar logged about the request `id` that was answered with `status`, sent after `marks`.
    pub(crate) async fn decided(&self, status: u16, id: &str, marks: &(Mark<'_>, Mark<'_>)) -> Outcome {
        decided(status, id, marks).await
    }

    /// The ends of both logs, to be taken before a request.
    pub(crate) fn marks(&self) -> (Mark<'_>, Mark<'_>) {
        (self.log.mark(), self.app_log.mark())
    }
}

async fn decided(status: u16, id: &str, (log, app): &(Mark<'_>, Mark<'_>)) -> Outcome {
    let about = |line: &Value| line["event"] == "decision" && line["interaction_id"] == id;
    let outcome = Outcome::status(status);
    let Some(line) = log.find(about).await else {
        return outcome.because("nothing was logged");
    };
    let refused = line["outcome"] == "refused";
    if refused && app.lines().iter().any(|line| line["told"]["interaction_id"] == id) {
        return outcome.because("refused, yet it reached the app");
    }
    match line["reason"].as_str() {
        Some(reason) => outcome.because(reason),
        None => outcome,
    }
}

/// The reason, one of `reasons`, that a sidecar logged for not letting its app out.
async fn refused_outbound(log: &Mark<'_>, reasons: &[Rejection]) -> Option<&'static str> {
    let of = |line: &Value| {
        let refused = line["direction"] == "outbound" && line["outcome"] == "refused";
        reasons.iter().map(|reason| reason.id()).find(|id| refused && line["reason"] == *id)
    };
    of(&log.find(|line| of(line).is_some()).await?)
}

/// A connection that ended without an answer: the sidecar names our address in its log.
async fn handshake(log: &Mark<'_>, local: SocketAddr) -> Shot {
    let local = local.to_string();
    let line = log.find(|line| line["event"] == "handshake" && line["peer"] == local).await;
    let reason = line.as_ref().and_then(|line| line["reason"].as_str()).unwrap_or("nothing was logged");
    Shot { outcome: Outcome::default().because(reason), reply: None }
}
