use std::sync::Arc;

use serde_json::Value;

use crate::{
    json::{Members, NotStrict, View},
    policy::{ClientIdClaim, External, TokenTyp, is_identity},
    value::{AuthorizationDetails, CertThumbprint, JwkThumbprint, ScopeSet, UnixTime},
};

/// The claims of an access token, read strictly (RFC 9068 section 2.2; RFC 7800 for `cnf`, RFC 8693 for `act`,
/// RFC 9396 for `authorization_details`).
#[derive(Debug)]
pub(crate) struct Claims {
    pub(crate) issuer: Box<str>,
    pub(crate) client_id: Arc<str>,
    /// `jti`. That it is unique is the issuer's business.
    pub(crate) token_id: Option<Box<str>>,
    /// The outermost `act.sub`, or else `sub`: who sends the token now (RFC 8693 section 4.1).
    pub(crate) actor: Box<str>,
    /// How many actors are nested in each other: 0 without `act`.
    pub(crate) actors: u8,
    /// Who stands behind the actor: those who handed the call on before, the latest first, and last the `sub`. None without
    /// `act`, and none in a token from outside the mesh, whose names mean nobody here.
    pub(crate) behind: Box<[Arc<str>]>,
    pub(crate) audiences: Vec<Box<str>>,
    pub(crate) scopes: ScopeSet,
    pub(crate) details: AuthorizationDetails,
    pub(crate) issued: UnixTime,
    pub(crate) not_before: Option<UnixTime>,
    pub(crate) expires: UnixTime,
    pub(crate) confirmation: Confirmation,
}

/// What `cnf` says about the sender.
#[derive(Debug, Default)]
pub(crate) struct Confirmation {
    /// `x5t#S256` (RFC 8705 section 3.1).
    pub(crate) certificate: Option<CertThumbprint>,
    /// `jkt` (RFC 9449 section 6.1).
    pub(crate) proof_key: Option<JwkThumbprint>,
    /// There is a member that is not understood.
    pub(crate) unknown: bool,
}

impl Claims {
    /// Reads the claims as the issuer writes them: as RFC 9068 says, or as a policy says of an issuer outside the mesh.
    pub(super) fn parse(payload: View<'_>, external: Option<&External>) -> Result<Self, NotStrict> {
        let token_id = match (payload.text("jti")?, external) {
            // Servers that are older than RFC 9068 may leave it out.
            (None, Some(External { typ: TokenTyp::Jwt, .. })) => None,
            (jti, _) => Some(not_empty(jti.ok_or(NotStrict)?)?),
        };
        let subject = payload.need_text("sub")?;
        Self::read(payload, external, (payload.need_text("iss")?, subject, token_id))
    }

    /// Reads what `issuer` says of a token that only it can read (RFC 7662 section 2.2): `sub` and `jti` may be missing.
    pub(super) fn introspected(payload: View<'_>, issuer: &str, external: &External) -> Result<Self, NotStrict> {
        let subject = payload.text("sub")?.map_or_else(|| client_id(payload, Some(external)), Ok)?;
        let token_id = payload.text("jti")?.map(not_empty).transpose()?;
        Self::read(payload, Some(external), (payload.text("iss")?.unwrap_or(issuer), subject, token_id))
    }

    fn read(
        payload: View<'_>,
        external: Option<&External>,
        (issuer, subject, token_id): (&str, &str, Option<&str>),
    ) -> Result<Self, NotStrict> {
        let subject = not_empty(subject)?;
        let mut chain = payload.value("act").map(actor_chain).transpose()?.unwrap_or_default();
        let actors = u8::try_from(chain.len()).map_err(|_| NotStrict)?;
        chain.push(subject);
        let (actor, behind) = chain.split_first().ok_or(NotStrict)?;
        let behind = behind.iter().filter(|_| external.is_none()).map(|party| Arc::from(*party)).collect();
        let details = payload.value("authorization_details").map(AuthorizationDetails::of_claim).transpose()?;
        let scopes = ScopeSet::parse(payload.text("scope")?.unwrap_or_default()).map_err(|_| NotStrict)?;
        Ok(Self {
            issuer: issuer.into(),
            client_id: client_id(payload, external)?.into(),
            token_id: token_id.map(Box::from),
            actor: (*actor).into(),
            actors,
            behind,
            audiences: audiences(payload.value("aud").ok_or(NotStrict)?)?,
            scopes: external.map_or(scopes.clone(), |external| external.counting(scopes)),
            details: details.unwrap_or_default(),
            issued: UnixTime::from_secs(payload.need_seconds("iat")?),
            not_before: payload.seconds("nbf")?.map(UnixTime::from_secs),
            expires: UnixTime::from_secs(payload.need_seconds("exp")?),
            confirmation: confirmation(payload)?,
        })
    }
}

/// The client, from the claim that its issuer names it in. One that looks like an identity of the mesh is none: it would
/// read like one in headers and logs.
fn client_id<'a>(payload: View<'a>, external: Option<&External>) -> Result<&'a str, NotStrict> {
    let claim = match external.map_or(ClientIdClaim::ClientId, |external| external.client_id_claim) {
        ClientIdClaim::ClientId => "client_id",
        ClientIdClaim::Azp => "azp",
        ClientIdClaim::Sub => "sub",
    };
    let id = not_empty(payload.need_text(claim)?)?;
    if external.is_some() && is_identity(id) { Err(NotStrict) } else { Ok(id) }
}

fn not_empty(text: &str) -> Result<&str, NotStrict> {
    if text.is_empty() { Err(NotStrict) } else { Ok(text) }
}

/// `aud` is a text or a list of texts (RFC 7519 section 4.1.3).
fn audiences(value: &Value) -> Result<Vec<Box<str>>, NotStrict> {
    let texts = match value {
        Value::String(_) => std::slice::from_ref(value),
        Value::Array(list) if (1..=MAX_AUDIENCES).contains(&list.len()) => list,
        _ => return Err(NotStrict),
    };
    texts.iter().map(|text| text.as_str().map(Box::from).ok_or(NotStrict)).collect()
}

/// The `sub` of each actor, the outermost first. Inner actors are history (RFC 8693 section 4.1), yet must be well formed and
/// not too many.
fn actor_chain(act: &Value) -> Result<Vec<&str>, NotStrict> {
    let mut chain = Vec::new();
    let mut next = Some(act);
    while let Some(act) = next {
        if chain.len() == usize::from(MAX_ACTORS) {
            return Err(NotStrict);
        }
        let actor = Members::of(act)?;
        chain.push(not_empty(actor.need_text("sub")?)?);
        next = actor.value("act");
    }
    Ok(chain)
}

fn confirmation(payload: View<'_>) -> Result<Confirmation, NotStrict> {
    let Some(cnf) = payload.value("cnf") else { return Ok(Confirmation::default()) };
    let cnf = Members::of(cnf)?;
    let certificate = cnf.text(X5T)?.map(CertThumbprint::parse).transpose().map_err(|_| NotStrict)?;
    let proof_key = cnf.text(JKT)?.map(JwkThumbprint::parse).transpose().map_err(|_| NotStrict)?;
    let unknown = cnf.names().any(|name| name != X5T && name != JKT);
    Ok(Confirmation { certificate, proof_key, unknown })
}

const X5T: &str = "x5t#S256";
const JKT: &str = "jkt";
const MAX_AUDIENCES: usize = 16;
/// The longest chain of actors that is read.
pub(crate) const MAX_ACTORS: u8 = 8;
