//! The lines themselves, written byte by byte: a serialiser would cost more than the decision it reports.

use std::{io::Write as _, net::SocketAddr};

use fapi::{Rejection, TokenHash};

use super::json::{self, Timestamp};

/// Which way a request went, seen from the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From a peer to the app.
    Inbound,
    /// From the app to a peer.
    Outbound,
}

impl Direction {
    fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// How a request was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was forwarded, everything proven.
    Admitted,
    /// It was answered here with the reason's status.
    Refused,
    /// The policy only audits: it was forwarded, and enforcement would have refused it.
    WouldRefuse,
    /// It was forwarded in plaintext, nothing proven: the policy exempts it.
    Exempt,
}

impl Outcome {
    /// The outcome as logs and metrics spell it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Refused => "refused",
            Self::WouldRefuse => "would_refuse",
            Self::Exempt => "exempt",
        }
    }
}

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listener {
    /// Peers call the app through it.
    Inbound,
    /// The app calls peers through it.
    Outbound,
    /// Probes, metrics and the applied configuration.
    Admin,
    /// Probes and metrics, on the addresses of a pod.
    Health,
}

impl Listener {
    fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::Admin => "admin",
            Self::Health => "health",
        }
    }
}

/// One decided request. Absent facts are `null` in the line; `path` must come without its query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decision<'a> {
    pub(crate) direction: Direction,
    pub(crate) outcome: Outcome,
    /// Absent exactly when admitted or exempt.
    pub(crate) reason: Option<Rejection>,
    pub(crate) interaction_id: Option<&'a str>,
    /// The SPIFFE ID that made the request: the peer's inbound, our own outbound.
    pub(crate) caller: Option<&'a str>,
    /// Known only when the token's signature was good.
    pub(crate) client_id: Option<&'a str>,
    /// On whose behalf the call was made, if it was handed on.
    pub(crate) subject: Option<&'a str>,
    /// Absent when the request could not be parsed that far.
    pub(crate) method: Option<&'a str>,
    pub(crate) path: Option<&'a str>,
    /// The version of the applied snapshot.
    pub(crate) policy_version: Option<&'a str>,
    pub(crate) policy: Option<&'a str>,
    pub(crate) token: Option<&'a TokenHash>,
    /// What the caller was answered; absent when it was gone before the answer.
    pub(crate) status: Option<u16>,
    /// The TCP peer.
    pub(crate) peer: Option<SocketAddr>,
    /// Outbound: the authority that was called.
    pub(crate) destination: Option<&'a str>,
    /// Why an admitted request got its answer from us and not from beyond, such as `connect_failed`.
    pub(crate) upstream: Option<&'static str>,
}

/// Complete lines, waiting to be written.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    bytes: Vec<u8>,
    time: Timestamp,
}

impl Lines {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes what was written; the next lines get as much room at once.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let room = self.bytes.len().min(super::FLUSH_BYTES + 1024);
        std::mem::replace(&mut self.bytes, Vec::with_capacity(room))
    }

    pub(crate) fn decision(&mut self, now_millis: u64, decision: &Decision<'_>) {
        self.begin("decision", now_millis);
        self.text("direction", decision.direction.as_str());
        self.text("outcome", decision.outcome.as_str());
        self.optional("reason", decision.reason.map(Rejection::id));
        self.optional("interaction_id", decision.interaction_id);
        self.optional("caller", decision.caller);
        self.optional("client_id", decision.client_id);
        self.optional("method", decision.method);
        self.optional("path", decision.path);
        self.optional("policy_version", decision.policy_version);
        self.optional("policy", decision.policy);
        match decision.token {
            Some(token) => self.shown("token", token),
            None => self.optional("token", None),
        }
        match decision.status {
            Some(status) => {
                self.key("status");
                self.bytes.extend_from_slice(json::three_digits(status).as_slice());
            }
            None => self.optional("status", None),
        }
        match decision.peer {
            Some(peer) => self.shown("peer", &peer),
            None => self.optional("peer", None),
        }
        if let Some(subject) = decision.subject {
            self.text("subject", subject);
        }
        if let Some(destination) = decision.destination {
            self.text("destination", destination);
        }
        if let Some(upstream) = decision.upstream {
            self.text("upstream", upstream);
        }
        self.end();
    }

    pub(crate) fn refused_handshake(&mut self, now_millis: u64, rejection: Rejection, peer: SocketAddr) {
        self.begin("handshake", now_millis);
        self.text("outcome", Outcome::Refused.as_str());
        self.text("reason", rejection.id());
        self.shown("peer", &peer);
        self.end();
    }

    pub(crate) fn broken_answer(&mut self, now_millis: u64, direction: Direction, interaction_id: &str) {
        self.begin("broken_answer", now_millis);
        self.text("direction", direction.as_str());
        self.text("interaction_id", interaction_id);
        self.end();
    }

    pub(crate) fn listening(&mut self, now_millis: u64, listener: Listener, address: SocketAddr) {
        self.begin("listening", now_millis);
        self.text("listener", listener.as_str());
        self.shown("address", &address);
        self.end();
    }

    pub(crate) fn lost(&mut self, now_millis: u64, count: u64) {
        self.begin("decisions_lost", now_millis);
        self.key("count");
        let _ = write!(self.bytes, "{count}");
        self.end();
    }

    fn begin(&mut self, event: &'static str, now_millis: u64) {
        self.bytes.extend_from_slice(b"{\"event\":\"");
        self.bytes.extend_from_slice(event.as_bytes());
        self.bytes.extend_from_slice(b"\",\"time\":\"");
        self.bytes.extend_from_slice(self.time.at(now_millis));
        self.bytes.push(b'"');
    }

    fn end(&mut self) {
        self.bytes.extend_from_slice(b"}\n");
    }

    fn key(&mut self, key: &'static str) {
        self.bytes.extend_from_slice(b",\"");
        self.bytes.extend_from_slice(key.as_bytes());
        self.bytes.extend_from_slice(b"\":");
    }

    fn text(&mut self, key: &'static str, value: &str) {
        self.key(key);
        json::string(&mut self.bytes, value);
    }

    fn optional(&mut self, key: &'static str, value: Option<&str>) {
        match value {
            Some(value) => self.text(key, value),
            None => {
                self.key(key);
                self.bytes.extend_from_slice(b"null");
            }
        }
    }

    /// A value whose text needs no escaping: an address or a hash.
    fn shown(&mut self, key: &'static str, value: &impl std::fmt::Display) {
        self.key(key);
        // Writing to a vector cannot fail.
        let _ = write!(self.bytes, "\"{value}\"");
    }
}

#[cfg(test)]
mod tests;
