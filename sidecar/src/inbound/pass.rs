//! From an admission to the app's answer. Without an [`Admission`] nothing here can be called.

use bytes::Bytes;
use fapi::{Admission, AdmissionKind, Refusal, Rejection};
use http::{HeaderMap, HeaderValue, Request, Response, Version, header::TE, request};
use hyper::{body::Incoming, upgrade::OnUpgrade};

use super::{
    connection::Passage,
    enforce::{finish, json, refuse},
    record::Record,
    standing::Standing,
    websocket,
};
use crate::{
    body::{Reply, Upload, may_last},
    forward::{Failure, is_grpc},
    headers::{self, CALLER, CLIENT_ID, CONTEXT, INTERACTION_ID, SUBJECT, Wishes},
};

/// A clean request, and what is to be told about it.
pub(super) struct Call {
    pub(super) record: Record,
    pub(super) parts: request::Parts,
    pub(super) body: Incoming,
    pub(super) wishes: Wishes,
    pub(super) passage: Passage,
}

/// Passes an admitted request to the app, on exactly the path that was judged.
pub(super) async fn forward(admission: Admission, call: Call) -> Response<Reply> {
    let Call { mut record, mut parts, body, wishes, mut passage } = call;
    let lasts = wishes.websocket || may_last(&body);
    let standing = lasts.then(|| Standing::new(&record.connection, &record.view, &admission, &parts));
    let context = record.view.hands_on.then(|| passage.hand_on(&admission, &parts.headers)).flatten();
    headers::remove_credentials(&mut parts.headers);
    if let Some(context) = context {
        parts.headers.insert(CONTEXT, context);
    }
    set_identity(&mut parts.headers, &record, &admission);
    record.admitted(admission);
    let Some(app) = record.view.app.clone() else {
        return failed(Failure::Connect, record, passage);
    };
    let standing = match standing {
        Some(standing) if wishes.websocket => {
            return Box::pin(websocket::open(app, parts, standing, record, passage)).await;
        }
        standing => standing,
    };
    parts.extensions.remove::<OnUpgrade>();
    if wishes.trailers {
        parts.headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    let over_http2 = parts.version == Version::HTTP_2 || is_grpc(&parts.headers);
    let upload = Upload::new(body, standing, &record.connection);
    let progress = upload.progress();
    let share = Some(&record.connection.calls);
    match app.send(Request::from_parts(parts, upload), over_http2, progress.as_ref(), share).await {
        Ok((response, lease)) => {
            let (mut head, body) = response.into_parts();
            headers::clean_response(&mut head.headers);
            record.answered(head.status);
            let mut response = Response::new(Reply::app(body, lease, passage, record.interaction.clone()));
            *response.status_mut() = head.status;
            *response.headers_mut() = head.headers;
            finish(&mut response, &record);
            response
        }
        // A body that could not be read broke the call, not the app.
        Err(Failure::Broken) if record.connection.lifetime.is_malformed() => {
            refuse(record, Refusal::of(Rejection::RequestMalformed), passage)
        }
        Err(failure) => failed(failure, record, passage),
    }
}

/// Tells the app who calls, if that was proven.
fn set_identity(headers: &mut HeaderMap, record: &Record, admission: &Admission) {
    headers.insert(INTERACTION_ID, record.interaction.clone());
    if admission.kind() != AdmissionKind::Proven {
        return;
    }
    headers.insert(CALLER, record.connection.caller.clone());
    if let Some(id) = admission.client_id().and_then(|id| record.connection.client_id(id)) {
        headers.insert(CLIENT_ID, id);
    }
    if let Some(subject) = admission.subject().and_then(|subject| HeaderValue::from_str(subject).ok()) {
        headers.insert(SUBJECT, subject);
    }
}

/// The answer to an admitted call that the app did not answer.
pub(super) fn failed(failure: Failure, mut record: Record, passage: Passage) -> Response<Reply> {
    record.failed(failure.status(), failure.id());
    let text = Bytes::from(format!("{{\"error\":\"{}\"}}", failure.id()));
    let mut response = json(&record.method, failure.status(), text, passage);
    finish(&mut response, &record);
    response
}
