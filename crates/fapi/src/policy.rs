//! Who may call what: one document, compiled once, read by the issuer that grants and by the sidecar that judges.

mod wire;

use std::sync::Arc;

pub use wire::{Mode, WireCaller, WirePolicy, WireResource, WireRule};

use crate::value::{Audience, ScopeSet, SenderConstraint, SpiffeId, TrustDomain};

/// A compiled policy. Only this reaches the request path.
#[derive(Debug)]
pub struct Policy {
    name: Arc<str>,
    mode: Mode,
    audiences: Vec<Audience>,
}

/// One thing that is wrong with a policy document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct PolicyProblem {
    /// Where, as a path: `rules[2].paths[0]`.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// What the issuer may put into a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The scopes: those asked for, or else all that the rules give this caller.
    pub scopes: ScopeSet,
}

/// Why the issuer must not give a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantRefusal {
    /// No rule names the caller (RFC 8707 section 2: `invalid_target`).
    #[error("no rule of the target's policy names this caller")]
    CallerNotAllowed,
    /// No rule that names the caller has these scopes (RFC 6749 section 5.2: `invalid_scope`).
    #[error("no rule of the target's policy gives this caller the scopes: {0}")]
    ScopeNotAllowed(ScopeSet),
}

/// The policy of a port, or the reason why there is none; without one everything is refused.
#[derive(Debug, Clone)]
pub enum PortPolicy {
    /// None has arrived yet.
    Missing,
    /// One exists and does not compile.
    Invalid {
        /// Its name.
        name: Arc<str>,
    },
    /// The one in force.
    Policy(Arc<Policy>),
}

impl Policy {
    /// Compiles a document; all problems are reported at once.
    ///
    /// # Errors
    /// Everything that is wrong with the document.
    pub fn compile(_domain: &TrustDomain, _wire: &WirePolicy) -> Result<Self, Vec<PolicyProblem>> {
        Err(Vec::new())
    }

    /// What a caller may be given, if it asks for these scopes (`None`: for all that it may have).
    ///
    /// # Errors
    /// No rule names the caller, or none gives it the scopes.
    pub fn grant(&self, _caller: &SpiffeId, _asked: Option<&ScopeSet>) -> Result<Grant, GrantRefusal> {
        Err(GrantRefusal::CallerNotAllowed)
    }

    /// Whether tokens bound in this way are taken.
    #[must_use]
    pub fn accepts(&self, _constraint: SenderConstraint) -> bool {
        false
    }

    /// The name of the policy object, `namespace/name`, or `built-in`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether refusals are enforced or only reported.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The audiences, one of which a token must name.
    pub fn audiences(&self) -> impl Iterator<Item = &Audience> {
        self.audiences.iter()
    }
}
