//! Findings for people, and for programs.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use super::finding::{Finding, Outcome};
use super::passes;
use crate::args::Output;

/// All findings, in the order of the checks.
pub(super) fn render(findings: &[Finding], output: Output) -> String {
    match output {
        Output::Text => text(findings),
        Output::Json => format!("{:#}\n", document(findings)),
    }
}

/// A heading for each category, and a line for each finding, with the remedy below it.
fn text(findings: &[Finding]) -> String {
    let (mut text, mut heading) = (String::new(), "");
    for finding in findings {
        let (category, id) = finding.check.names();
        // Writing to a string does not fail.
        if category != heading {
            let _ = writeln!(text, "{category}");
            heading = category;
        }
        let _ = writeln!(text, "  {:<8} {id:<19} {}", word(finding.outcome), finding.found);
        if let Some(remedy) = &finding.remedy {
            let _ = writeln!(text, "  {:<8} {:<19} to do: {remedy}", "", "");
        }
    }
    let count = |outcome| findings.iter().filter(|finding| finding.outcome == outcome).count();
    let _ = match (count(Outcome::Failed), count(Outcome::Warning)) {
        (0, 0) => writeln!(text, "\nEverything is in order."),
        (0, warnings) => writeln!(text, "\nNothing must be mended; to look at: {warnings}."),
        (failed, warnings) => writeln!(text, "\nTo be mended: {failed}; to look at: {warnings}."),
    };
    text
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Warning => "warning",
        Outcome::Failed => "FAILED",
    }
}

fn document(findings: &[Finding]) -> Json {
    let one = |finding: &Finding| {
        let (category, check) = finding.check.names();
        json!({"category": category, "check": check, "outcome": finding.outcome, "found": finding.found,
            "remedy": finding.remedy})
    };
    json!({"passes": passes(findings), "findings": findings.iter().map(one).collect::<Vec<_>>()})
}
