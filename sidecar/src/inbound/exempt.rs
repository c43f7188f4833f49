//! Plain requests of those outside the mesh, such as scrapers: only what a policy exempts reaches the app, and nothing tells the
//! app who asks, as nothing is known.

use std::{convert::Infallible, net::SocketAddr, rc::Rc};

use fapi::{ExemptAdmission, PlainRequest, Refusal, Rejection};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header::UPGRADE, request};
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{
    Inbound,
    connection::Passage,
    enforce::{is_reserved, json},
    lifetime::{Lifetime, live},
    serve::HEAD_BYTES,
    watched::Watched,
};
use crate::{
    body::{Reply, Upload},
    detect::{Begins, peeked},
    forward::App,
    headers::{self, INTERACTION_ID, MAX_FIELDS},
    log::{Decision, Direction, Outcome},
};

/// Plain connections at once on one worker.
pub(super) const MAX_CONNECTIONS: usize = 64;

/// A connection of somebody who has proven nothing.
struct Plain {
    inbound: Rc<Inbound>,
    listen: SocketAddr,
    address: SocketAddr,
    lifetime: Rc<Lifetime>,
}

impl Inbound {
    /// Whether a connection speaks HTTP/1.1 without TLS and comes from where something is exempt. From anywhere else
    /// not a byte is looked at.
    pub(super) async fn is_plain(
        &self,
        stream: &TcpStream,
        listen: SocketAddr,
        address: SocketAddr,
        deadline: Instant,
    ) -> bool {
        let applied = self.local.shared.applied();
        let port = applied.as_deref().and_then(|applied| applied.port(listen));
        if !port.is_some_and(|port| port.policy.may_be_exempt(port.number, address.ip())) {
            return false;
        }
        matches!(timeout_at(deadline, peeked(stream)).await, Ok(Some(Begins::Http1)))
    }

    /// Serves a plain connection until it ends.
    pub(super) async fn serve_plain(self: &Rc<Self>, stream: TcpStream, listen: SocketAddr, address: SocketAddr) {
        let _open = self.local.shared.metrics.inbound_connections.enter();
        let Ok(_slot) = self.plain_slots.try_acquire() else {
            tracing::warn!("a plain connection is closed at once: there are {MAX_CONNECTIONS} on this worker already");
            return;
        };
        let _ = stream.set_nodelay(true);
        let (stream, findings) = Watched::new(stream);
        let lifetime = Rc::new(Lifetime::plain(findings));
        self.lifetimes.watch(&lifetime);
        let plain = Rc::new(Plain { inbound: Rc::clone(self), listen, address, lifetime: Rc::clone(&lifetime) });
        let served = http1::Builder::new()
            // Lifetimes look after slow heads, as with those of peers.
            .header_read_timeout(None)
            .max_headers(MAX_FIELDS)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service_fn(|request| answer(Rc::clone(&plain), request)))
            .with_upgrades();
        if let Err(error) = live(&lifetime, std::pin::pin!(served)).await {
            self.tell_unread(&error, None, address);
        }
    }
}

async fn answer(plain: Rc<Plain>, request: Request<Incoming>) -> Result<Response<Reply>, Infallible> {
    let passage = Passage::begin(&plain.inbound, &plain.lifetime);
    let (mut parts, body) = request.into_parts();
    let mut record = Record::begin(&plain, &parts);
    let interaction = record.interaction.clone();
    let mut response = match plain.judge(&mut parts, &body) {
        Ok((admission, app)) => pass(admission, &app, parts, &mut record, passage).await,
        Err(refusal) => {
            let response =
                own(&record.method, refusal.answer.status, refusal.answer.error.unwrap_or_default(), passage);
            record.judged = Some(Err(refusal));
            response
        }
    };
    record.status = Some(response.status());
    response.headers_mut().insert(INTERACTION_ID, interaction);
    Ok(response)
}

/// Passes a request to the app that is exempt, with nothing that could be taken for an identity.
async fn pass(
    admission: ExemptAdmission,
    app: &Rc<App>,
    mut parts: request::Parts,
    record: &mut Record,
    passage: Passage,
) -> Response<Reply> {
    record.judged = Some(Ok(admission));
    parts.headers.insert(INTERACTION_ID, record.interaction.clone());
    parts.extensions.remove::<OnUpgrade>();
    match app.send(Request::from_parts(parts, Upload::Empty), false, None, None).await {
        Ok((response, lease)) => {
            let (mut head, body) = response.into_parts();
            headers::clean_response(&mut head.headers);
            Response::from_parts(head, Reply::app(body, lease, passage, record.interaction.clone()))
        }
        Err(failure) => {
            record.upstream = Some(failure.id());
            own(&record.method, failure.status(), failure.id(), passage)
        }
    }
}

/// An answer of ours.
fn own(method: &Method, status: StatusCode, error: &str, passage: Passage) -> Response<Reply> {
    json(method, status, format!("{{\"error\":\"{error}\"}}").into(), passage)
}

impl Plain {
    /// Decides by what holds now; an app stands beside the permit to call it, nowhere else.
    fn judge(&self, parts: &mut request::Parts, body: &Incoming) -> Result<(ExemptAdmission, Rc<App>), Refusal> {
        if let Some(rejection) = self.lifetime.flaw() {
            // What else is on this connection may have been meant as something else.
            self.lifetime.close();
            return Err(Refusal::of(rejection));
        }
        // Cleaning takes it out, and here nothing becomes anything else than HTTP.
        let goes_on = parts.headers.contains_key(UPGRADE) || !body.is_end_stream();
        headers::clean_request(parts).map_err(Refusal::of)?;
        if is_reserved(parts) {
            return Err(Refusal::of(Rejection::RuleNotMatched));
        }
        let applied = self.inbound.local.shared.applied();
        let port = applied.as_deref().and_then(|applied| applied.port(self.listen));
        let port = port.ok_or_else(|| Refusal::of(Rejection::PolicyMissing))?;
        let request = PlainRequest {
            port: port.number,
            source: self.address.ip(),
            method: &parts.method,
            path: parts.uri.path(),
            query: parts.uri.query(),
            headers: &parts.headers,
            goes_on,
        };
        Ok((fapi::decide_exempt(&port.policy, &request)?, self.inbound.apps.app(port.app)))
    }
}

/// A request that will be reported when this is dropped: with its answer, or without one when its sender has left.
struct Record {
    plain: Rc<Plain>,
    interaction: HeaderValue,
    method: Method,
    uri: Uri,
    judged: Option<Result<ExemptAdmission, Refusal>>,
    status: Option<StatusCode>,
    upstream: Option<&'static str>,
}

impl Record {
    fn begin(plain: &Rc<Plain>, request: &request::Parts) -> Self {
        Self {
            plain: Rc::clone(plain),
            interaction: plain.inbound.local.interaction_id(&request.headers),
            method: request.method.clone(),
            uri: request.uri.clone(),
            judged: None,
            status: None,
            upstream: None,
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let (outcome, reason, policy) = match &self.judged {
            Some(Ok(admission)) => (Outcome::Exempt, None, Some(admission.policy())),
            Some(Err(refusal)) => (Outcome::Refused, Some(refusal.rejection), refusal.policy.as_deref()),
            None => return,
        };
        let local = &self.plain.inbound.local;
        local.shared.metrics.decisions(Direction::Inbound).count(outcome, reason);
        let applied = local.shared.applied();
        local.log.decision(&Decision {
            direction: Direction::Inbound,
            outcome,
            reason,
            interaction_id: self.interaction.to_str().ok(),
            caller: None,
            client_id: None,
            subject: None,
            method: Some(self.method.as_str()),
            path: Some(self.uri.path()),
            policy_version: applied.as_ref().map(|applied| &*applied.version),
            policy,
            token: None,
            status: self.status.map(|status| status.as_u16()),
            peer: Some(self.plain.address),
            destination: None,
            upstream: self.upstream,
        });
    }
}
