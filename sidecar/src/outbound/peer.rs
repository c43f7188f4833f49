//! One endpoint as this worker knows it: its load, its connections, its nonce.

use std::{net::SocketAddr, rc::Rc};

use fapi::{SpiffeId, UnixTime};

use super::{
    balance::Load,
    dpop::Nonce,
    pool::{H1, Number, Pool},
};

/// One endpoint. Destinations that share it share its connections.
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// The identity that its certificate must name; `None`: it is positively not in the mesh and called in plaintext.
    pub(super) expect: Option<SpiffeId>,
    pub(super) load: Load,
    pub(super) pool: Pool,
    pub(super) nonce: Nonce,
}

impl Peer {
    pub(super) fn new(address: SocketAddr, expect: Option<SpiffeId>) -> Rc<Self> {
        let (load, pool, nonce) = (Load::default(), Pool::default(), Nonce::default());
        Rc::new(Self { address, expect, load, pool, nonce })
    }

    /// Takes back a connection whose exchange is over. One that is not ready at once gets a moment: the rest of an
    /// upload may still be on its way.
    pub(super) fn put_back(self: &Rc<Self>, connection: H1) {
        if connection.sender.is_ready() {
            self.pool.put_h1(connection);
        } else if !connection.sender.is_closed() {
            let peer = self.clone();
            tokio::task::spawn_local(async move {
                if let Some(connection) = connection.settled().await {
                    peer.pool.put_h1(connection);
                }
            });
        }
    }

    /// Closes what cannot be used any more. Comes once a second.
    pub(super) fn sweep(&self, in_use: Number, now: UnixTime) {
        self.pool.sweep(if self.expect.is_some() { in_use } else { 0 }, now);
    }

    /// Whether nothing would be lost by forgetting it.
    pub(super) fn is_idle(&self) -> bool {
        self.load.is_idle() && self.pool.is_empty()
    }
}
