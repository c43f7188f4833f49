//! Who may call what: one document, compiled once, read by the issuer that grants and by the sidecar that judges.

mod compile;
mod exempt;
mod external;
mod rules;
mod tcp;
mod wire;

use std::{net::IpAddr, sync::Arc};

use exempt::Exemptions;
pub use exempt::WireExemption;
pub(crate) use external::{External, is_identity};
use http::Method;
pub(crate) use rules::{Client, Credentials, Matched, Unmatched};
use rules::{Rule, Rules};
pub use tcp::{TcpPolicy, WireTcpPolicy};
pub use wire::{
    ClientIdClaim, Mode, TokenTyp, WireActors, WireCaller, WireClient, WireDetail, WireExternal, WireMapping,
    WirePolicy, WireResource, WireRule,
};

use crate::value::{Audience, AuthorizationDetails, Issuer, Origin, ScopeSet, SenderConstraint, SpiffeId, TrustDomain};

/// A compiled policy. Only this reaches the request path.
#[derive(Debug)]
pub struct Policy {
    name: Arc<str>,
    mode: Mode,
    resources: Vec<Resource>,
    issuers: Vec<Accepted>,
    constraints: Vec<SenderConstraint>,
    rules: Rules,
    exemptions: Exemptions,
}

/// An audience with the origins under which it is called; they are only ever used as a pair.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) audience: Audience,
    pub(crate) origins: Vec<Origin>,
}

/// An issuer whose tokens are taken.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) issuer: Issuer,
    /// `None`: the mesh's own, whose tokens name the workloads that they were issued to.
    pub(crate) external: Option<Arc<External>>,
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
    /// All authorization details that the rules give this caller; what is asked for must be covered by them.
    pub details: AuthorizationDetails,
    /// The age in seconds up to which every rule that names the caller takes the token; `None`: its whole life. A token that
    /// lives no longer is never refused for its age, and whoever caches it needs to know nothing of the rules.
    pub max_token_age: Option<u64>,
}

impl Grant {
    /// What both give, for a token that both shall take.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self {
            scopes: self.scopes.union(&other.scopes),
            details: self.details.union(&other.details),
            max_token_age: self.max_token_age.into_iter().chain(other.max_token_age).min(),
        }
    }

    /// What each of both gives, for one token at two services.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self {
            scopes: self.scopes.intersection(&other.scopes),
            details: self.details.intersection(&other.details),
            max_token_age: self.max_token_age.into_iter().chain(other.max_token_age).min(),
        }
    }
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
    /// The one in force, of a port that takes no HTTP.
    Tcp(Arc<TcpPolicy>),
}

impl PortPolicy {
    /// Whether somebody at this address may come to this port of the pod without certificate, for anything at all.
    #[must_use]
    pub fn may_be_exempt(&self, port: u16, source: IpAddr) -> bool {
        matches!(self, Self::Policy(policy) if policy.exemptions.are_for(port, source))
    }
}

impl Policy {
    /// Compiles a document; all problems are reported at once.
    ///
    /// # Errors
    /// Everything that is wrong with the document.
    pub fn compile(domain: &TrustDomain, wire: &WirePolicy) -> Result<Self, Vec<PolicyProblem>> {
        compile::compile(domain, wire)
    }

    /// What a caller may be given for itself, if it asks for these scopes (`None`: for all that it may have).
    ///
    /// # Errors
    /// No rule names the caller, or none that names it has all the scopes between them.
    pub fn grant(&self, caller: &SpiffeId, asked: Option<&ScopeSet>) -> Result<Grant, GrantRefusal> {
        self.grant_chain(caller, 0, asked)
    }

    /// As [`Policy::grant`], for a token that names this many actors (RFC 8693 section 4.1), the caller among them.
    ///
    /// # Errors
    /// As [`Policy::grant`]; a rule whose bounds on actors leave this many out does not name the caller.
    pub fn grant_chain(&self, caller: &SpiffeId, actors: u8, asked: Option<&ScopeSet>) -> Result<Grant, GrantRefusal> {
        let possible = self.given(|rule| rule.names(caller, actors)).ok_or(GrantRefusal::CallerNotAllowed)?;
        match asked {
            None => Ok(possible),
            Some(asked) if possible.scopes.is_superset(asked) => Ok(Grant { scopes: asked.clone(), ..possible }),
            Some(asked) => Err(GrantRefusal::ScopeNotAllowed(asked.difference(&possible.scopes))),
        }
    }

    /// What a token of an issuer outside the mesh may be good for, if `caller` is this client of it; `None`: for nothing.
    /// `issuer` is the name that rules know it by.
    #[must_use]
    pub fn grant_client(&self, caller: &SpiffeId, issuer: &str, client_id: &str) -> Option<Grant> {
        let mut externals = self.issuers.iter().filter_map(|accepted| accepted.external.as_deref());
        let external = externals.find(|external| *external.name == *issuer)?;
        if !external.maps(client_id, caller) {
            return None;
        }
        let client = Client { issuer, id: client_id };
        let given = self.given(|rule| rule.names(caller, 0) || rule.names_client(client, caller, 0))?;
        Some(Grant { scopes: external.counting(given.scopes), ..given })
    }

    /// What these rules give together.
    fn given(&self, named: impl Fn(&Rule) -> bool) -> Option<Grant> {
        let rules = self.rules.all().filter(|rule| named(rule));
        let given = rules.map(|rule| Grant {
            scopes: rule.scopes.clone(),
            details: rule.details.clone(),
            max_token_age: rule.max_age,
        });
        given.reduce(|sum, given| sum.union(&given))
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

    /// Whether exactly this path passes without certificate and token, at this port and for somebody at this address.
    pub(crate) fn exempts(&self, port: u16, source: IpAddr, path: &str) -> bool {
        self.exemptions.admit(port, source, path)
    }

    pub(crate) fn issuer(&self, text: &str) -> Option<&Accepted> {
        self.issuers.iter().find(|accepted| accepted.issuer.as_str() == text)
    }

    /// The one issuer whose tokens only it can read.
    pub(crate) fn opaque_issuer(&self) -> Option<&Accepted> {
        self.issuers.iter().find(|accepted| accepted.external.as_ref().is_some_and(|external| external.opaque))
    }

    pub(crate) fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// Judges a request on a normal path.
    pub(crate) fn judge(&self, path: &str, method: &Method, with: &Credentials<'_>) -> Result<Matched, Unmatched<'_>> {
        self.rules.judge(path, method, with)
    }
}

#[cfg(test)]
mod tests;
