use serde::{Deserialize, Serialize};

use super::{Revocation, Revoked};
use crate::value::{CertThumbprint, InvalidValue, Issuer, SpiffeId, UnixTime};

/// A revocation as JSON, on disk and on the control stream. Times are seconds since 1970.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct WireRevocation {
    revoked: WireRevoked,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issued_before: Option<u64>,
    expires: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum WireRevoked {
    Token { issuer: String, id: String },
    Certificate(String),
    PodUid(String),
    SpiffeId(String),
    Client { issuer: String, id: String },
}

impl TryFrom<WireRevocation> for Revocation {
    type Error = InvalidValue;

    fn try_from(wire: WireRevocation) -> Result<Self, InvalidValue> {
        let revoked = match wire.revoked {
            WireRevoked::Token { issuer, id } => Revoked::Token { issuer: Issuer::parse(&issuer)?, id: id.into() },
            WireRevoked::Certificate(thumbprint) => Revoked::Certificate(CertThumbprint::parse(&thumbprint)?),
            WireRevoked::PodUid(uid) => Revoked::Pod(uid.into()),
            WireRevoked::SpiffeId(id) => Revoked::SpiffeId(SpiffeId::parse(&id)?),
            WireRevoked::Client { issuer, id } => Revoked::Client { issuer: Issuer::parse(&issuer)?, id: id.into() },
        };
        Self::new(revoked, wire.issued_before.map(UnixTime::from_secs), UnixTime::from_secs(wire.expires))
    }
}

impl From<Revocation> for WireRevocation {
    fn from(revocation: Revocation) -> Self {
        let revoked = match revocation.revoked {
            Revoked::Token { issuer, id } => WireRevoked::Token { issuer: issuer.to_string(), id: String::from(&*id) },
            Revoked::Certificate(thumbprint) => WireRevoked::Certificate(thumbprint.to_string()),
            Revoked::Pod(uid) => WireRevoked::PodUid(String::from(&*uid)),
            Revoked::SpiffeId(id) => WireRevoked::SpiffeId(id.to_string()),
            Revoked::Client { issuer, id } => {
                WireRevoked::Client { issuer: issuer.to_string(), id: String::from(&*id) }
            }
        };
        let issued_before = revocation.issued_before.map(UnixTime::as_secs);
        Self { revoked, issued_before, expires: revocation.expires.as_secs() }
    }
}
