//! One request from its arrival to its answer.

use std::rc::Rc;

use bytes::Bytes;
use fapi::{Introspected, Refusal, Rejection, Verdict};
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE},
    request,
};
use hyper::body::Incoming;

use super::{
    connection::{Connection, Passage},
    pass::{self, Call},
    record::Record,
};
use crate::{
    body::Reply,
    headers::{self, DPOP_NONCE, INTERACTION_ID, Wishes},
};

/// Paths under it are the sidecar's own; none reaches an app.
const RESERVED: &str = "/.well-known/fapi-mesh/";
/// Gives a nonce for a first proof to any peer with a certificate.
const NONCE_PRIMER: &str = "/.well-known/fapi-mesh/nonce";

/// Judges a request and, if it is admitted, lets the app answer it.
pub(super) async fn enforce(connection: Rc<Connection>, request: Request<Incoming>) -> Response<Reply> {
    let passage = connection.enter();
    let mut view = connection.view();
    let (mut parts, body) = request.into_parts();
    let mut record = Record::begin(&connection, &view, &parts);
    let wishes = match clean(&connection, &mut parts) {
        Ok(wishes) => wishes,
        Err(rejection) => return refuse(record, Refusal::of(rejection), passage),
    };
    if is_reserved(&parts) {
        return reserved(record, &parts, passage);
    }
    let mut verdict = connection.decide(&view, &parts, false, Introspected::NotAsked);
    if let Verdict::NeedKeys(issuer) = &verdict {
        connection.shared().issuers.fresh(issuer).await;
        view = connection.view();
        record.view = Rc::clone(&view);
        verdict = connection.decide(&view, &parts, true, Introspected::NotAsked);
    } else if let Verdict::NeedIntrospection(unread) = &verdict {
        let (caller, shared) = (&connection.peer.spiffe_id, connection.shared());
        let said = shared.issuers.introspect(caller, unread, shared).await;
        view = connection.view();
        record.view = Rc::clone(&view);
        let said = said.as_ref().map_or(Introspected::Unavailable, Introspected::Answered);
        verdict = connection.decide(&view, &parts, true, said);
    }
    match verdict {
        Verdict::Admit(admission) => pass::forward(admission, Call { record, parts, body, wishes, passage }).await,
        Verdict::Refuse(refusal) => refuse(record, refusal, passage),
        // Nothing is asked for twice.
        Verdict::NeedKeys(_) => refuse(record, Refusal::of(Rejection::KeyNotFound), passage),
        Verdict::NeedIntrospection(_) => refuse(record, Refusal::of(Rejection::IntrospectionUnavailable), passage),
    }
}

/// Whether a request is meant for the sidecar itself.
pub(super) fn is_reserved(parts: &request::Parts) -> bool {
    parts.uri.path().starts_with(RESERVED)
}

fn clean(connection: &Connection, parts: &mut request::Parts) -> Result<Wishes, Rejection> {
    if let Some(rejection) = connection.lifetime.flaw() {
        // What else is on this connection may have been meant as something else.
        connection.lifetime.close();
        return Err(rejection);
    }
    headers::clean_request(parts)
}

pub(super) fn refuse(mut record: Record, refusal: Refusal, passage: Passage) -> Response<Reply> {
    let answer = &refusal.answer;
    let text =
        answer.error.map_or_else(|| Bytes::from_static(b"{}"), |error| format!("{{\"error\":\"{error}\"}}").into());
    let mut response = json(&record.method, answer.status, text, passage);
    let challenge = answer.www_authenticate.as_deref().and_then(|challenge| HeaderValue::from_str(challenge).ok());
    if let Some(challenge) = challenge {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    finish(&mut response, &record);
    if answer.wants_nonce {
        give_nonce(&mut response, &record);
    }
    record.refused(refusal);
    response
}

fn reserved(record: Record, parts: &request::Parts, passage: Passage) -> Response<Reply> {
    if parts.method != Method::HEAD || parts.uri.path() != NONCE_PRIMER {
        return refuse(record, Refusal::of(Rejection::RuleNotMatched), passage);
    }
    let mut response = Response::new(Reply::own(Bytes::new(), passage));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    finish(&mut response, &record);
    give_nonce(&mut response, &record);
    response
}

/// A JSON answer of ours. To `HEAD` it says only how long it would be (RFC 9110 section 9.3.2): HTTP/2 sends what it is given,
/// and its clients take content there for an error of the connection.
pub(super) fn json(method: &Method, status: StatusCode, text: Bytes, passage: Passage) -> Response<Reply> {
    let length = text.len();
    let has_content = method != Method::HEAD;
    let mut response = Response::new(Reply::own(if has_content { text } else { Bytes::new() }, passage));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if !has_content {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What every answer carries.
pub(super) fn finish<B>(response: &mut Response<B>, record: &Record) {
    let headers = response.headers_mut();
    headers.insert(INTERACTION_ID, record.interaction.clone());
    if record.view.takes_dpop() {
        give_nonce(response, record);
    }
}

/// Whoever is told to use a nonce is given one (RFC 9449 section 9), also where proofs are not asked for: a token that is
/// bound to a key as well is proven in full.
fn give_nonce<B>(response: &mut Response<B>, record: &Record) {
    response.headers_mut().insert(DPOP_NONCE, record.connection.inbound.nonce());
}
