//! From the peer's agreement to a WebSocket to bytes that pass both ways.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Response, StatusCode};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::{body::OutBody, connect, head, lease::Lease, redirected::is_unmeshed, target::Target};
use crate::{headers, state::Shared, tunnel};

const SWITCH_WITHIN: Duration = Duration::from_secs(10);

/// Passes the peer's agreement on to the app, and then the bytes of both, for as long as any connection to that peer lives;
/// in plaintext only while the destination is not in the mesh.
pub(super) fn switch(
    mut response: Response<Incoming>,
    app: OnUpgrade,
    lease: Lease,
    shared: &Arc<Shared>,
    target: &Target,
) -> Response<OutBody> {
    let peer = hyper::upgrade::on(&mut response);
    let (shared, cell) = (Arc::clone(shared), Arc::clone(&target.cell));
    let meshed = lease.peer().expect.is_some();
    tokio::task::spawn_local(async move {
        let both = async { tokio::try_join!(app, peer) };
        if let (Some(life), Ok(Ok((app, peer)))) = (lease.life(), timeout(SWITCH_WITHIN, both).await) {
            let joined = tunnel::join(TokioIo::new(app), TokioIo::new(peer));
            tokio::select! {
                () = connect::until_end(&shared, &life, joined) => {}
                () = cell.until(|resolved| !is_unmeshed(resolved)), if !meshed => {
                    tracing::warn!("a destination is not called in plaintext any more: the WebSocket to it is closed");
                }
            }
        }
        drop(lease);
    });
    let mut answer = Response::new(OutBody::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = agreement(response.into_parts().0.headers, meshed);
    answer
}

fn agreement(mut headers: HeaderMap, meshed: bool) -> HeaderMap {
    head::clean_response(&mut headers, meshed);
    headers::upgrade(&mut headers);
    headers
}
