//! Condition types and reasons: the only place where they are spelled. They are part of the API.

/// The name under which this operator writes to the ancestors of a FapiPolicy.
pub const CONTROLLER_NAME: &str = "fapi-mesh.dev/operator";

/// The summary of every kind; its reason is that of the first condition that is not true.
pub const READY: &str = "Ready";
/// FapiPolicy: whether it governs this target.
pub const ACCEPTED: &str = "Accepted";
/// Whether everything that is referred to exists and may be referred to.
pub const RESOLVED_REFS: &str = "ResolvedRefs";
/// Whether the sidecars run it.
pub const PROGRAMMED: &str = "Programmed";
/// FapiClient: whether the targets give what it asks for.
pub const GRANTED: &str = "Granted";

/// Reasons. Where a condition is true, its reason is the condition's own name, except [`reason::READY`].
pub mod reason {
    /// The condition is true.
    pub const READY: &str = "Ready";
    /// The condition is true.
    pub const ACCEPTED: &str = "Accepted";
    /// The condition is true.
    pub const RESOLVED_REFS: &str = "ResolvedRefs";
    /// The condition is true.
    pub const PROGRAMMED: &str = "Programmed";
    /// The condition is true.
    pub const GRANTED: &str = "Granted";

    /// Another, older object holds the target.
    pub const CONFLICTED: &str = "Conflicted";
    /// The object does not compile.
    pub const INVALID: &str = "Invalid";
    /// What is targeted does not exist.
    pub const TARGET_NOT_FOUND: &str = "TargetNotFound";

    /// The mesh's certificate authority is lost, and no pod gets a certificate.
    pub const CA_UNAVAILABLE: &str = "CAUnavailable";

    /// There is no such FapiIssuer, or no version of it was ever good.
    pub const ISSUER_NOT_FOUND: &str = "IssuerNotFound";
    /// The FapiIssuer does not allow this namespace, or not with this audience.
    pub const REF_NOT_PERMITTED: &str = "RefNotPermitted";

    /// Nothing was acknowledged yet.
    pub const PENDING: &str = "Pending";
    /// Some pods run it, some do not.
    pub const PARTIALLY_PROGRAMMED: &str = "PartiallyProgrammed";
    /// A sidecar refused it.
    pub const REJECTED: &str = "Rejected";
    /// It has ended.
    pub const EXPIRED: &str = "Expired";
    /// There is no pod to run it.
    pub const NO_PODS: &str = "NoPods";
    /// More specific policies govern every port.
    pub const OVERRIDDEN: &str = "Overridden";

    /// No pod with a sidecar answers for the target.
    pub const NOT_MESHED: &str = "NotMeshed";
    /// No rule of the target names the caller.
    pub const CALLER_NOT_ALLOWED: &str = "CallerNotAllowed";
    /// No rule that names the caller has the scopes asked for.
    pub const SCOPE_NOT_ALLOWED: &str = "ScopeNotAllowed";
    /// No rule that names the caller has the authorization details asked for.
    pub const DETAIL_NOT_ALLOWED: &str = "DetailNotAllowed";
    /// The FapiIssuer of the client may not be used for the target: one of both sides does not take it.
    pub const ISSUER_NOT_ACCEPTED: &str = "IssuerNotAccepted";
    /// The target does not take the binding asked for.
    pub const SENDER_CONSTRAINT_MISMATCH: &str = "SenderConstraintMismatch";
}
