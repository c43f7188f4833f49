//! Revocation (RFC 7009): a client gives up a token that it was issued.

use fapi::{IssuedToken, Issuer, SpiffeId};
use http::HeaderMap;

use super::MeshAuthorizationServer;
use super::client::authenticate;
use super::error::TokenError;
use super::form::Form;
use super::token::Facts;
use crate::caller::Caller;
use crate::revocations::RevocationsError;
use crate::revocations::given_up::GivenUp;

/// Judges a request. A token that is not ours, or has ended, is as good as revoked (RFC 7009 section 2.2).
pub(super) async fn decide(
    server: &MeshAuthorizationServer,
    caller: Option<&Caller>,
    headers: &HeaderMap,
    form: &Form,
    facts: &mut Facts,
) -> Result<(), TokenError> {
    let view = server.view.borrow().clone();
    let client = authenticate(server, &view, caller, headers, form, facts)?;
    let text = form.token.as_deref().ok_or(TokenError::TokenMissing)?;
    facts.told(text);
    let token = server.issued(text);
    if token.as_ref().is_some_and(|token| token.client_id() != client.id.as_str()) {
        return Err(TokenError::TokenOfAnother);
    }
    client.spend(server).await?;
    match token {
        Some(token) => revoke(server, &client.id, &token).await,
        None => Ok(()),
    }
}

/// Returns when it is on disk, in force at this issuer and on its way to the sidecars.
async fn revoke(server: &MeshAuthorizationServer, client: &SpiffeId, token: &IssuedToken) -> Result<(), TokenError> {
    let issuer = Issuer::parse(&server.names.issuer).map_err(|_| TokenError::Storing)?;
    let given_up = GivenUp::new(&issuer, client, token).ok_or(TokenError::Storing)?;
    let revocations = server.revocations.clone();
    if revocations.has_given_up(&given_up, token) {
        return Ok(());
    }
    match tokio::task::spawn_blocking(move || revocations.give_up(given_up)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(RevocationsError::Full)) => Err(TokenError::StoreFull),
        Ok(Err(RevocationsError::TooMany)) => Err(TokenError::TooMany(1)),
        Ok(Err(error)) => {
            tracing::error!(event = "revocation", %error, "a token cannot be revoked");
            Err(TokenError::Storing)
        }
        Err(_) => Err(TokenError::Storing),
    }
}

/// Every decision is one line of the log.
pub(super) fn log(facts: &Facts, outcome: &Result<(), TokenError>) {
    let (client_id, token) = (facts.client_id(), facts.token());
    match outcome {
        Ok(()) => tracing::info!(event = "revocation", outcome = "done", reason = "", client_id, token),
        Err(error) => {
            let (reason, code) = (error.id(), error.wire().code);
            tracing::info!(event = "revocation", outcome = "refused", reason, error = code, client_id, token);
        }
    }
}
