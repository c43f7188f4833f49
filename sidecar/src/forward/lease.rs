//! What an answer keeps of the connection that it comes over.

use std::rc::Rc;

use super::{App, http1::Connection};

/// Dropped without [`Lease::give_back`] it closes an HTTP/1.1 connection: the rest of an answer would be in the way of
/// the next one. Of an HTTP/2 connection it keeps nothing.
pub(crate) struct Lease(pub(super) Option<(Rc<App>, Connection)>);

impl Lease {
    /// The answer has been read to its end.
    pub(crate) fn give_back(self) {
        if let Some((app, connection)) = self.0 {
            app.put_back(connection);
        }
    }
}
