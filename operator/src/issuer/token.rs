//! One token request, from its parameters to a signed token. The order of the checks is the order of this file.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fapi::{
    Audience, AuthorizationDetails, CertThumbprint, Grant, JwkThumbprint, MAX_TOKEN_BYTES, Peer, ScopeSet,
    SenderConstraint, SpiffeId, TokenHash, check_token_endpoint_proof,
};
use http::{HeaderMap, Method, header};
use serde::Serialize;

use super::MeshAuthorizationServer;
use super::error::TokenError;
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
}

/// What the log says about a request besides its outcome.
pub(super) struct Facts {
    /// Whom the certificate names; what the request says of itself is not logged.
    pub(super) client: Option<SpiffeId>,
    /// The audience asked for, once it has the form of one.
    audience: Option<Audience>,
}

impl Facts {
    pub(super) fn of(caller: Option<&Caller>) -> Self {
        Self { client: caller.map(|caller| caller.peer.spiffe_id.clone()), audience: None }
    }
}

/// What a token is bound to.
enum Binding {
    Certificate(CertThumbprint),
    Key(JwkThumbprint),
}

/// The claims of RFC 9068 section 2.2, `authorization_details` of RFC 9396 section 9.1, and `cnf` of RFC 8705 section 3.1 or RFC 9449 section 6.1.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    client_id: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
    jti: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    scope: String,
    #[serde(skip_serializing_if = "AuthorizationDetails::is_empty")]
    authorization_details: &'a AuthorizationDetails,
    cnf: Confirmation,
}

#[derive(Serialize)]
enum Confirmation {
    #[serde(rename = "x5t#S256")]
    Certificate(String),
    #[serde(rename = "jkt")]
    Key(String),
}

/// Judges a request; `facts` is for the log, whatever the outcome.
pub(super) fn decide(
    server: &MeshAuthorizationServer,
    caller: Option<&Caller>,
    headers: &HeaderMap,
    form: &Form,
    facts: &mut Facts,
) -> Result<Issued, TokenError> {
    let view = server.view.borrow().clone();
    let peer = authenticate(server, &view, caller, headers, form)?;
    check_grant_type(form)?;
    let audience = audience(form)?;
    facts.audience = Some(audience.clone());
    let policies = view.audience_policies(&audience).ok_or(TokenError::AudienceUnknown)?;
    let constraint = if headers.contains_key(DPOP) { SenderConstraint::Dpop } else { SenderConstraint::Mtls };
    let grant = grant::grant(&policies, &peer.spiffe_id, constraint, asked(form)?)?;
    // Last, because a proof counts once: it is spent only on a request that is otherwise good.
    let binding = bind(server, peer, constraint, headers)?;
    sign(server, &view, peer, &audience, grant, binding)
}

/// `tls_client_auth` (RFC 8705 section 2.1): the certificate is current, of a pod that lives, and of the client
/// that the request names; nothing of it is revoked.
fn authenticate<'a>(
    server: &MeshAuthorizationServer,
    view: &View,
    caller: Option<&'a Caller>,
    headers: &HeaderMap,
    form: &Form,
) -> Result<&'a Peer, TokenError> {
    if !view.synced() {
        return Err(TokenError::NotReady);
    }
    if let Some(credentials) = headers.get(header::AUTHORIZATION) {
        return Err(TokenError::OtherAuthentication { scheme: scheme(credentials.as_bytes()) });
    }
    if form.authenticates {
        return Err(TokenError::OtherAuthentication { scheme: None });
    }
    let caller = caller.ok_or(TokenError::CertificateMissing)?;
    let peer = &caller.peer;
    let client_id = form.client_id.as_deref().ok_or(TokenError::ClientIdMissing)?;
    if client_id != peer.spiffe_id.as_str() {
        return Err(TokenError::ClientIdMismatch);
    }
    if peer.not_after <= server.clock.now() {
        return Err(TokenError::CertificateEnded);
    }
    caller.pod(view).ok_or(TokenError::PodUnknown)?;
    check_revoked(server, peer)?;
    Ok(peer)
}

fn check_revoked(server: &MeshAuthorizationServer, peer: &Peer) -> Result<(), TokenError> {
    let (revocations, now) = (server.revocations.in_force(), server.clock.now());
    let client = revocations.set.hit_client(&server.names.issuer, peer.spiffe_id.as_str(), now, now);
    if client || revocations.shuts_out(peer, now).is_some() { Err(TokenError::Revoked) } else { Ok(()) }
}

fn check_grant_type(form: &Form) -> Result<(), TokenError> {
    match form.grant_type.as_deref() {
        None => Err(TokenError::GrantTypeMissing),
        Some("client_credentials") => Ok(()),
        Some(_) => Err(TokenError::GrantTypeUnsupported),
    }
}

/// The one audience that is asked for (RFC 8707 section 2); a token for several could be passed on between them.
fn audience(form: &Form) -> Result<Audience, TokenError> {
    match form.resources.as_slice() {
        [] => Err(TokenError::ResourceMissing),
        [resource] => Audience::parse(resource).map_err(|_| TokenError::ResourceMalformed),
        [_, _, ..] => Err(TokenError::ResourceMalformed),
    }
}

fn asked(form: &Form) -> Result<Asked, TokenError> {
    let scopes = form.scope.as_deref().map(ScopeSet::parse).transpose().map_err(|_| TokenError::ScopeMalformed)?;
    let details = form.authorization_details.as_deref().map(AuthorizationDetails::parse).transpose();
    Ok(Asked { scopes, details: details.map_err(|_| TokenError::DetailsMalformed)? })
}

fn bind(
    server: &MeshAuthorizationServer,
    peer: &Peer,
    constraint: SenderConstraint,
    headers: &HeaderMap,
) -> Result<Binding, TokenError> {
    match constraint {
        SenderConstraint::Mtls => Ok(Binding::Certificate(peer.thumbprint)),
        SenderConstraint::Dpop => check_token_endpoint_proof(
            headers,
            &Method::POST,
            &server.names.token_endpoint,
            &server.nonces,
            &server.replay,
            &peer.spiffe_id,
            server.clock.now(),
        )
        .map(Binding::Key)
        .map_err(TokenError::Proof),
    }
}

fn sign(
    server: &MeshAuthorizationServer,
    view: &View,
    peer: &Peer,
    audience: &Audience,
    grant: Grant,
    binding: Binding,
) -> Result<Issued, TokenError> {
    let now = server.clock.now();
    let Grant { scopes, details, max_token_age } = grant;
    let longest = view.lifetimes().token;
    let life = max_token_age.map_or(longest.as_secs(), |age| age.min(longest.as_secs()));
    let exp = now.plus(life).min(peer.not_after);
    let expires_in = exp.as_secs().saturating_sub(now.as_secs());
    let (token_type, cnf) = match binding {
        Binding::Certificate(thumbprint) => ("Bearer", Confirmation::Certificate(thumbprint.to_string())),
        Binding::Key(thumbprint) => ("DPoP", Confirmation::Key(thumbprint.to_string())),
    };
    let id = peer.spiffe_id.as_str();
    let claims = Claims {
        iss: &server.names.issuer,
        sub: id,
        client_id: id,
        aud: audience.as_str(),
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
    Ok(Issued { token, token_type, expires_in, scopes, details })
}

/// The scheme of an Authorization header, if it is one that may be repeated to the caller.
fn scheme(credentials: &[u8]) -> Option<String> {
    let scheme = credentials.split(|byte| *byte == b' ').next().unwrap_or_default();
    let good = (1..=32).contains(&scheme.len()) && scheme.iter().all(u8::is_ascii_alphanumeric);
    let scheme = if good { scheme } else { b"Bearer" };
    String::from_utf8(scheme.to_vec()).ok()
}

/// Every decision, good or bad, is one line of the log; never a token or a proof.
pub(super) fn log(facts: &Facts, outcome: &Result<Issued, TokenError>) {
    let client_id = facts.client.as_ref().map_or("", SpiffeId::as_str);
    let audience = facts.audience.as_ref().map_or("", Audience::as_str);
    match outcome {
        Ok(issued) => {
            let (token, scope) = (TokenHash::of(&issued.token), &issued.scopes);
            let (token_type, expires_in) = (issued.token_type, issued.expires_in);
            tracing::info!(
                event = "token", outcome = "issued", reason = "", client_id, audience, %scope, token_type, expires_in, %token
            );
        }
        Err(error) => {
            let (reason, code) = (error.id(), error.wire().code);
            tracing::info!(event = "token", outcome = "refused", reason, error = code, client_id, audience);
        }
    }
}

/// Whether the request came with a proof, which the answer then gives a fresh nonce to.
pub(super) fn has_proof(headers: &HeaderMap) -> bool {
    headers.contains_key(DPOP)
}

const DPOP: &str = "dpop";
