//! The words of the rules as types: each can only be made by its parser, so a value that exists is a good one.

mod alg;
mod details;
mod network;
mod scope;
mod spiffe;
mod thumbprint;
mod time;
pub(crate) mod url;

pub use alg::{SenderConstraint, SigningAlg};
pub use details::AuthorizationDetails;
pub(crate) use details::Detail;
pub use network::Network;
pub use scope::ScopeSet;
pub use spiffe::{SpiffeId, TrustDomain};
pub use thumbprint::{CertThumbprint, JwkThumbprint, TokenHash};
pub use time::UnixTime;
pub use url::{Audience, Issuer, Origin};

/// Why a text is not a value of the wanted kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {what}: {problem}")]
pub struct InvalidValue {
    /// The kind of value that was wanted, for example `SPIFFE ID`.
    pub what: &'static str,
    /// What is wrong with the text, and what would be right.
    pub problem: &'static str,
}

impl InvalidValue {
    pub(crate) const fn new(what: &'static str, problem: &'static str) -> Self {
        Self { what, problem }
    }
}

#[cfg(test)]
mod tests;
