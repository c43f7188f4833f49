//! One token request, from its parameters to a signed token. The order of the checks is the order of this file.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fapi::{
    Audience, AuthorizationDetails, CertThumbprint, Grant, JwkThumbprint, MAX_TOKEN_BYTES, ScopeSet, SenderConstraint,
    SpiffeId, TokenHash, UnixTime, check_token_endpoint_proof,
};
use http::{HeaderMap, Method};
use serde::Serialize;

use super::MeshAuthorizationServer;
use super::client::{Client, authenticate};
use super::error::TokenError;
use super::exchange::{Actor, Subject, TOKEN_EXCHANGE};
use super::form::Form;
use super::grant::{self, Asked};
use crate::caller::Caller;
use crate::crypto;
use crate::view::View;

/// A token that may be handed out.
pub(super) struct Issued {
    pub(super) token: String,
    pub(super) token_type: &'static str,
    pub(super) expires_in: u64,
    pub(super) scopes: ScopeSet,
    pub(super) details: AuthorizationDetails,
    /// By which grant type (RFC 8693 section 2.2.1).
    pub(super) exchanged: bool,
}

/// What the log says about a request besides its outcome.
pub(super) struct Facts {
    /// Who has proven to ask; what the request says of itself is not logged.
    pub(super) client: Option<SpiffeId>,
    /// The audiences asked for, once they have the form of one.
    audiences: Vec<Audience>,
    /// The token that a request is about, or that it exchanges.
    token: Option<TokenHash>,
}

impl Facts {
    pub(super) fn of(caller: Option<&Caller>) -> Self {
        let client = caller.map(|caller| caller.peer.spiffe_id.clone());
        Self { client, audiences: Vec::new(), token: None }
    }

    /// The request is about this token.
    pub(super) fn told(&mut self, token: &str) {
        self.token = Some(TokenHash::of(token));
    }

    pub(super) fn client_id(&self) -> &str {
        self.client.as_ref().map_or("", SpiffeId::as_str)
    }

    pub(super) fn token(&self) -> String {
        self.token.as_ref().map(ToString::to_string).unwrap_or_default()
    }
}

/// What a token is bound to.
enum Binding {
    Certificate(CertThumbprint),
    Key(JwkThumbprint),
}

/// The claims of RFC 9068 section 2.2, `act` of RFC 8693 section 4.1, `authorization_details` of RFC 9396 section 9.1, and
/// `cnf` of RFC 8705 section 3.1 or RFC 9449 section 6.1.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Actor<'a>>,
    client_id: &'a str,
    aud: Aud<'a>,
    iat: u64,
    exp: u64,
    jti: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    scope: String,
    #[serde(skip_serializing_if = "AuthorizationDetails::is_empty")]
    authorization_details: &'a AuthorizationDetails,
    cnf: Confirmation,
}

/// One audience is a text (RFC 7519 section 4.1.3).
#[derive(Serialize)]
#[serde(untagged)]
enum Aud<'a> {
    One(&'a str),
    Several(Vec<&'a str>),
}

#[derive(Serialize)]
enum Confirmation {
    #[serde(rename = "x5t#S256")]
    Certificate(String),
    #[serde(rename = "jkt")]
    Key(String),
}

/// Judges a request; `facts` is for the log, whatever the outcome.
pub(super) async fn decide(
    server: &MeshAuthorizationServer,
    caller: Option<&Caller>,
    headers: &HeaderMap,
    form: &Form,
    facts: &mut Facts,
) -> Result<Issued, TokenError> {
    let view = server.view.borrow().clone();
    let client = authenticate(server, &view, caller, headers, form, facts)?;
    let subject = match form.grant_type.as_deref() {
        None => return Err(TokenError::GrantTypeMissing),
        Some("client_credentials") => None,
        Some(TOKEN_EXCHANGE) => Some(Subject::read(server, &view, &client, form, facts)?),
        Some(_) => return Err(TokenError::GrantTypeUnsupported),
    };
    let audiences = audiences(form)?;
    facts.audiences.clone_from(&audiences);
    let constraint = if headers.contains_key(DPOP) { SenderConstraint::Dpop } else { SenderConstraint::Mtls };
    let asked = asked(form)?;
    let actors = subject.as_ref().map_or(0, Subject::actors);
    let given = grant(&view, &audiences, &client, actors, constraint, &asked)?;
    let grant = subject.as_ref().map_or(Ok(given.clone()), |subject| subject.narrow(&given, &asked))?;
    // Last, because a proof and an assertion count once: they are spent only on a request that is otherwise good.
    let binding = bind(server, &client, constraint, headers)?;
    client.spend(server).await?;
    sign(server, &view, &client, &audiences, subject.as_ref(), grant, binding)
}

/// The audiences that are asked for (RFC 8707 section 2), each once.
fn audiences(form: &Form) -> Result<Vec<Audience>, TokenError> {
    let mut audiences = Vec::new();
    for resource in &form.resources {
        let audience = Audience::parse(resource).map_err(|_| TokenError::ResourceMalformed)?;
        if !audiences.contains(&audience) {
            audiences.push(audience);
        }
    }
    match audiences.len() {
        0 => Err(TokenError::ResourceMissing),
        1..=MAX_AUDIENCES => Ok(audiences),
        _ => Err(TokenError::ResourceMalformed),
    }
}

/// What each of the audiences gives: what one of them gives would count at the others too.
fn grant(
    view: &View,
    audiences: &[Audience],
    client: &Client<'_>,
    actors: u8,
    constraint: SenderConstraint,
    asked: &Asked,
) -> Result<Grant, TokenError> {
    let mut common: Option<Grant> = None;
    for audience in audiences {
        let policies = view.audience_policies(audience).ok_or(TokenError::AudienceUnknown)?;
        let given = grant::grant(&policies, &client.id, actors, constraint, asked)?;
        common = Some(common.map_or_else(|| given.clone(), |common| common.intersection(&given)));
    }
    common.ok_or(TokenError::ResourceMissing)
}

fn asked(form: &Form) -> Result<Asked, TokenError> {
    let scopes = form.scope.as_deref().map(ScopeSet::parse).transpose().map_err(|_| TokenError::ScopeMalformed)?;
    let details = form.authorization_details.as_deref().map(AuthorizationDetails::parse).transpose();
    Ok(Asked { scopes, details: details.map_err(|_| TokenError::DetailsMalformed)? })
}

fn bind(
    server: &MeshAuthorizationServer,
    client: &Client<'_>,
    constraint: SenderConstraint,
    headers: &HeaderMap,
) -> Result<Binding, TokenError> {
    match constraint {
        SenderConstraint::Mtls => {
            let peer = client.peer.ok_or(TokenError::NothingToBind)?;
            Ok(Binding::Certificate(peer.thumbprint))
        }
        SenderConstraint::Dpop => check_token_endpoint_proof(
            headers,
            &Method::POST,
            &server.names.token_endpoint,
            &server.nonces,
            &server.replay,
            &client.id,
            server.clock.now(),
        )
        .map(Binding::Key)
        .map_err(TokenError::Proof),
    }
}

fn sign(
    server: &MeshAuthorizationServer,
    view: &View,
    client: &Client<'_>,
    audiences: &[Audience],
    subject: Option<&Subject>,
    grant: Grant,
    binding: Binding,
) -> Result<Issued, TokenError> {
    let now = server.clock.now();
    let Grant { scopes, details, max_token_age } = grant;
    let longest = view.lifetimes().token;
    let life = max_token_age.map_or(longest.as_secs(), |age| age.min(longest.as_secs()));
    let ends = [client.peer.map(|peer| peer.not_after), subject.map(|subject| subject.token().expires())];
    let exp = ends.into_iter().flatten().fold(now.plus(life), UnixTime::min);
    let expires_in = exp.as_secs().saturating_sub(now.as_secs());
    let (token_type, cnf) = match binding {
        Binding::Certificate(thumbprint) => ("Bearer", Confirmation::Certificate(thumbprint.to_string())),
        Binding::Key(thumbprint) => ("DPoP", Confirmation::Key(thumbprint.to_string())),
    };
    let id = client.id.as_str();
    let claims = Claims {
        iss: &server.names.issuer,
        sub: subject.map_or(id, |subject| subject.token().subject()),
        act: subject.map(|subject| subject.actor(client)),
        client_id: id,
        aud: match audiences {
            [one] => Aud::One(one.as_str()),
            several => Aud::Several(several.iter().map(Audience::as_str).collect()),
        },
        iat: now.as_secs(),
        exp: exp.as_secs(),
        jti: URL_SAFE_NO_PAD.encode(crypto::random::<16>()),
        scope: scopes.to_string(),
        authorization_details: &details,
        cnf,
    };
    let token = server.kept.keys.sign(&claims, longest).map_err(|error| {
        tracing::error!(event = "keys", %error, "cannot sign an access token");
        TokenError::Signing
    })?;
    // No sidecar would take it.
    if token.len() > MAX_TOKEN_BYTES || details.len() > AuthorizationDetails::MOST_GIVEN {
        return Err(TokenError::TokenTooLarge);
    }
    Ok(Issued { token, token_type, expires_in, scopes, details, exchanged: subject.is_some() })
}

/// Every decision, good or bad, is one line of the log; never a token or a proof.
pub(super) fn log(facts: &Facts, outcome: &Result<Issued, TokenError>) {
    let (client_id, subject_token) = (facts.client_id(), facts.token());
    let audience = facts.audiences.iter().map(Audience::as_str).collect::<Vec<_>>().join(" ");
    match outcome {
        Ok(issued) => {
            let (token, scope) = (TokenHash::of(&issued.token), &issued.scopes);
            let (token_type, expires_in) = (issued.token_type, issued.expires_in);
            tracing::info!(
                event = "token", outcome = "issued", reason = "", client_id, audience, %scope, token_type, expires_in, %token,
                subject_token
            );
        }
        Err(error) => {
            let (reason, code) = (error.id(), error.wire().code);
            tracing::info!(
                event = "token",
                outcome = "refused",
                reason,
                error = code,
                client_id,
                audience,
                subject_token
            );
        }
    }
}

/// Whether the request came with a proof, which the answer then gives a fresh nonce to.
pub(super) fn has_proof(headers: &HeaderMap) -> bool {
    headers.contains_key(DPOP)
}

const DPOP: &str = "dpop";
/// Verifiers read at most 16.
const MAX_AUDIENCES: usize = 8;
