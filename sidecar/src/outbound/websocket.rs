//! From the peer's agreement to a WebSocket to bytes that pass both ways.

use std::time::Duration;

use http::{HeaderMap, Response, StatusCode};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::{body::OutBody, head, lease::Lease};
use crate::{headers, tunnel};

const SWITCH_WITHIN: Duration = Duration::from_secs(10);

/// Passes the peer's agreement on to the app, and then the bytes of both.
pub(super) fn switch(mut response: Response<Incoming>, app: OnUpgrade, lease: Lease) -> Response<OutBody> {
    let peer = hyper::upgrade::on(&mut response);
    tokio::task::spawn_local(async move {
        let both = async { tokio::try_join!(app, peer) };
        if let Ok(Ok((app, peer))) = timeout(SWITCH_WITHIN, both).await {
            tunnel::join(TokioIo::new(app), TokioIo::new(peer)).await;
        }
        drop(lease);
    });
    let mut answer = Response::new(OutBody::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = agreement(response.into_parts().0.headers);
    answer
}

fn agreement(mut headers: HeaderMap) -> HeaderMap {
    head::clean_response(&mut headers);
    headers::upgrade(&mut headers);
    headers
}
