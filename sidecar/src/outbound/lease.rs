//! A request's share of a connection, from its sending to the end of its response.

use std::rc::Rc;

use super::{connect::Life, failure::Failure, peer::Peer, pool::Connection};

/// Dropped before [`finish`](Lease::finish) it gives up an HTTP/1.1 connection: what is left of the response would be in
/// the way of the next one.
pub(crate) struct Lease {
    connection: Option<Connection>,
    peer: Rc<Peer>,
    reused: bool,
}

impl Lease {
    /// Counts as a call in flight from now on.
    pub(super) fn new(peer: Rc<Peer>, connection: Connection) -> Self {
        peer.load.begin();
        let reused = match &connection {
            Connection::H1(h1) => h1.reused,
            Connection::H2(h2) => h2.reused,
        };
        Self { connection: Some(connection), peer, reused }
    }

    pub(super) fn peer(&self) -> &Rc<Peer> {
        &self.peer
    }

    /// Whether the connection has served a request before.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    pub(super) fn is_h2(&self) -> bool {
        matches!(self.connection, Some(Connection::H2(_)))
    }

    /// Whether the other end of the connection must still be asked for a nonce; says so once for each connection.
    pub(super) fn needs_nonce(&self) -> bool {
        match &self.connection {
            Some(Connection::H1(h1)) => !h1.reused,
            Some(Connection::H2(h2)) => h2.needs_nonce(),
            None => false,
        }
    }

    pub(super) fn connection(&mut self) -> Result<&mut Connection, Failure> {
        // Only `finish` takes it, and then there is no lease any more.
        self.connection.as_mut().ok_or(Failure::Broken)
    }

    /// How long an HTTP/1.1 connection lives, whatever becomes of it.
    pub(super) fn life(&self) -> Option<Rc<Life>> {
        match &self.connection {
            Some(Connection::H1(h1)) => Some(Rc::clone(&h1.life)),
            Some(Connection::H2(_)) | None => None,
        }
    }

    /// Waits until the connection is ready for another request.
    pub(super) async fn settle(&mut self) -> Result<(), Failure> {
        match self.connection()? {
            Connection::H1(h1) => h1.sender.ready().await.map_err(|_| Failure::Broken),
            Connection::H2(_) => Ok(()),
        }
    }

    /// The response has been read to its end: the connection may serve the next request.
    pub(super) fn finish(mut self) {
        if let Some(Connection::H1(connection)) = self.connection.take() {
            self.peer.put_back(connection);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.peer.load.end();
    }
}
