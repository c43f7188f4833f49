//! Who may call what: one document, compiled once, read by the issuer that grants and by the sidecar that judges.

mod compile;
mod rules;
mod wire;

use std::sync::Arc;

use http::Method;
use rules::Rules;
pub(crate) use rules::Unmatched;
pub use wire::{Mode, WireCaller, WirePolicy, WireResource, WireRule};

use crate::value::{Audience, Issuer, Origin, ScopeSet, SenderConstraint, SpiffeId, TrustDomain};

/// A compiled policy. Only this reaches the request path.
#[derive(Debug)]
pub struct Policy {
    name: Arc<str>,
    mode: Mode,
    resources: Vec<Resource>,
    issuers: Vec<Issuer>,
    constraints: Vec<SenderConstraint>,
    rules: Rules,
}

/// An audience with the origins under which it is called; they are only ever used as a pair.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) audience: Audience,
    pub(crate) origins: Vec<Origin>,
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
    pub fn compile(domain: &TrustDomain, wire: &WirePolicy) -> Result<Self, Vec<PolicyProblem>> {
        compile::compile(domain, wire)
    }

    /// What a caller may be given, if it asks for these scopes (`None`: for all that it may have).
    ///
    /// # Errors
    /// No rule names the caller, or none that names it has all the scopes between them.
    pub fn grant(&self, caller: &SpiffeId, asked: Option<&ScopeSet>) -> Result<Grant, GrantRefusal> {
        let mut rules = self.rules.all().filter(|rule| rule.callers.name(caller)).peekable();
        if rules.peek().is_none() {
            return Err(GrantRefusal::CallerNotAllowed);
        }
        let possible = rules.fold(ScopeSet::empty(), |sum, rule| sum.union(&rule.scopes));
        match asked {
            None => Ok(Grant { scopes: possible }),
            Some(asked) if possible.is_superset(asked) => Ok(Grant { scopes: asked.clone() }),
            Some(asked) => Err(GrantRefusal::ScopeNotAllowed(asked.difference(&possible))),
        }
    }

    /// Whether tokens bound in this way are taken.
    #[must_use]
    pub fn accepts(&self, constraint: SenderConstraint) -> bool {
        self.constraints.contains(&constraint)
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
        self.resources.iter().map(|resource| &resource.audience)
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    pub(crate) fn issuer(&self, text: &str) -> Option<&Issuer> {
        self.issuers.iter().find(|issuer| issuer.as_str() == text)
    }

    pub(crate) fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// Judges a request on a normal path.
    pub(crate) fn judge(
        &self,
        path: &str,
        method: &Method,
        caller: &SpiffeId,
        scopes: &ScopeSet,
    ) -> Result<(), Unmatched<'_>> {
        self.rules.judge(path, method, caller, scopes)
    }
}

#[cfg(test)]
mod tests;
