//! Requests that are none: HTTP/1.1 cannot read their head, answers by itself and ends the connection.

use std::net::SocketAddr;

use fapi::{Rejection, SpiffeId};

use super::Inbound;
use crate::log::{Decision, Direction, Outcome};

/// The reason of what hyper refused before anybody else saw it. `None` if a connection ended by anything else.
pub(crate) fn unread(error: &hyper::Error) -> Option<Rejection> {
    if error.is_parse_too_large() {
        return Some(Rejection::HeaderTooLarge);
    }
    error.is_parse().then_some(Rejection::RequestMalformed)
}

impl Inbound {
    /// Tells of the head that ended a connection, if one did. No more is known of it than who sent it.
    pub(super) fn tell_unread(&self, error: &hyper::Error, caller: Option<&SpiffeId>, address: SocketAddr) {
        let Some(reason) = unread(error) else { return };
        let shared = &self.local.shared;
        shared.metrics.decisions(Direction::Inbound).count(Outcome::Refused, Some(reason));
        let applied = shared.applied();
        self.local.log.decision(&Decision {
            direction: Direction::Inbound,
            outcome: Outcome::Refused,
            reason: Some(reason),
            interaction_id: None,
            caller: caller.map(SpiffeId::as_str),
            client_id: None,
            subject: None,
            method: None,
            path: None,
            policy_version: applied.as_ref().map(|applied| &*applied.version),
            policy: None,
            token: None,
            status: None,
            peer: Some(address),
            destination: None,
            upstream: None,
        });
    }
}
