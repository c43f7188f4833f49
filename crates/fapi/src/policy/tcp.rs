use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Mode, PolicyProblem, WireCaller,
    compile::{Report, callers},
    rules::Callers,
};
use crate::value::{SpiffeId, TrustDomain};

/// The policy document of a port that is not HTTP, as the operator sends it: named callers, no tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WireTcpPolicy {
    /// `namespace/name` of the policy object.
    pub name: String,
    /// Whether refusals are enforced or only reported.
    pub mode: Mode,
    /// Who may connect; never empty.
    pub callers: Vec<WireCaller>,
}

/// The compiled policy of a port that is not HTTP.
#[derive(Debug)]
pub struct TcpPolicy {
    pub(crate) name: Arc<str>,
    pub(crate) mode: Mode,
    callers: Callers,
}

impl TcpPolicy {
    /// Compiles a document; all problems are reported at once.
    ///
    /// # Errors
    /// Everything that is wrong with the document.
    pub fn compile(domain: &TrustDomain, wire: &WireTcpPolicy) -> Result<Self, Vec<PolicyProblem>> {
        let mut report = Report::default();
        if wire.name.is_empty() {
            report.add("name", "must not be empty");
        }
        report.need("callers", &wire.callers);
        let callers = callers(&mut report, "callers", domain, &wire.callers);
        report.end()?;
        Ok(Self { name: wire.name.as_str().into(), mode: wire.mode, callers })
    }

    /// Whether it names this caller.
    pub(crate) fn names(&self, caller: &SpiffeId) -> bool {
        self.callers.name(caller)
    }
}
