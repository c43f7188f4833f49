//! What an authority stands for, ready for use by a worker.

use std::{net::SocketAddr, sync::Arc};

use control::{
    Destination, DestinationKind, EndpointDoc, ExternalToken, GrantType, MeshIssuer, TokenDoc, TokenSource, destination,
};
use fapi::{Audience, AuthorizationDetails, Issuer, Rejection, ScopeSet, SpiffeId};

use crate::tokens::{AuthorizationServer, Exchanger, Place, TokenKey, TokenSlot, Tokens};

/// The answer to a lookup, parsed. Immutable: a change is another one.
pub(crate) enum Resolved {
    /// Nobody knows it.
    Unknown,
    /// Several Services stand before the pod at this address.
    Ambiguous,
    /// Positively not in the mesh, and not called.
    Refused,
    /// Positively not in the mesh: called as it is, without identity and token.
    Unmeshed(Vec<SocketAddr>),
    /// A service of the mesh.
    Meshed(Meshed),
}

/// A service of the mesh.
pub(crate) struct Meshed {
    /// The origin in `htu`, `https://<service>.<namespace>`; also the audience of the mesh's own tokens.
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
    /// Where it is reached too.
    others: Vec<SocketAddr>,
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
    /// One is needed and cannot be had: calls fail, they never go without.
    Unavailable(Rejection),
}

impl Resolved {
    /// Reads the operator's answer. `mesh` is the mesh's own issuer; none before the first snapshot.
    ///
    /// # Errors
    /// The first thing in it that is not what it should be.
    pub(super) fn new(
        document: &Destination,
        mesh: Option<&MeshIssuer>,
        tokens: &Arc<Tokens>,
    ) -> Result<Self, fapi::InvalidValue> {
        Ok(match &document.kind {
            DestinationKind::Unknown => Self::Unknown,
            DestinationKind::Ambiguous { .. } => Self::Ambiguous,
            DestinationKind::Refused => Self::Refused,
            DestinationKind::Unmeshed { addresses } => Self::Unmeshed(addresses.clone()),
            DestinationKind::Meshed(meshed) => Self::Meshed(Meshed::new(meshed, mesh, tokens)?),
        })
    }
}

impl Meshed {
    fn new(
        meshed: &destination::Meshed,
        mesh: Option<&MeshIssuer>,
        tokens: &Arc<Tokens>,
    ) -> Result<Self, fapi::InvalidValue> {
        let audience = Audience::parse(&meshed.audience)?;
        let ready = meshed.endpoints.iter().filter(|endpoint| endpoint.ready);
        let token = match &meshed.token {
            None => TokenNeed::None,
            Some(token) => TokenNeed::new(token, &audience, mesh, tokens)?,
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
        let EndpointDoc { address, others, spiffe_id, ready: _ } = document;
        Ok(Self { address: *address, others: others.clone(), spiffe_id: SpiffeId::parse(spiffe_id)? })
    }

    /// Whether it is the pod at this address.
    pub(crate) fn is_at(&self, address: SocketAddr) -> bool {
        self.address == address || self.others.contains(&address)
    }
}

impl TokenNeed {
    fn new(
        token: &TokenDoc,
        own: &Audience,
        mesh: Option<&MeshIssuer>,
        tokens: &Arc<Tokens>,
    ) -> Result<Self, fapi::InvalidValue> {
        let (place, audience) = match (&token.source, mesh) {
            // The token of a call is for the mesh alone; nobody outside may see it.
            (TokenSource::External(_), _) if token.grant_type == GrantType::TokenExchange => {
                return Ok(Self::Unavailable(Rejection::NotGranted));
            }
            (TokenSource::Mesh, None) => return Ok(Self::Unavailable(Rejection::TokenUnavailable)),
            (TokenSource::Denied, _) => return Ok(Self::Unavailable(Rejection::NotGranted)),
            (TokenSource::Mesh, Some(MeshIssuer { issuer, token_endpoint })) => {
                (Place::Mesh { issuer: issuer.clone(), token_endpoint: token_endpoint.clone() }, own.as_str())
            }
            (TokenSource::External(ExternalToken { server, client_id, audience, opaque }), _) => {
                Issuer::parse(&server.issuer)?;
                Audience::parse(audience)?;
                let (server, client_id, opaque) = (server.clone(), client_id.clone(), *opaque);
                (Place::Outside { server, client_id, opaque }, audience.as_str())
            }
        };
        let server = AuthorizationServer { place, authentication: token.authentication };
        let key = key(token, audience, server)?;
        let need = match token.grant_type {
            GrantType::ClientCredentials => tokens.slot(&key).map(Self::Slot),
            GrantType::TokenExchange => tokens.exchanger(&key).map(Self::Exchange),
        };
        Ok(need.unwrap_or(Self::Unavailable(Rejection::TokenUnavailable)))
    }
}

fn key(token: &TokenDoc, audience: &str, server: AuthorizationServer) -> Result<TokenKey, fapi::InvalidValue> {
    let details = token.authorization_details.as_deref();
    // What the issuer would not read is not asked for again and again.
    details.map(AuthorizationDetails::parse).transpose()?;
    Ok(TokenKey {
        server: Arc::new(server),
        audience: audience.to_owned(),
        scope: ScopeSet::from_list(&token.scopes)?.to_string(),
        details: details.map(str::to_owned),
        constraint: token.sender_constraint.into(),
    })
}
