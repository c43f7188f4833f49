//! What a client may have: the policies of the target decide, nothing else.

use std::sync::Arc;

use fapi::{Policy, ScopeSet, SenderConstraint, SpiffeId};

use super::error::TokenError;

/// The scopes of a token for `caller`, bound by `constraint`, at the service that `policies` govern.
///
/// The ports of a service may have several policies, and a token is good at all of them: the scopes are what those
/// of them give that name the caller and take the binding. Each port's sidecar judges again. Without `asked` the
/// token has all of it, else exactly what was asked, if all of that is given.
pub(super) fn scopes(
    policies: &[Arc<Policy>],
    caller: &SpiffeId,
    constraint: SenderConstraint,
    asked: Option<&ScopeSet>,
) -> Result<ScopeSet, TokenError> {
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
        None if named => return Err(TokenError::ConstraintNotAccepted(constraint)),
        None => return Err(TokenError::CallerNotAllowed),
    };
    match asked {
        None => Ok(given),
        Some(asked) if given.is_superset(asked) => Ok(asked.clone()),
        Some(asked) => Err(TokenError::ScopeNotAllowed(asked.difference(&given))),
    }
}
