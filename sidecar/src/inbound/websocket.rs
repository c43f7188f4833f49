//! An admitted WebSocket: the app agrees, and bytes pass both ways for as long as the admission holds.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, request};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::{
    connection::Passage,
    enforce::{finish, json},
    pass::failed,
    record::Record,
    standing::Standing,
};
use crate::{
    body::{Reply, Upload},
    forward::{App, Failure},
    headers, tunnel,
};

/// Both sides have agreed; the switch itself is a matter of bytes on their way.
const SWITCH_WITHIN: Duration = Duration::from_secs(10);

/// Asks the app whether it agrees, and passes its answer on.
pub(super) async fn open(
    app: Rc<App>,
    mut parts: request::Parts,
    standing: Standing,
    mut record: Record,
    passage: Passage,
) -> Response<Reply> {
    let Some(peer) = parts.extensions.remove::<OnUpgrade>() else {
        return failed(Failure::Answer, record, passage);
    };
    headers::upgrade(&mut parts.headers);
    let mut response = match app.send_upgrade(Request::from_parts(parts, Upload::Empty)).await {
        Ok(response) => response,
        Err(failure) => return failed(failure, record, passage),
    };
    record.answered(response.status());
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let mut refused = json(&record.method, response.status(), Bytes::from_static(b"{}"), passage);
        finish(&mut refused, &record);
        return refused;
    }
    let lifetime = Rc::clone(&record.connection.lifetime);
    lifetime.upgrade();
    let app = hyper::upgrade::on(&mut response);
    let (mut head, _) = response.into_parts();
    headers::clean_response(&mut head.headers);
    headers::upgrade(&mut head.headers);
    let mut response = Response::from_parts(head, Reply::own(Bytes::new(), record.connection.enter()));
    finish(&mut response, &record);
    tokio::task::spawn_local(async move {
        let _passage = passage;
        let both = async { tokio::try_join!(peer, app) };
        let Ok(Ok((peer, app))) = timeout(SWITCH_WITHIN, both).await else { return };
        tokio::select! {
            () = tunnel::join(TokioIo::new(peer), TokioIo::new(app)) => {}
            reason = standing.void() => {
                tracing::info!(%reason, "a WebSocket ended because its call is no longer admitted");
            }
            () = lifetime.over() => {}
        }
    });
    response
}
