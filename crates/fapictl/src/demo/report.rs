//! How a demo went: one row a step, a progress line while it waits, a table or JSON at the end.

use std::io::{IsTerminal as _, Write as _};

use fapi::Rejection;
use serde_json::json;

use crate::args::Output;

/// What a caller saw, and why: the status (none where there was no HTTP answer) and the reason id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: Option<u16>,
    pub(crate) reason: Option<String>,
}

impl Outcome {
    /// An answer of this status, for which nobody needs a reason.
    pub(crate) fn status(status: u16) -> Self {
        Self { status: Some(status), reason: None }
    }

    /// A refusal.
    pub(crate) fn refused(rejection: Rejection) -> Self {
        Self { status: rejection.status(), reason: Some(rejection.id().to_owned()) }
    }

    /// The same with a reason in words of our own.
    pub(crate) fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }
}

/// One step of the story.
#[derive(Debug)]
struct Row {
    step: String,
    expect: Outcome,
    observed: Outcome,
}

impl Row {
    fn pass(&self) -> bool {
        self.expect == self.observed
    }

    /// The document that asks for it, if the reason is one of the mesh's own.
    fn source(&self) -> &'static str {
        let reason = self.expect.reason.as_deref();
        reason.and_then(Rejection::from_id).map_or("", Rejection::source)
    }
}

/// Collects the rows and shows them.
pub(crate) struct Report {
    output: Output,
    rows: Vec<Row>,
    progress: bool,
    instead: Option<Outcome>,
}

impl Report {
    pub(crate) fn new(output: Output) -> Self {
        Self { output, rows: Vec::new(), progress: std::io::stderr().is_terminal(), instead: None }
    }

    /// Says what is going on, on one line that is overwritten.
    pub(crate) fn progress(&self, what: &str) {
        let mut out = std::io::stderr().lock();
        // Nobody may be reading; the demo goes on.
        let _ = match self.progress {
            true => write!(out, "\r\x1b[K… {what}"),
            false => writeln!(out, "… {what}"),
        };
        let _ = out.flush();
    }

    /// Takes the progress line away.
    pub(crate) fn quiet(&self) {
        if self.progress {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }

    /// From now on every step is expected to come out like this, whatever else is said; `None`: as is said.
    pub(crate) fn expect_instead(&mut self, outcome: Option<Outcome>) {
        self.instead = outcome;
    }

    /// One step is done.
    pub(crate) fn add(&mut self, step: impl Into<String>, expect: Outcome, observed: Outcome) {
        let expect = self.instead.clone().unwrap_or(expect);
        let row = Row { step: step.into(), expect, observed };
        if self.output == Output::Json {
            println!("{}", json_row(&row));
        }
        self.rows.push(row);
    }

    /// Whether every step came out as stated, and there was one.
    pub(crate) fn passed(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(Row::pass)
    }

    /// Shows the table, or for JSON nothing: its rows have been shown.
    pub(crate) fn finish(&self) {
        self.quiet();
        if self.output == Output::Text {
            print!("{}", self.table());
        }
    }

    fn table(&self) -> String {
        let head = ["", "step", "expected", "observed", "reason", "source"].map(ToOwned::to_owned);
        let mut lines = vec![head];
        lines.extend(self.rows.iter().map(|row| {
            let mark = if row.pass() { "ok" } else { "FAILED" };
            let reason = if row.pass() { row.expect.reason.clone() } else { Some(told(row)) };
            [
                mark.to_owned(),
                row.step.clone(),
                shown(row.expect.status),
                shown(row.observed.status),
                reason.unwrap_or_default(),
                row.source().to_owned(),
            ]
        }));
        let failed = self.rows.iter().filter(|row| !row.pass()).count();
        let sum = format!("\n{} steps, {failed} failed\n", self.rows.len());
        aligned(&lines) + &sum
    }
}

fn json_row(row: &Row) -> serde_json::Value {
    let outcome = |outcome: &Outcome| json!({"status": outcome.status, "reason": outcome.reason});
    json!({
        "step": row.step,
        "expect": outcome(&row.expect),
        "observed": outcome(&row.observed),
        "pass": row.pass(),
    })
}

/// What went wrong, in the reason's column.
fn told(row: &Row) -> String {
    let or_none = |reason: &Option<String>| reason.clone().unwrap_or_else(|| "no reason".to_owned());
    format!("{} instead of {}", or_none(&row.observed.reason), or_none(&row.expect.reason))
}

fn shown(status: Option<u16>) -> String {
    status.map_or_else(|| "no answer".to_owned(), |status| status.to_string())
}

fn aligned(lines: &[[String; 6]]) -> String {
    let mut widths = [0; 6];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_passes_only_with_the_same_status_and_the_same_reason() {
        let mut report = Report::new(Output::Text);
        assert!(!report.passed(), "a demo without steps shows nothing");
        let expired = Outcome::refused(Rejection::TokenExpired);
        report.add("expired", expired.clone(), expired.clone());
        assert!(report.passed());
        report.add("expired", expired, Outcome::refused(Rejection::TokenMissing));
        assert!(!report.passed());
        let table = report.table();
        assert!(table.contains("ok      expired  401"), "{table}");
        assert!(table.contains("token_missing instead of token_expired"), "{table}");
    }

    #[test]
    fn what_is_expected_instead_is_expected_until_it_is_taken_back() {
        let mut report = Report::new(Output::Text);
        let stopped = Outcome::refused(Rejection::OpaqueNotAllowed);
        report.expect_instead(Some(stopped.clone()));
        report.add("stopped", Outcome::status(200), stopped.clone());
        report.expect_instead(None);
        assert!(report.passed());
        report.add("stopped again", Outcome::status(200), stopped);
        assert!(!report.passed());
    }

    #[test]
    fn json_has_the_four_members_and_null_for_a_refused_handshake() {
        let refused = Outcome::refused(Rejection::PeerCertificateMissing);
        let row = Row { step: "s".to_owned(), expect: refused.clone(), observed: refused };
        let expected = json!({
            "step": "s",
            "expect": {"status": null, "reason": "peer_certificate_missing"},
            "observed": {"status": null, "reason": "peer_certificate_missing"},
            "pass": true,
        });
        assert_eq!(json_row(&row), expected);
    }
}
