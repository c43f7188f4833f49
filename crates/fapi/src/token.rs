//! The access token (RFC 9068) in stages. Each stage is a type that only its own check can make:
//! `ReceivedToken` -> `ParsedToken` -> `SignedToken` -> `CurrentToken`; [`crate::bind`] goes on from there.

mod claims;
mod current;
mod issued;
mod parsed;
mod received;
mod signed;

pub(crate) use claims::{Claims, MAX_ACTORS};
pub(crate) use current::{CurrentToken, FUTURE_LEEWAY};
pub use issued::IssuedToken;
pub use parsed::MAX_TOKEN_BYTES;
pub(crate) use parsed::ParsedToken;
pub(crate) use received::{DPOP, ReceivedToken, at_most_one};
pub(crate) use signed::{KeyLookup, NotSigned, SignedToken};
