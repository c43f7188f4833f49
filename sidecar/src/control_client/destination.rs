//! What an authority stands for, ready for use by a worker.

use std::{net::SocketAddr, sync::Arc};

use control::{Destination, DestinationKind, EndpointDoc, GrantType, TokenDoc, destination};
use fapi::{Audience, AuthorizationDetails, ScopeSet, SpiffeId};

use crate::tokens::{Exchanger, TokenKey, TokenSlot, Tokens};

/// The answer to a lookup, parsed. Immutable: a change is another one.
pub(crate) enum Resolved {
    /// Nobody knows it.
    Unknown,
    /// Positively not in the mesh: called as it is, without identity and token.
    Unmeshed(Vec<SocketAddr>),
    /// A service of the mesh.
    Meshed(Meshed),
}

/// A service of the mesh.
pub(crate) struct Meshed {
    /// The origin in `htu`, `https://<service>.<namespace>`; also the audience of its tokens.
    pub(crate) origin: Arc<str>,
    /// Those that take new calls.
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) token: TokenNeed,
    /// Whether it takes no HTTP.
    pub(crate) opaque: bool,
}

/// One pod behind a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    /// Exactly this identity must be in its certificate.
    pub(crate) spiffe_id: SpiffeId,
}

/// Which token calls carry.
pub(crate) enum TokenNeed {
    /// No FapiClient names the service: the server decides about calls without a token.
    None,
    /// This one.
    Slot(Arc<TokenSlot>),
    /// One that is exchanged for the token of the call that is handed on.
    Exchange(Arc<Exchanger>),
    /// One is needed and there is no place or issuer for it: calls fail, they never go without.
    Unavailable,
}

impl Resolved {
    /// Reads the operator's answer. `token_endpoint` is the mesh issuer's; none before the first snapshot.
    ///
    /// # Errors
    /// The first thing in it that is not what it should be.
    pub(super) fn new(
        document: &Destination,
        token_endpoint: Option<&str>,
        tokens: &Arc<Tokens>,
    ) -> Result<Self, fapi::InvalidValue> {
        Ok(match &document.kind {
            DestinationKind::Unknown => Self::Unknown,
            DestinationKind::Unmeshed { addresses } => Self::Unmeshed(addresses.clone()),
            DestinationKind::Meshed(meshed) => Self::Meshed(Meshed::new(meshed, token_endpoint, tokens)?),
        })
    }
}

impl Meshed {
    fn new(
        meshed: &destination::Meshed,
        token_endpoint: Option<&str>,
        tokens: &Arc<Tokens>,
    ) -> Result<Self, fapi::InvalidValue> {
        let audience = Audience::parse(&meshed.audience)?;
        let ready = meshed.endpoints.iter().filter(|endpoint| endpoint.ready);
        let token = match (&meshed.token, token_endpoint) {
            (None, _) => TokenNeed::None,
            (Some(_), None) => TokenNeed::Unavailable,
            (Some(token), Some(endpoint)) => {
                let key = key(token, &audience, endpoint)?;
                let need = match token.grant_type {
                    GrantType::ClientCredentials => tokens.slot(&key).map(TokenNeed::Slot),
                    GrantType::TokenExchange => tokens.exchanger(&key).map(TokenNeed::Exchange),
                };
                need.unwrap_or(TokenNeed::Unavailable)
            }
        };
        Ok(Self {
            origin: audience.as_str().into(),
            endpoints: ready.map(Endpoint::new).collect::<Result<_, _>>()?,
            token,
            opaque: meshed.opaque,
        })
    }
}

impl Endpoint {
    fn new(document: &EndpointDoc) -> Result<Self, fapi::InvalidValue> {
        Ok(Self { address: document.address, spiffe_id: SpiffeId::parse(&document.spiffe_id)? })
    }
}

fn key(token: &TokenDoc, audience: &Audience, endpoint: &str) -> Result<TokenKey, fapi::InvalidValue> {
    let details = token.authorization_details.as_deref();
    // What the issuer would not read is not asked for again and again.
    details.map(AuthorizationDetails::parse).transpose()?;
    Ok(TokenKey {
        endpoint: endpoint.to_owned(),
        audience: audience.as_str().to_owned(),
        scope: ScopeSet::from_list(&token.scopes)?.to_string(),
        details: details.map(str::to_owned),
        constraint: token.sender_constraint.into(),
    })
}
