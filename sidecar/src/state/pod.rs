//! What only a sidecar in a pod knows: its own ports, and whether the app can be reached past it.

use std::{net::SocketAddr, sync::Arc};

use tokio::net::TcpStream;

use super::Shared;
use crate::{bypass::Bypass, interception::Interception};

/// A connection that the process has made to itself, for its inbound side.
#[derive(Debug)]
pub(crate) struct OwnCall {
    /// The port of the snapshot that was called.
    pub(crate) listen: SocketAddr,
    /// The end of the called side.
    pub(crate) stream: TcpStream,
}

impl Shared {
    /// Whether this is a port of ours that only a redirected connection reaches. One of our own is not redirected, as
    /// nothing is that stays in the pod: it would come to the app itself.
    pub(crate) fn is_own_port(&self, address: SocketAddr) -> bool {
        self.interception == Interception::Redirect
            && self.applied.load().as_ref().is_some_and(|applied| applied.port(address).is_some())
    }

    /// Hands a connection of our own to the inbound side; false when too many are on their way.
    pub(crate) fn call_own_port(&self, listen: SocketAddr, stream: TcpStream) -> bool {
        self.own_calls.try_send(OwnCall { listen, stream }).is_ok()
    }

    /// Says whether the app can be reached past the sidecar, and whether that is news.
    pub(crate) fn set_bypass(&self, bypass: Bypass) -> bool {
        let is_news = **self.bypass.load() != bypass;
        if is_news {
            self.bypass.store(Arc::new(bypass));
        }
        is_news
    }

    /// Why calls cannot be served; `None` with a certificate that is valid, an accepted snapshot, and no way past it.
    pub(crate) fn unready(&self) -> Option<String> {
        let certified = self.identity.load().as_ref().is_some_and(|generation| generation.not_after > self.clock.now());
        if !certified || self.applied.load().is_none() {
            return Some("no certificate or no snapshot yet".to_owned());
        }
        match &**self.bypass.load() {
            Bypass::Closed => None,
            Bypass::Unknown => Some("InboundBypass: the sockets of the pod cannot be listed".to_owned()),
            Bypass::Open(sockets) => {
                let sockets: Vec<String> = sockets.iter().map(ToString::to_string).collect();
                let sockets = sockets.join(", ");
                Some(format!(
                    "InboundBypass: callers reach {sockets} past the sidecar; let the app listen on 127.0.0.1"
                ))
            }
        }
    }

    /// Through how many sockets the app can be reached past the sidecar.
    pub(super) fn bypasses(&self) -> u64 {
        match &**self.bypass.load() {
            Bypass::Open(sockets) => sockets.len() as u64,
            Bypass::Closed | Bypass::Unknown => 0,
        }
    }
}
