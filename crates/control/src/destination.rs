//! The answer to a lookup: endpoints, identity to expect, audience and token, together.

use std::net::SocketAddr;

use fapi::SenderConstraint;
use serde::{Deserialize, Serialize};

use crate::ExternalIssuer;
use crate::features::{ALL_ADDRESSES, AMBIGUOUS, UNMESHED_REFUSED};

/// What an authority stands for, as seen by one pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Destination {
    /// The authority as the app dialled it.
    pub authority: String,
    /// What it is.
    pub kind: DestinationKind,
}

/// The kinds of destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DestinationKind {
    /// Positively not in the mesh.
    Unmeshed {
        /// Where it is reached.
        addresses: Vec<SocketAddr>,
    },
    /// Positively not in the mesh, and the mesh does not let such be called. Only for sidecars with the feature
    /// [`UNMESHED_REFUSED`]: others would keep the answer before it.
    Refused,
    /// Nobody knows it.
    Unknown,
    /// The address of a pod of the mesh before which several Services stand. Only for sidecars with the feature
    /// [`AMBIGUOUS`].
    Ambiguous {
        /// Some of them, `<service>.<namespace>`.
        services: Vec<String>,
    },
    /// A service of the mesh.
    Meshed(Box<Meshed>),
}

/// A service of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Meshed {
    /// `<service>.<namespace>`.
    pub service: String,
    /// The audience of its tokens; also the origin of `htu`.
    pub audience: String,
    /// Its pods.
    pub endpoints: Vec<EndpointDoc>,
    /// The token that a call carries; none if no FapiClient of the caller names the service.
    pub token: Option<TokenDoc>,
    /// Whether it takes no HTTP: connections are joined as they are, over mutual TLS and without token. Left out when it is
    /// not, so that an older reader still takes the rest; one that is it refuses.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opaque: bool,
}

/// One pod behind a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndpointDoc {
    /// Where its sidecar listens.
    pub address: SocketAddr,
    /// Where it listens too: those of the other family of addresses. An app may have dialled one of them. Only for sidecars with the
    /// feature [`ALL_ADDRESSES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<SocketAddr>,
    /// The identity that its certificate must name.
    pub spiffe_id: String,
    /// Whether it takes new calls.
    pub ready: bool,
}

/// Which token a call carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenDoc {
    /// The scopes to ask for; empty: all that the target grants.
    pub scopes: Vec<String>,
    /// The value of the parameter `authorization_details` (RFC 9396); `None`: all that the target grants. Left out when not
    /// used, so that an older reader still takes the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_details: Option<String>,
    /// How the token is bound to its sender.
    pub sender_constraint: SenderConstraint,
    /// How it is asked for. Left out when it is the default, so that an older reader still takes the rest.
    #[serde(default, skip_serializing_if = "GrantType::is_default")]
    pub grant_type: GrantType,
    /// Who gives it. Left out when it is the mesh's own issuer, and the field below when it is the default, like the one above.
    #[serde(default, skip_serializing_if = "TokenSource::is_mesh")]
    pub source: TokenSource,
    /// How the client authenticates there.
    #[serde(default, skip_serializing_if = "ClientAuthentication::is_by_certificate")]
    pub authentication: ClientAuthentication,
}

/// The authorization server that gives a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TokenSource {
    /// The mesh's own; the audience is that of the service.
    #[default]
    Mesh,
    /// One outside the mesh.
    External(ExternalToken),
    /// Nobody: the FapiIssuer that the client names may not be used for this service. The call must not go out.
    Denied,
}

/// What is asked of an authorization server outside the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalToken {
    /// The server.
    pub server: ExternalIssuer,
    /// The client, as the server knows it.
    pub client_id: String,
    /// `resource` of the request (RFC 8707): the audience under which the service takes this server's tokens.
    pub audience: String,
    /// Its tokens cannot be read by their clients.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opaque: bool,
}

/// How a client authenticates at an authorization server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ClientAuthentication {
    /// `tls_client_auth` (RFC 8705 section 2.1), with the certificate of the mesh.
    #[default]
    TlsClientAuth,
    /// `private_key_jwt` (RFC 7523), with a key that the sidecar has made.
    PrivateKeyJwt,
}

/// What a sidecar can read of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    refused: bool,
    all_addresses: bool,
    ambiguous: bool,
}

impl Reader {
    /// A sidecar with these features.
    pub fn with(features: &[String]) -> Self {
        let has = |name: &str| features.iter().any(|feature| feature == name);
        Self { refused: has(UNMESHED_REFUSED), all_addresses: has(ALL_ADDRESSES), ambiguous: has(AMBIGUOUS) }
    }

    /// An answer in the words that it knows; none of them lets more pass.
    pub fn worded(self, mut answer: Destination) -> Destination {
        match &mut answer.kind {
            DestinationKind::Refused if !self.refused => answer.kind = DestinationKind::Unknown,
            DestinationKind::Ambiguous { .. } if !self.ambiguous => answer.kind = DestinationKind::Unknown,
            DestinationKind::Meshed(meshed) if !self.all_addresses => {
                meshed.endpoints.iter_mut().for_each(|endpoint| endpoint.others.clear());
            }
            _ => {}
        }
        answer
    }
}

impl TokenSource {
    /// Whether the mesh's own issuer is asked.
    pub fn is_mesh(&self) -> bool {
        *self == Self::Mesh
    }
}

impl ClientAuthentication {
    /// Whether it is by certificate.
    pub fn is_by_certificate(&self) -> bool {
        *self == Self::TlsClientAuth
    }
}

/// How a token is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GrantType {
    /// For the caller itself (RFC 6749 section 4.4).
    #[default]
    ClientCredentials,
    /// For the call that the caller has been called with, in exchange for that call's token (RFC 8693).
    TokenExchange,
}

impl GrantType {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
