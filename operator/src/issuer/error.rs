//! Why the issuer refuses a request, and how that is told: one closed list, one mapping to the wire.

use fapi::{AssertionFault, Rejection, ScopeSet, SenderConstraint};
use http::StatusCode;

use super::exchange::{ACCESS_TOKEN, SubjectFault};
use crate::state::NotRemembered;

/// Why a request is refused. The text becomes `error_description`: plain ASCII, no quotes, nothing secret.
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
    /// More than any honest request.
    #[error("the header fields are too large")]
    HeadersTooLarge,
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
    #[error("parameters belong in the body, not in a query")]
    Query,
    /// No `grant_type`.
    #[error("grant_type is missing")]
    GrantTypeMissing,
    /// Another grant type.
    #[error("grant_type is client_credentials or {}", super::exchange::TOKEN_EXCHANGE)]
    GrantTypeUnsupported,
    /// Neither a client certificate (RFC 8705 section 2) nor an assertion.
    #[error("the connection has no client certificate, and the request no client_assertion")]
    CertificateMissing,
    /// A secret or an Authorization header.
    #[error("clients authenticate by tls_client_auth or private_key_jwt alone")]
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
    /// `client_id` is not the client of the assertion (RFC 7521 section 4.2).
    #[error("client_id is not the sub of the client_assertion")]
    ClientIdNotAsserted,
    /// One of the two parameters is missing, or another type of assertion.
    #[error("private_key_jwt takes a client_assertion and a client_assertion_type, {}", fapi::CLIENT_ASSERTION_TYPE)]
    AssertionType,
    /// The assertion proves nothing.
    #[error("client_assertion: {0}")]
    Assertion(AssertionFault),
    /// The assertion was used before (RFC 7523 section 3).
    #[error("client_assertion: its jti was used before; make a new one for each request")]
    AssertionReplayed,
    /// Nobody has named keys for this client.
    #[error(
        "no FapiClient names keys for this client; its id is spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT"
    )]
    ClientUnknown,
    /// The client sends too much.
    #[error("too many requests; wait and try again")]
    TooMany(u64),
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
    /// Too many, or not a URI of ours.
    #[error("resource must be an audience of the form https://service.namespace, and there are at most 8")]
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
    /// One of the two parameters is missing (RFC 8693 section 2.1).
    #[error("a token exchange takes a subject_token and a subject_token_type")]
    SubjectTokenMissing,
    /// Another type of token is given or wanted.
    #[error("the only type of token is {ACCESS_TOKEN}")]
    TokenType,
    /// The client itself is the actor.
    #[error("the client is the actor; send no actor_token")]
    ActorToken,
    /// One way to name a target is enough.
    #[error("name the target by resource; audience is not understood")]
    AudienceParameter,
    /// The subject token is not taken (RFC 8693 section 2.2.2).
    #[error("subject_token: {0}")]
    Subject(#[from] SubjectFault),
    /// Whoever is never called has nothing to hand on.
    #[error("no service stands before this client, so it has no calls to hand on")]
    NeverCalled,
    /// The subject token does not have these.
    #[error("the subject_token does not have the scopes: {0}")]
    ScopeNotDelegated(ScopeSet),
    /// The subject token does not have all of these.
    #[error("the subject_token does not have all of these authorization_details")]
    DetailsNotDelegated,
    /// Neither a certificate nor a proof: there is nothing to bind a token to (FAPI 2.0 SP 5.3.2.1).
    #[error("every token is bound to its sender: send a DPoP proof, or connect with the certificate of the client")]
    NothingToBind,
    /// No `token` to revoke or to look at.
    #[error("token is missing")]
    TokenMissing,
    /// RFC 7009 section 2.1: only the client that it was issued to gives it up.
    #[error("the token was issued to another client")]
    TokenOfAnother,
    /// The DPoP proof is missing something, or proves nothing.
    #[error("DPoP proof: {}", .0.id())]
    Proof(Rejection),
    /// The desired state has not been read.
    #[error("the issuer is starting; try again")]
    NotReady,
    /// What must be remembered has no room.
    #[error("too much is remembered at this moment; try again later")]
    StoreFull,
    /// What must be remembered is not on disk.
    #[error("the issuer cannot write to its disk; try again later")]
    Storing,
    /// Our side.
    #[error("the answer could not be signed; try again")]
    Signing,
}

impl From<NotRemembered> for TokenError {
    fn from(error: NotRemembered) -> Self {
        match error {
            NotRemembered::Full => Self::StoreFull,
            NotRemembered::State(error) => {
                tracing::error!(event = "state", %error, "cannot keep what must survive a restart; refusing");
                Self::Storing
            }
        }
    }
}

/// How a refusal looks on the wire.
pub(super) struct Wire {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
}

impl TokenError {
    /// Status and error code (RFC 6585 section 4, RFC 6749 section 5.2, RFC 7009 section 2.2.1, RFC 8693 section 2.2.2, RFC
    /// 8707 section 2, RFC 9396 section 5, RFC 9449 sections 5 and 8).
    pub(super) fn wire(&self) -> Wire {
        let (status, code) = match self {
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, INVALID_REQUEST),
            Self::ContentType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID_REQUEST),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, INVALID_REQUEST),
            Self::HeadersTooLarge => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, INVALID_REQUEST),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, INVALID_REQUEST),
            Self::Malformed
            | Self::Repeated
            | Self::Query
            | Self::GrantTypeMissing
            | Self::TokenTooLarge
            | Self::TokenMissing
            | Self::SubjectTokenMissing
            | Self::TokenType
            | Self::ActorToken
            | Self::Subject(_)
            | Self::NothingToBind
            | Self::ConstraintNotAccepted(_) => (StatusCode::BAD_REQUEST, INVALID_REQUEST),
            Self::GrantTypeUnsupported => (StatusCode::BAD_REQUEST, "unsupported_grant_type"),
            // 401 needs a scheme to challenge with, and a certificate has none; so it is for callers who chose one.
            Self::OtherAuthentication { scheme: Some(_) } => (StatusCode::UNAUTHORIZED, INVALID_CLIENT),
            Self::CertificateMissing
            | Self::OtherAuthentication { scheme: None }
            | Self::ClientIdMissing
            | Self::ClientIdMismatch
            | Self::ClientIdNotAsserted
            | Self::AssertionType
            | Self::Assertion(_)
            | Self::AssertionReplayed
            | Self::ClientUnknown
            | Self::PodUnknown
            | Self::CertificateEnded
            | Self::Revoked => (StatusCode::BAD_REQUEST, INVALID_CLIENT),
            Self::NeverCalled => (StatusCode::BAD_REQUEST, "unauthorized_client"),
            Self::ResourceMissing
            | Self::ResourceMalformed
            | Self::AudienceParameter
            | Self::AudienceUnknown
            | Self::CallerNotAllowed => (StatusCode::BAD_REQUEST, "invalid_target"),
            Self::ScopeMalformed | Self::ScopeNotAllowed(_) | Self::ScopeNotDelegated(_) => {
                (StatusCode::BAD_REQUEST, "invalid_scope")
            }
            Self::DetailsMalformed | Self::DetailsNotAllowed | Self::DetailsNotDelegated => {
                (StatusCode::BAD_REQUEST, "invalid_authorization_details")
            }
            Self::Proof(_) if self.wants_nonce() => (StatusCode::BAD_REQUEST, "use_dpop_nonce"),
            Self::TokenOfAnother => (StatusCode::BAD_REQUEST, "invalid_grant"),
            Self::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, UNAVAILABLE),
            Self::Proof(Rejection::ReplayStoreFull) | Self::NotReady | Self::StoreFull | Self::Storing => {
                (StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE)
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

    /// Seconds after which it is worth trying again (RFC 9110 section 10.2.3).
    pub(super) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::TooMany(seconds) => Some(*seconds),
            _ => (self.wire().status == StatusCode::SERVICE_UNAVAILABLE).then_some(1),
        }
    }

    /// The stable reason id for the log.
    pub(super) fn id(&self) -> &'static str {
        match self {
            Self::Method => "method_not_allowed",
            Self::ContentType => "content_type",
            Self::TooLarge => "body_too_large",
            Self::HeadersTooLarge => "header_too_large",
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
            Self::ClientIdNotAsserted => "client_id_mismatch",
            Self::AssertionType => "assertion_type",
            Self::Assertion(fault) => assertion_id(*fault),
            Self::AssertionReplayed => "assertion_replayed",
            Self::ClientUnknown => "client_unknown",
            Self::TooMany(_) => "rate_limited",
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
            Self::SubjectTokenMissing => "subject_token_missing",
            Self::TokenType => "token_type",
            Self::ActorToken => "actor_token",
            Self::AudienceParameter => "audience_parameter",
            Self::Subject(fault) => fault.id(),
            Self::NeverCalled => "never_called",
            Self::ScopeNotDelegated(_) => "scope_not_delegated",
            Self::DetailsNotDelegated => "details_not_delegated",
            Self::NothingToBind => "binding_missing",
            Self::TokenMissing => "token_parameter_missing",
            Self::TokenOfAnother => "token_of_another",
            Self::StoreFull => "store_full",
            Self::Storing => "store_failed",
            Self::Proof(rejection) => rejection.id(),
            Self::NotReady => "not_ready",
            Self::Signing => "signing_failed",
        }
    }
}

fn assertion_id(fault: AssertionFault) -> &'static str {
    match fault {
        AssertionFault::Malformed => "assertion_malformed",
        AssertionFault::Type => "assertion_typ",
        AssertionFault::Subject => "assertion_subject",
        AssertionFault::Algorithm => "assertion_alg",
        AssertionFault::KeyNotFound => "assertion_key_not_found",
        AssertionFault::Signature => "assertion_signature_invalid",
        AssertionFault::Audience => "assertion_audience",
        AssertionFault::Expired => "assertion_expired",
        AssertionFault::NotYetValid => "assertion_not_yet_valid",
        AssertionFault::TooLong => "assertion_too_long",
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
const UNAVAILABLE: &str = "temporarily_unavailable";
