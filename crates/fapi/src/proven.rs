//! What one connection has proven already, so that it is not proven again for each request.

use std::sync::Arc;

use crate::{dpop::ProofHeaders, recent::Recent, token::SignedToken};

/// Tokens whose signature and sender were proven on one connection, under one generation of policy, keys and revocations.
///
/// Make one per connection and never share it. A token found here has its bytes compared and nothing else skipped but
/// parsing and the signature: `typ`, times, audience, binding, proof, caller, rule and scope are checked on every request.
#[derive(Default)]
pub struct ProvenTokens {
    generation: u64,
    tokens: Recent<SignedToken, 8>,
    /// A header says the same under every generation.
    pub(crate) proof_headers: ProofHeaders,
}

impl ProvenTokens {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The token of exactly these bytes, if it was proven under this generation.
    pub(crate) fn find(&mut self, generation: u64, bytes: &[u8]) -> Option<Arc<SignedToken>> {
        if self.generation != generation {
            self.tokens = Recent::default();
            self.generation = generation;
        }
        self.tokens.find(bytes)
    }

    /// Keeps a token proven under the generation of the last [`ProvenTokens::find`]; the oldest makes room.
    pub(crate) fn keep(&mut self, bytes: &[u8], token: &Arc<SignedToken>) {
        self.tokens.keep(bytes, token);
    }
}

/// Never shows a token.
impl std::fmt::Debug for ProvenTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProvenTokens").field("tokens", &self.tokens.len()).finish_non_exhaustive()
    }
}
