//! Why the issuer gives no token, and how that is told: one closed list, one mapping to the wire.

use fapi::{Rejection, ScopeSet, SenderConstraint};
use http::StatusCode;

/// Why a request gets no token. The text becomes `error_description`: plain ASCII, no quotes, nothing secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenError {
    /// Only POST asks for tokens (RFC 6749 section 3.2).
    #[error("use POST")]
    Method,
    /// Another kind of body.
    #[error("the body must be application/x-www-form-urlencoded")]
    ContentType,
    /// More than any honest request.
    #[error("the body is too large")]
    TooLarge,
    /// The body did not arrive.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// Not a form.
    #[error("the parameters cannot be read")]
    Malformed,
    /// RFC 6749 section 3.2: no parameter twice.
    #[error("a parameter is given more than once")]
    Repeated,
    /// Parameters belong in the body.
    #[error("the token endpoint takes no query")]
    Query,
    /// No `grant_type`.
    #[error("grant_type is missing")]
    GrantTypeMissing,
    /// Another grant type.
    #[error("the only grant_type is client_credentials")]
    GrantTypeUnsupported,
    /// The connection has no client certificate (RFC 8705 section 2).
    #[error("the connection has no client certificate")]
    CertificateMissing,
    /// Secrets, assertions or an Authorization header.
    #[error("the only client authentication is tls_client_auth")]
    OtherAuthentication {
        /// The scheme of the Authorization header, if there is one.
        scheme: Option<String>,
    },
    /// RFC 8705 section 2: mutual TLS requests name the client.
    #[error("client_id is missing; it is the SPIFFE ID of the certificate")]
    ClientIdMissing,
    /// `client_id` is not the certificate's identity.
    #[error("client_id is not the SPIFFE ID of the certificate")]
    ClientIdMismatch,
    /// The certificate outlived its pod, or belongs to none.
    #[error("the pod of the certificate is not in the mesh")]
    PodUnknown,
    /// The connection outlived its certificate.
    #[error("the certificate has ended")]
    CertificateEnded,
    /// Its certificate, its pod, its identity or the client itself.
    #[error("the client or its certificate is revoked")]
    Revoked,
    /// No `resource` (RFC 8707 section 2).
    #[error("resource is missing; it is the audience of the service to call")]
    ResourceMissing,
    /// Several, or not a URI of ours.
    #[error("resource must be one audience of the form https://service.namespace")]
    ResourceMalformed,
    /// No service has this audience.
    #[error("no service has this audience")]
    AudienceUnknown,
    /// No rule of the target names the caller.
    #[error("the policy of the target does not name this client")]
    CallerNotAllowed,
    /// `scope` breaks its syntax.
    #[error("scope cannot be read")]
    ScopeMalformed,
    /// The target's rules do not give these.
    #[error("the policy of the target does not give this client the scopes: {0}")]
    ScopeNotAllowed(ScopeSet),
    /// `authorization_details` breaks its form, or has fields that nobody here understands (RFC 9396 section 5).
    #[error(
        "authorization_details: want a JSON list of 1 to 16 objects with the common fields of RFC 9396 section 2.2"
    )]
    DetailsMalformed,
    /// The target's rules do not give all of these.
    #[error("the policy of the target does not give this client all of these authorization_details")]
    DetailsNotAllowed,
    /// What the rules give this client does not fit into one token.
    #[error("one token cannot carry all that the target gives; ask for less by scope and authorization_details")]
    TokenTooLarge,
    /// The target does not take tokens bound like this.
    #[error("the target does not take tokens bound by {}", binding(*.0))]
    ConstraintNotAccepted(SenderConstraint),
    /// The DPoP proof is missing something, or proves nothing.
    #[error("DPoP proof: {}", .0.id())]
    Proof(Rejection),
    /// The desired state has not been read.
    #[error("the issuer is starting; try again")]
    NotReady,
    /// Our side.
    #[error("the token could not be signed; try again")]
    Signing,
}

/// How a refusal looks on the wire.
pub(super) struct Wire {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
}

impl TokenError {
    /// Status and error code (RFC 6749 section 5.2, RFC 8707 section 2, RFC 9396 section 5, RFC 9449 sections 5 and 8).
    pub(super) fn wire(&self) -> Wire {
        let (status, code) = match self {
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, INVALID_REQUEST),
            Self::ContentType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID_REQUEST),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, INVALID_REQUEST),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, INVALID_REQUEST),
            Self::Malformed
            | Self::Repeated
            | Self::Query
            | Self::GrantTypeMissing
            | Self::TokenTooLarge
            | Self::ConstraintNotAccepted(_) => (StatusCode::BAD_REQUEST, INVALID_REQUEST),
            Self::GrantTypeUnsupported => (StatusCode::BAD_REQUEST, "unsupported_grant_type"),
            // 401 needs a scheme to challenge with, and a certificate has none; so it is for callers who chose one.
            Self::OtherAuthentication { scheme: Some(_) } => (StatusCode::UNAUTHORIZED, INVALID_CLIENT),
            Self::CertificateMissing
            | Self::OtherAuthentication { scheme: None }
            | Self::ClientIdMissing
            | Self::ClientIdMismatch
            | Self::PodUnknown
            | Self::CertificateEnded
            | Self::Revoked => (StatusCode::BAD_REQUEST, INVALID_CLIENT),
            Self::ResourceMissing | Self::ResourceMalformed | Self::AudienceUnknown | Self::CallerNotAllowed => {
                (StatusCode::BAD_REQUEST, "invalid_target")
            }
            Self::ScopeMalformed | Self::ScopeNotAllowed(_) => (StatusCode::BAD_REQUEST, "invalid_scope"),
            Self::DetailsMalformed | Self::DetailsNotAllowed => {
                (StatusCode::BAD_REQUEST, "invalid_authorization_details")
            }
            Self::Proof(_) if self.wants_nonce() => (StatusCode::BAD_REQUEST, "use_dpop_nonce"),
            Self::Proof(Rejection::ReplayStoreFull) | Self::NotReady => {
                (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
            }
            Self::Proof(_) => (StatusCode::BAD_REQUEST, "invalid_dpop_proof"),
            Self::Signing => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
        };
        Wire { status, code }
    }

    /// Whether the proof lacks a nonce of this issuer (RFC 9449 section 8).
    pub(super) fn wants_nonce(&self) -> bool {
        matches!(self, Self::Proof(Rejection::ProofNonceRequired | Rejection::ProofNonceStale))
    }

    /// The stable reason id for the log.
    pub(super) fn id(&self) -> &'static str {
        match self {
            Self::Method => "method_not_allowed",
            Self::ContentType => "content_type",
            Self::TooLarge => "body_too_large",
            Self::TooSlow => "body_too_slow",
            Self::Malformed => "request_malformed",
            Self::Repeated => "parameter_repeated",
            Self::Query => "query_not_allowed",
            Self::GrantTypeMissing => "grant_type_missing",
            Self::GrantTypeUnsupported => "grant_type_unsupported",
            Self::CertificateMissing => "certificate_missing",
            Self::OtherAuthentication { .. } => "authentication_method",
            Self::ClientIdMissing => "client_id_missing",
            Self::ClientIdMismatch => "client_id_mismatch",
            Self::PodUnknown => "pod_unknown",
            Self::CertificateEnded => "certificate_ended",
            Self::Revoked => "revoked",
            Self::ResourceMissing => "resource_missing",
            Self::ResourceMalformed => "resource_malformed",
            Self::AudienceUnknown => "audience_unknown",
            Self::CallerNotAllowed => "caller_not_allowed",
            Self::ScopeMalformed => "scope_malformed",
            Self::ScopeNotAllowed(_) => "scope_not_allowed",
            Self::DetailsMalformed => "details_malformed",
            Self::DetailsNotAllowed => "details_not_allowed",
            Self::TokenTooLarge => "token_too_large",
            Self::ConstraintNotAccepted(_) => "sender_constraint_not_accepted",
            Self::Proof(rejection) => rejection.id(),
            Self::NotReady => "not_ready",
            Self::Signing => "signing_failed",
        }
    }
}

fn binding(constraint: SenderConstraint) -> &'static str {
    match constraint {
        SenderConstraint::Mtls => "certificate; send a DPoP proof",
        SenderConstraint::Dpop => "DPoP; send no proof and use the certificate",
    }
}

const INVALID_REQUEST: &str = "invalid_request";
const INVALID_CLIENT: &str = "invalid_client";
