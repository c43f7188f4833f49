//! Every reason for which anything is refused: one closed enum, one table.

/// What the caller is told; [`crate::answer`] spells it on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tell {
    /// Nothing: the connection ends before HTTP begins.
    Nothing,
    /// A challenge without error code (RFC 6750 section 3.1).
    Credentials,
    /// `invalid_token` (RFC 6750 section 3.1, RFC 9068 section 4).
    Token,
    /// `invalid_dpop_proof` (RFC 9449 section 7.1).
    Proof,
    /// `use_dpop_nonce` (RFC 9449 section 9).
    Nonce,
    /// `insufficient_scope` (RFC 6750 section 3.1).
    Scope,
    /// `insufficient_user_authentication`, with the age that would do (RFC 9470 section 3).
    Age,
    /// `invalid_request`, in a challenge of each scheme (RFC 6750 section 3.1).
    Request,
    /// The code alone: better credentials of the same caller would not help.
    Plain(&'static str),
}

macro_rules! rejections {
    ($($variant:ident, $id:literal, $source:literal, $status:expr, $tell:expr, $waived:expr, $hint:literal;)*) => {
        /// Why a call is refused. The ids are stable; logs, metrics and docs use them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Rejection {
            $(#[doc = concat!("`", $id, "` (", $source, "): ", $hint)] $variant,)*
        }

        impl Rejection {
            /// Every rejection, in the order of [`Rejection::index`].
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            const fn entry(self) -> Entry {
                match self {
                    $(Self::$variant => Entry {
                        id: $id, source: $source, status: $status, tell: $tell, waived: $waived, hint: $hint,
                    },)*
                }
            }
        }
    };
}

// variant, id, source, HTTP status (none: before HTTP), what the caller is told, whether `Audit` lets it pass, remedy.
rejections! {
    PeerCertificateMissing, "peer_certificate_missing", "RFC 8446 4.4.2.4", None, Tell::Nothing, false,
        "connect with a client certificate of the mesh";
    PeerCertificateUntrusted, "peer_certificate_untrusted", "RFC 5280 6.1", None, Tell::Nothing, false,
        "use a current certificate that the mesh CA issued";
    TrustDomainNotAllowed, "trust_domain_not_allowed", "SPIFFE X509-SVID 5.2", None, Tell::Nothing, false,
        "the certificate names another trust domain; enrol in this one";
    TokenMissing, "token_missing", "RFC 6750 3", Some(401), Tell::Credentials, true,
        "send an access token in the Authorization header";
    TokenMalformed, "token_malformed", "RFC 7519 7.2", Some(401), Tell::Token, true,
        "send a compact JWS access token with the claims of RFC 9068";
    TokenExpired, "token_expired", "RFC 7519 4.1.4", Some(401), Tell::Token, true,
        "get a new token";
    TokenNotYetValid, "token_not_yet_valid", "RFC 7519 4.1.5", Some(401), Tell::Token, true,
        "compare the clocks of issuer and resource server";
    TokenType, "token_type", "RFC 9068 4", Some(401), Tell::Token, true,
        "send an access token (typ at+jwt), not another kind of JWT";
    TokenTooOld, "token_too_old", "FAPI 2.0 SP 6.1", Some(401), Tell::Age, true,
        "the rule wants a younger token; get a new one";
    IssuerNotAllowed, "issuer_not_allowed", "RFC 9068 4", Some(401), Tell::Token, true,
        "get the token from an issuer that the policy names";
    AudienceMismatch, "audience_mismatch", "RFC 9068 4", Some(401), Tell::Token, true,
        "get a token for the audience of this service";
    AlgNotAllowed, "alg_not_allowed", "FAPI 2.0 SP 5.4.1", Some(401), Tell::Token, true,
        "sign with ES256, PS256 or EdDSA";
    KeyNotFound, "key_not_found", "RFC 7515 6", Some(401), Tell::Token, true,
        "the issuer publishes no key of this kid and algorithm";
    SignatureInvalid, "signature_invalid", "RFC 7515 5.2", Some(401), Tell::Token, true,
        "the token was changed or signed by another key; get a new one";
    ScopeInsufficient, "scope_insufficient", "RFC 6750 3.1", Some(403), Tell::Scope, true,
        "get a token with the scopes that the rule needs";
    BindingMissing, "binding_missing", "FAPI 2.0 SP 5.3.4", Some(401), Tell::Token, true,
        "use a token bound to its sender, in a way that the policy takes";
    BindingUnknown, "binding_unknown", "RFC 7800 3.1", Some(401), Tell::Token, true,
        "the token carries a confirmation method that is not understood here";
    BindingCertMismatch, "binding_cert_mismatch", "RFC 8705 3", Some(401), Tell::Token, true,
        "the token is bound to another certificate; get one over the current certificate";
    BindingCertAbsent, "binding_cert_absent", "RFC 8705 3", Some(401), Tell::Token, true,
        "the token is bound to a certificate; connect with it";
    BoundTokenSentAsBearer, "bound_token_sent_as_bearer", "RFC 9449 7.2", Some(401), Tell::Token, true,
        "send a DPoP-bound token with the DPoP scheme and a proof";
    CallerMismatch, "caller_mismatch", "RFC 8693 4.1", Some(401), Tell::Token, true,
        "the token was issued to another workload than the one that holds the connection";
    ProofMissing, "proof_missing", "RFC 9449 7.1", Some(401), Tell::Proof, true,
        "send one DPoP header with the token";
    ProofMalformed, "proof_malformed", "RFC 9449 4.3", Some(401), Tell::Proof, true,
        "send a DPoP proof as RFC 9449 section 4.2 describes it";
    ProofKeyMismatch, "proof_key_mismatch", "RFC 9449 4.3", Some(401), Tell::Token, true,
        "sign the proof with the key that the token is bound to";
    ProofHtm, "proof_htm", "RFC 9449 4.3", Some(401), Tell::Proof, true,
        "the proof names another method than the request";
    ProofHtu, "proof_htu", "RFC 9449 4.3", Some(401), Tell::Proof, true,
        "the proof names another URL than the request";
    ProofAth, "proof_ath", "RFC 9449 4.3", Some(401), Tell::Proof, true,
        "the proof was made for another token";
    ProofStale, "proof_stale", "RFC 9449 11.1", Some(401), Tell::Proof, true,
        "make a new proof for each request; compare the clocks";
    ProofReplayed, "proof_replayed", "RFC 9449 11.1", Some(401), Tell::Proof, true,
        "make a new proof, with a new jti, for each request";
    ProofNonceRequired, "proof_nonce_required", "RFC 9449 9", Some(401), Tell::Nonce, true,
        "make the proof again with the nonce of this answer";
    ProofNonceStale, "proof_nonce_stale", "RFC 9449 9", Some(401), Tell::Nonce, true,
        "make the proof again with the nonce of this answer";
    Revoked, "revoked", "FAPI 2.0 SP 5.3.4", Some(401), Tell::Token, false,
        "the token, certificate or identity was revoked";
    TokenInactive, "token_inactive", "RFC 7662 2.2", Some(401), Tell::Token, false,
        "the issuer says that the token has ended, was revoked or is none of its own; get a new one";
    IntrospectionUnavailable, "introspection_unavailable", "RFC 7662 4", Some(503), Tell::Plain(UNAVAILABLE), true,
        "the issuer did not say in time whether the token is active; try again";
    IssuerUnavailable, "issuer_unavailable", "RFC 8414 3", Some(503), Tell::Plain(UNAVAILABLE), true,
        "the keys of the issuer could not be fetched; try again";
    EdgeSourceUntrusted, "edge_source_untrusted", "RFC 9440 4", Some(401), Tell::Token, true,
        "a forwarded certificate counts only from an edge that the policy names";
    CallerNotAllowed, "caller_not_allowed", "RFC 9110 15.5.4", Some(403), Tell::Plain(DENIED), true,
        "no rule of this path names the caller";
    RuleNotMatched, "rule_not_matched", "RFC 9110 15.5.4", Some(403), Tell::Plain(DENIED), true,
        "no rule covers this method and path";
    RequestMalformed, "request_malformed", "RFC 6750 3.1", Some(400), Tell::Request, false,
        "send one Authorization header, at most one DPoP header, no token in the URL and an unambiguous path";
    HeaderTooLarge, "header_too_large", "RFC 6585 5", Some(431), Tell::Plain("invalid_request"), false,
        "send fewer or smaller headers";
    OpaqueNotAllowed, "opaque_not_allowed", "FAPI 2.0 SP 5.3.4", Some(403), Tell::Plain(DENIED), false,
        "a port takes plain HTTP with tokens, or it is declared protocol: TCP and takes everything else";
    PlaintextNotAllowed, "plaintext_not_allowed", "FAPI 2.0 SP 5.2.1", Some(403), Tell::Plain(DENIED), false,
        "plaintext passes only where a FapiPolicy exempts it: a bare GET of a path, from a source that it names";
    PolicyMissing, "policy_missing", "RFC 9110 15.6.4", Some(503), Tell::Plain(UNAVAILABLE), false,
        "this port has no policy yet; wait until the operator has sent one";
    PolicyInvalid, "policy_invalid", "RFC 9110 15.6.4", Some(503), Tell::Plain(UNAVAILABLE), false,
        "the policy of this port does not compile; its status says why";
    ReplayStoreFull, "replay_store_full", "RFC 9449 11.1", Some(503), Tell::Plain(UNAVAILABLE), true,
        "too many proofs in a short time; slow down and try again";
    DestinationUnknown, "destination_unknown", "RFC 9110 15.6.4", Some(503), Tell::Plain(UNAVAILABLE), false,
        "no answer about this destination; check its name and that the operator runs";
    DestinationAmbiguous, "destination_ambiguous", "RFC 9110 15.6.4", Some(503), Tell::Plain(UNAVAILABLE), false,
        "several Services stand before the pod that was dialled by its address; name one of them in a FapiClient, or call it by name";
    DestinationUnmeshed, "destination_unmeshed", "RFC 9110 15.6.4", Some(503), Tell::Plain(UNAVAILABLE), false,
        "this destination is not in the mesh, and unmeshedDestinations of the FapiMesh is Refuse; bring it into the mesh";
    PeerIdentityMismatch, "peer_identity_mismatch", "RFC 9525 6", Some(503), Tell::Plain(UNAVAILABLE), false,
        "the server at this address is not the workload that was expected";
    TokenUnavailable, "token_unavailable", "RFC 6749 5.2", Some(503), Tell::Plain(UNAVAILABLE), false,
        "the issuer gave no token in time; try again";
    NotGranted, "not_granted", "RFC 8707 2", Some(403), Tell::Plain(DENIED), false,
        "the target's policy does not grant what the FapiClient asks for; see its status";
    AppAuthorizationPresent, "app_authorization_present", "FAPI 2.0 SP 5.3.3.1", Some(400), Tell::Plain("invalid_request"), false,
        "the sidecar sets Authorization for this destination; do not send one";
}

impl Rejection {
    /// The stable id, in snake case.
    #[must_use]
    pub const fn id(self) -> &'static str {
        self.entry().id
    }

    /// The document and section that asks for the refusal.
    #[must_use]
    pub const fn source(self) -> &'static str {
        self.entry().source
    }

    /// The HTTP status, or `None` where the connection ends before HTTP begins.
    #[must_use]
    pub const fn status(self) -> Option<u16> {
        self.entry().status
    }

    /// What to do about it, for logs and for the app beside the sidecar; never for a remote caller.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        self.entry().hint
    }

    /// Whether a policy in `Audit` lets the call pass. Never: no policy, ambiguous requests, revoked identities.
    #[must_use]
    pub const fn waivable_in_audit(self) -> bool {
        self.entry().waived
    }

    /// The place in [`Rejection::ALL`], for arrays of counters.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The rejection of an id.
    #[must_use]
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|rejection| rejection.id() == id)
    }

    pub(crate) const fn tell(self) -> Tell {
        self.entry().tell
    }
}

/// The id.
impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id())
    }
}

struct Entry {
    id: &'static str,
    source: &'static str,
    status: Option<u16>,
    tell: Tell,
    waived: bool,
    hint: &'static str,
}

const UNAVAILABLE: &str = "temporarily_unavailable";
const DENIED: &str = "access_denied";

#[cfg(test)]
mod tests;
