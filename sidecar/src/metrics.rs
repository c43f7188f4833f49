//! Counters of the process, in the text format of Prometheus.
//!
//! Each counter is a field: counting is one addition to a known place, never a search by name.

use std::{
    fmt::{Display, Write as _},
    sync::atomic::{AtomicU64, Ordering},
};

use fapi::Rejection;

use crate::log::{Direction, Outcome};

const REASONS: usize = Rejection::ALL.len();

/// A count that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number of things that exist now.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more, until the guard is dropped.
    pub(crate) fn enter(&self) -> Entered<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Entered(self)
    }
}

/// One of the things that a [`Gauge`] counts.
#[derive(Debug)]
pub(crate) struct Entered<'a>(&'a Gauge);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A counter for each reason.
#[derive(Debug)]
pub(crate) struct ByReason([Counter; REASONS]);

impl Default for ByReason {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl ByReason {
    pub(crate) fn count(&self, reason: Rejection) {
        if let Some(counter) = self.0.get(reason.index()) {
            counter.add(1);
        }
    }

    /// The reasons that were counted, and how often.
    pub(crate) fn seen(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Rejection::ALL
            .iter()
            .zip(&self.0)
            .map(|(reason, counter)| (reason.id(), counter.get()))
            .filter(|seen| seen.1 > 0)
    }
}

/// Decisions about requests of one direction.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    admitted: Counter,
    exempt: Counter,
    refused: ByReason,
    would_refuse: ByReason,
    broken_answers: Counter,
}

impl Decisions {
    /// Counts one decision; `reason` is absent exactly when admitted or exempt.
    pub(crate) fn count(&self, outcome: Outcome, reason: Option<Rejection>) {
        match (outcome, reason) {
            (Outcome::Exempt, _) => self.exempt.add(1),
            (Outcome::Admitted, _) | (_, None) => self.admitted.add(1),
            (Outcome::Refused, Some(reason)) => self.refused.count(reason),
            (Outcome::WouldRefuse, Some(reason)) => self.would_refuse.count(reason),
        }
    }
}

/// Attempts at something that another process answers.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    pub(crate) succeeded: Counter,
    pub(crate) failed: Counter,
}

/// All counters of the process.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    inbound: Decisions,
    outbound: Decisions,
    /// Inbound TLS handshakes that ended well.
    pub(crate) handshakes: Counter,
    /// Inbound TLS handshakes that were refused.
    pub(crate) handshakes_refused: ByReason,
    /// Inbound TLS handshakes that broke off or took too long.
    pub(crate) handshakes_aborted: Counter,
    /// Connections from peers, open now.
    pub(crate) inbound_connections: Gauge,
    /// Connections from the app, open now.
    pub(crate) outbound_connections: Gauge,
    /// Connections to peers, open now.
    pub(crate) peer_connections: Gauge,
    /// Connections to the app, made.
    pub(crate) app_connects: Attempts,
    /// Connections to peers, made.
    pub(crate) peer_connects: Attempts,
    /// Snapshots of the operator, accepted or refused.
    pub(crate) snapshots: Attempts,
    /// Certificates asked of the operator.
    pub(crate) certificates: Attempts,
    /// Tokens asked of the issuer.
    pub(crate) tokens: Attempts,
    /// Key sets asked of issuers outside the mesh.
    pub(crate) key_fetches: Attempts,
    /// Questions to issuers outside the mesh about tokens that only they can read.
    pub(crate) introspections: Attempts,
    /// Destinations asked of the operator.
    pub(crate) lookups: Attempts,
    /// Calls and redirected connections of the app that went to what is not in the mesh.
    pub(crate) unmeshed: Counter,
    /// Calls that the app could not hand on, for want of room for their handles.
    pub(crate) contexts_full: Counter,
    /// 1 while the control stream is open.
    pub(crate) control_stream: Gauge,
}

/// Values that other parts of the process keep, read when metrics are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Facts {
    /// Seconds since the epoch; absent before the first certificate.
    pub(crate) certificate_not_after: Option<u64>,
    /// Absent before the first snapshot.
    pub(crate) snapshot_order: Option<u64>,
    pub(crate) revocations: u64,
    pub(crate) revocation_epoch: u64,
    pub(crate) replay_entries: u64,
    pub(crate) contexts: u64,
    pub(crate) lost_lines: u64,
    pub(crate) bypasses: u64,
}

impl Metrics {
    /// The decisions of a direction.
    pub(crate) fn decisions(&self, direction: Direction) -> &Decisions {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }

    /// Answers to calls of a direction that broke off after their head.
    pub(crate) fn broken_answers(&self, direction: Direction) -> &Counter {
        &self.decisions(direction).broken_answers
    }

    /// Everything in the text format of Prometheus.
    pub(crate) fn render(&self, facts: Facts) -> String {
        let mut text = Text::default();
        text.decisions(&[("inbound", &self.inbound), ("outbound", &self.outbound)]);
        text.handshakes(self);
        text.head("fapi_connections", "gauge", "Open connections");
        text.line("fapi_connections", &[("kind", "from_peers")], self.inbound_connections.get());
        text.line("fapi_connections", &[("kind", "from_app")], self.outbound_connections.get());
        text.line("fapi_connections", &[("kind", "to_peers")], self.peer_connections.get());
        text.attempts("fapi_app_connects_total", "Connections made to the app", &self.app_connects);
        text.attempts("fapi_peer_connects_total", "Connections made to peers", &self.peer_connects);
        text.attempts("fapi_snapshots_total", "Snapshots of the operator, applied or refused", &self.snapshots);
        text.attempts("fapi_certificates_total", "Certificates asked of the operator", &self.certificates);
        text.attempts("fapi_tokens_total", "Tokens asked of the issuer", &self.tokens);
        let help = "Key sets asked of issuers outside the mesh";
        text.attempts("fapi_key_fetches_total", help, &self.key_fetches);
        let help = "Tokens that issuers outside the mesh were asked about";
        text.attempts("fapi_introspections_total", help, &self.introspections);
        text.attempts("fapi_lookups_total", "Destinations asked of the operator", &self.lookups);
        let help = "Calls and connections of the app to what is not in the mesh";
        text.single("fapi_unmeshed_calls_total", "counter", help, self.unmeshed.get());
        let help = "Calls that got no handle by which they could be handed on, for want of room";
        text.single("fapi_call_contexts_full_total", "counter", help, self.contexts_full.get());
        text.single("fapi_control_stream_up", "gauge", "1 while the control stream is open", self.control_stream.get());
        text.facts(facts);
        text.0
    }
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn decisions(&mut self, both: &[(&str, &Decisions); 2]) {
        const NAME: &str = "fapi_requests_total";
        const BROKEN: &str = "fapi_broken_answers_total";
        self.head(NAME, "counter", "Requests by direction, outcome and reason");
        for &(direction, decisions) in both {
            let labels = [("direction", direction), ("outcome", Outcome::Admitted.as_str()), ("reason", "")];
            self.line(NAME, &labels, decisions.admitted.get());
            if decisions.exempt.get() > 0 {
                let labels = [("direction", direction), ("outcome", Outcome::Exempt.as_str()), ("reason", "")];
                self.line(NAME, &labels, decisions.exempt.get());
            }
            for (outcome, reasons) in
                [(Outcome::Refused, &decisions.refused), (Outcome::WouldRefuse, &decisions.would_refuse)]
            {
                for (reason, count) in reasons.seen() {
                    let labels = [("direction", direction), ("outcome", outcome.as_str()), ("reason", reason)];
                    self.line(NAME, &labels, count);
                }
            }
        }
        self.head(BROKEN, "counter", "Answers that broke off after their head, by direction");
        for &(direction, decisions) in both {
            self.line(BROKEN, &[("direction", direction)], decisions.broken_answers.get());
        }
    }

    fn handshakes(&mut self, metrics: &Metrics) {
        const NAME: &str = "fapi_handshakes_total";
        self.head(NAME, "counter", "TLS handshakes of peers by outcome and reason");
        self.line(NAME, &[("outcome", "accepted"), ("reason", "")], metrics.handshakes.get());
        self.line(NAME, &[("outcome", "aborted"), ("reason", "")], metrics.handshakes_aborted.get());
        for (reason, count) in metrics.handshakes_refused.seen() {
            self.line(NAME, &[("outcome", "refused"), ("reason", reason)], count);
        }
    }

    fn attempts(&mut self, name: &str, help: &str, attempts: &Attempts) {
        self.head(name, "counter", help);
        self.line(name, &[("outcome", "succeeded")], attempts.succeeded.get());
        self.line(name, &[("outcome", "failed")], attempts.failed.get());
    }

    fn facts(&mut self, facts: Facts) {
        if let Some(not_after) = facts.certificate_not_after {
            let help = "End of the certificate, in seconds since the epoch";
            self.single("fapi_certificate_not_after_seconds", "gauge", help, not_after);
        }
        if let Some(order) = facts.snapshot_order {
            self.single("fapi_snapshot_order", "gauge", "Order of the applied snapshot", order);
        }
        self.single("fapi_revocations", "gauge", "Revocations in force", facts.revocations);
        self.single("fapi_revocation_epoch", "gauge", "Epoch of the revocations in force", facts.revocation_epoch);
        self.single("fapi_replay_entries", "gauge", "Proofs remembered against replay", facts.replay_entries);
        let help = "Sockets by which the app can be reached past the sidecar";
        self.single("fapi_inbound_bypasses", "gauge", help, facts.bypasses);
        let help = "Calls in progress that have a handle by which they can be handed on";
        self.single("fapi_call_contexts", "gauge", help, facts.contexts);
        self.single("fapi_log_lines_lost_total", "counter", "Decision lines lost to a full queue", facts.lost_lines);
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        self.line(name, &[], value);
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}.\n# TYPE {name} {kind}");
    }

    /// Label values are constants of ours: none needs escaping.
    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (at, (key, value)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{key}=\"{value}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_line_once_it_was_seen() {
        let metrics = Metrics::default();
        metrics.decisions(Direction::Inbound).count(Outcome::Admitted, None);
        metrics.decisions(Direction::Inbound).count(Outcome::Refused, Some(Rejection::TokenMissing));
        metrics.decisions(Direction::Outbound).count(Outcome::WouldRefuse, Some(Rejection::TokenExpired));
        metrics.handshakes_refused.count(Rejection::PeerCertificateMissing);
        let text = metrics.render(Facts { snapshot_order: Some(7), ..Facts::default() });
        for line in [
            r#"fapi_requests_total{direction="inbound",outcome="admitted",reason=""} 1"#,
            r#"fapi_requests_total{direction="inbound",outcome="refused",reason="token_missing"} 1"#,
            r#"fapi_requests_total{direction="outbound",outcome="would_refuse",reason="token_expired"} 1"#,
            r#"fapi_handshakes_total{outcome="refused",reason="peer_certificate_missing"} 1"#,
            "fapi_snapshot_order 7",
            "fapi_log_lines_lost_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(!text.contains("fapi_certificate_not_after_seconds"));
    }

    #[test]
    fn a_gauge_counts_what_is_alive() {
        let gauge = Gauge::default();
        let guard = gauge.enter();
        assert_eq!(gauge.get(), 1);
        drop(guard);
        assert_eq!(gauge.get(), 0);
    }
}
