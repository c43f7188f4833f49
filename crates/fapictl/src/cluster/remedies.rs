//! What to do about a condition that does not hold.

use crds::conditions::reason;

/// The remedy for a reason of a condition. The message beside it says who is meant.
pub(crate) fn remedy(of: &str) -> &'static str {
    match of {
        reason::CONFLICTED => "remove the younger object, or merge the two",
        reason::INVALID => {
            "mend what the message names; until then the last good version is in force, or all is refused"
        }
        reason::TARGET_NOT_FOUND => "make what is named, or mend the name",
        reason::CA_UNAVAILABLE => "put the Secret that the message names back from a backup",
        reason::ISSUER_NOT_FOUND => "make the FapiIssuer, or mend the name",
        reason::REF_NOT_PERMITTED => "have spec.allow of the FapiIssuer name this namespace and audience",
        reason::PENDING => "wait a moment; if it stays, look at the operator's log and at the sidecars' readiness",
        reason::PARTIALLY_PROGRAMMED => "look at the pods that lag: their fapi-sidecar's log says why",
        reason::REJECTED => "restart the pods whose sidecars are older than the operator; the message has their words",
        reason::NO_PODS => "start the workload, or remove what nothing runs",
        reason::OVERRIDDEN => "nothing, if the more specific policies are meant; else remove them",
        reason::NOT_MESHED => "start the pods of the target, and have them injected",
        reason::CALLER_NOT_ALLOWED => "have a rule of the target's FapiPolicy name this service account",
        reason::SCOPE_NOT_ALLOWED => "ask for fewer scopes, or have a rule that names the caller require them",
        reason::DETAIL_NOT_ALLOWED => {
            "ask for fewer authorizationDetails, or have a rule that names the caller require them"
        }
        reason::ISSUER_NOT_ACCEPTED => {
            "have the target's FapiPolicy take the FapiIssuer, and the FapiIssuer allow both sides"
        }
        reason::SENDER_CONSTRAINT_MISMATCH => "leave senderConstraint out, or have the target's FapiPolicy take it",
        _ => "do what the message says",
    }
}
