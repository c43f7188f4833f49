//! What a client may have: the policies of the target decide, nothing else.

use std::sync::Arc;

use fapi::{AuthorizationDetails, Grant, Policy, ScopeSet, SenderConstraint, SpiffeId};

use super::error::TokenError;

/// What a client asks for; `None`: all that it may have.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) scopes: Option<ScopeSet>,
    pub(crate) details: Option<AuthorizationDetails>,
}

/// Why a client may have nothing there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotGranted {
    /// No rule of the target names it, for a call that was handed on so often.
    Caller,
    /// Those that name it do not give these scopes.
    Scopes(ScopeSet),
    /// Those that name it do not give all the authorization details.
    Details,
    /// The target does not take this binding.
    Constraint(SenderConstraint),
}

impl From<NotGranted> for TokenError {
    fn from(refusal: NotGranted) -> Self {
        match refusal {
            NotGranted::Caller => Self::CallerNotAllowed,
            NotGranted::Scopes(scopes) => Self::ScopeNotAllowed(scopes),
            NotGranted::Details => Self::DetailsNotAllowed,
            NotGranted::Constraint(constraint) => Self::ConstraintNotAccepted(constraint),
        }
    }
}

/// What a token for `caller`, bound by `constraint` and naming so many `actors`, may say at the service that `policies` govern.
///
/// The ports of a service may have several policies, and a token is good at all of them: scopes and authorization details
/// are what those of them give that name the caller and take the binding. Each port's sidecar judges again. What was not
/// asked for by name is given whole, else exactly what was asked, if all of that is given.
pub(crate) fn grant(
    policies: &[Arc<Policy>],
    caller: &SpiffeId,
    actors: u8,
    constraint: SenderConstraint,
    asked: &Asked,
) -> Result<Grant, NotGranted> {
    grant_by(policies, |policy| policy.grant_chain(caller, actors, None).ok(), constraint, asked)
}

/// As [`grant`], for whomever `named_in` finds in the rules.
pub(crate) fn grant_by(
    policies: &[Arc<Policy>],
    named_in: impl Fn(&Policy) -> Option<Grant>,
    constraint: SenderConstraint,
    asked: &Asked,
) -> Result<Grant, NotGranted> {
    let mut named = false;
    let mut given: Option<Grant> = None;
    for policy in policies {
        let Some(grant) = named_in(policy) else { continue };
        named = true;
        if policy.accepts(constraint) {
            given = Some(given.map_or_else(|| grant.clone(), |given| given.union(&grant)));
        }
    }
    let mut given = match given {
        Some(given) => given,
        None if named => return Err(NotGranted::Constraint(constraint)),
        None => return Err(NotGranted::Caller),
    };
    if let Some(scopes) = &asked.scopes {
        if !given.scopes.is_superset(scopes) {
            return Err(NotGranted::Scopes(scopes.difference(&given.scopes)));
        }
        given.scopes = scopes.clone();
    }
    if let Some(details) = &asked.details {
        if !given.details.covers(details) {
            return Err(NotGranted::Details);
        }
        given.details = details.clone();
    }
    Ok(given)
}
