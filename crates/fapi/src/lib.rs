//! The FAPI 2.0 rules as pure functions: who may call what, with which token, bound to which sender.
//!
//! [`decide()`] is the one entry: a policy, keys, the TLS peer, a request and the time go in; an [`Admission`] that nothing
//! else can make, a [`Refusal`] or what is wanted of an issuer (keys, or its word on a token) come out. The crate never reads a clock,
//! never does IO and knows no runtime: time, randomness and keys are arguments.
//!
//! - values: [`value`], made only by their parsers
//! - what may be refused and how it is told: [`Rejection`], [`answer`]
//! - the rules that operator and sidecar share: [`WirePolicy`], [`Policy`]
//! - what counts no more before its end: [`Revocations`]
//! - keys and signatures: [`KeySet`], [`IssuerKeys`], [`SigningKey`]
//! - how clients authenticate without a certificate, and what an issuer knows again: [`ClientAssertion`], [`IssuedToken`]
//! - proofs of possession: [`NonceMinter`], [`ReplaySet`], [`ProofSigner`], [`check_token_endpoint_proof`]

#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::string_slice))]

mod assertion;
mod bind;
mod challenge;
mod crypto;
mod decide;
mod dpop;
mod introspection;
mod json;
mod jwk;
mod jwks;
mod jws;
mod path;
mod peer;
mod policy;
mod proven;
mod recent;
mod rejection;
mod request;
mod revocations;
#[cfg(test)]
mod testing;
mod threats;
mod token;
pub mod value;

pub use assertion::{AssertionFault, CLIENT_ASSERTION_TYPE, ClientAssertion, VerifiedAssertion, sign_assertion};
pub use challenge::{Answer, Needed, Scheme, answer};
pub use decide::{
    Admission, AdmissionKind, ConnectionAdmission, ExemptAdmission, Grounds, PlainRequest, Refusal, Verdict, decide,
    decide_again, decide_connection, decide_exempt, decide_introspected,
};
pub use dpop::{NonceMinter, ProofClaims, ProofSigner, ReplaySet, check_token_endpoint_proof};
pub use introspection::{Introspected, Introspection, IntrospectionFault, Unread};
pub use jwks::{IssuerKeys, JwksError, KeySet};
pub use jws::{PrivateKeyDer, SigningError, SigningKey};
pub use path::normal_path;
pub use peer::Peer;
pub use policy::{
    ClientIdClaim, Grant, GrantRefusal, Mode, Policy, PolicyProblem, PortPolicy, TcpPolicy, TokenTyp, WireActors,
    WireCaller, WireClient, WireDetail, WireExemption, WireExternal, WireMapping, WirePolicy, WireResource, WireRule,
    WireTcpPolicy,
};
pub use proven::ProvenTokens;
pub use rejection::Rejection;
pub use request::{Context, Request};
pub use revocations::{Revocation, Revocations, Revoked};
pub use token::{IssuedToken, MAX_TOKEN_BYTES};
pub use value::{
    Audience, AuthorizationDetails, CertThumbprint, InvalidValue, Issuer, JwkThumbprint, Origin, ScopeSet,
    SenderConstraint, SigningAlg, SpiffeId, TokenHash, TrustDomain, UnixTime,
};
