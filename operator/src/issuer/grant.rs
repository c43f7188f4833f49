//! What a client may have: the policies of the target decide, nothing else.

use std::sync::Arc;

use fapi::{Policy, ScopeSet, SenderConstraint, SpiffeId};

use super::error::TokenError;

/// Why a client may have nothing there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotGranted {
    /// No rule of the target names it.
    Caller,
    /// Those that name it do not give these scopes.
    Scopes(ScopeSet),
    /// The target does not take this binding.
    Constraint(SenderConstraint),
}

impl From<NotGranted> for TokenError {
    fn from(refusal: NotGranted) -> Self {
        match refusal {
            NotGranted::Caller => Self::CallerNotAllowed,
            NotGranted::Scopes(scopes) => Self::ScopeNotAllowed(scopes),
            NotGranted::Constraint(constraint) => Self::ConstraintNotAccepted(constraint),
        }
    }
}

/// The scopes of a token for `caller`, bound by `constraint`, at the service that `policies` govern.
///
/// The ports of a service may have several policies, and a token is good at all of them: the scopes are what those
/// of them give that name the caller and take the binding. Each port's sidecar judges again. Without `asked` the
/// token has all of it, else exactly what was asked, if all of that is given.
pub(crate) fn scopes(
    policies: &[Arc<Policy>],
    caller: &SpiffeId,
    constraint: SenderConstraint,
    asked: Option<&ScopeSet>,
) -> Result<ScopeSet, NotGranted> {
    let mut named = false;
    let mut given: Option<ScopeSet> = None;
    for policy in policies {
        let Ok(grant) = policy.grant(caller, None) else { continue };
        named = true;
        if policy.accepts(constraint) {
            given = Some(given.map_or_else(|| grant.scopes.clone(), |given| given.union(&grant.scopes)));
        }
    }
    let given = match given {
        Some(given) => given,
        None if named => return Err(NotGranted::Constraint(constraint)),
        None => return Err(NotGranted::Caller),
    };
    match asked {
        None => Ok(given),
        Some(asked) if given.is_superset(asked) => Ok(asked.clone()),
        Some(asked) => Err(NotGranted::Scopes(asked.difference(&given))),
    }
}
