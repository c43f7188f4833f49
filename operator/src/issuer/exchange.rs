//! Token exchange (RFC 8693): a workload that was called hands the call on, with a token that names all who did.
//!
//! The subject token is one that this issuer gave to the caller, for a Service that the client answers for. What comes of it
//! is for the next Service, bound to the client like any other token, allows no more and lives no longer, keeps the `sub`,
//! and names the client as the current actor before those of the subject token (section 4.1).

use fapi::{Grant, IssuedToken};
use serde::Serialize;
use serde_json::Value;

use super::MeshAuthorizationServer;
use super::client::Client;
use super::error::TokenError;
use super::form::Form;
use super::grant::Asked;
use super::token::Facts;
use crate::view::View;

/// The grant type (RFC 8693 section 2.1).
pub(super) const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// The one type of token that is taken and given (RFC 8693 section 3).
pub(super) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The most actors that a token names, the one that it is given to among them.
pub(crate) const LONGEST_CHAIN: u8 = 4;

/// Why a subject token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SubjectFault {
    /// Not signed by this issuer, or no access token.
    #[error("it is no access token of this issuer")]
    Unknown,
    /// For others than the client.
    #[error("it is not for a service that this client answers for")]
    Audience,
    /// Nobody was proven to have sent it.
    #[error("it is not bound to its sender")]
    Unbound,
    /// It has ended.
    #[error("it has expired")]
    Expired,
    /// By itself, or with anybody whom it names.
    #[error("it is revoked, or someone that it names is")]
    Revoked,
    /// One actor more would be too many.
    #[error("the call was handed on by {LONGEST_CHAIN} parties already")]
    ChainTooLong,
}

impl SubjectFault {
    /// The stable reason id for the log.
    pub(super) fn id(self) -> &'static str {
        match self {
            Self::Unknown => "subject_token_unknown",
            Self::Audience => "subject_token_audience",
            Self::Unbound => "subject_token_unbound",
            Self::Expired => "subject_token_expired",
            Self::Revoked => "subject_token_revoked",
            Self::ChainTooLong => "chain_too_long",
        }
    }
}

/// An actor, with those before it inside (RFC 8693 section 4.1).
#[derive(Serialize)]
pub(super) struct Actor<'a> {
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<&'a Value>,
}

/// A token that its receiver may exchange.
pub(super) struct Subject(IssuedToken);

impl Subject {
    /// The subject token of a request. Whoever it is not for learns nothing else about it.
    pub(super) fn read(
        server: &MeshAuthorizationServer,
        view: &View,
        client: &Client<'_>,
        form: &Form,
        facts: &mut Facts,
    ) -> Result<Self, TokenError> {
        let text = check_form(form)?;
        facts.told(text);
        let token = server.issued(text).ok_or(SubjectFault::Unknown)?;
        if !token.audiences().any(|audience| view.answers_for(audience, &client.id)) {
            return Err(match view.index().is_called(&client.id) {
                true => SubjectFault::Audience.into(),
                false => TokenError::NeverCalled,
            });
        }
        let now = server.clock.now();
        if !token.is_bound() {
            Err(SubjectFault::Unbound.into())
        } else if token.expires() <= now {
            Err(SubjectFault::Expired.into())
        } else if server.revocations.in_force().set.hit_token(&token, now) {
            Err(SubjectFault::Revoked.into())
        } else if token.actors() >= LONGEST_CHAIN {
            Err(SubjectFault::ChainTooLong.into())
        } else {
            Ok(Self(token))
        }
    }

    /// How many actors the new token names.
    pub(super) fn actors(&self) -> u8 {
        self.0.actors().saturating_add(1)
    }

    /// What of a grant is left: nothing that the subject token does not allow itself.
    pub(super) fn narrow(&self, given: &Grant, asked: &Asked) -> Result<Grant, TokenError> {
        let delegable = self.0.grant();
        if let Some(scopes) = &asked.scopes
            && !delegable.scopes.is_superset(scopes)
        {
            return Err(TokenError::ScopeNotDelegated(scopes.difference(&delegable.scopes)));
        }
        if let Some(details) = &asked.details
            && !delegable.details.covers(details)
        {
            return Err(TokenError::DetailsNotDelegated);
        }
        Ok(given.intersection(&delegable))
    }

    /// The token itself.
    pub(super) fn token(&self) -> &IssuedToken {
        &self.0
    }

    /// The `act` of the new token.
    pub(super) fn actor<'a>(&'a self, client: &'a Client<'_>) -> Actor<'a> {
        Actor { sub: client.id.as_str(), act: self.0.claims().get("act") }
    }
}

/// The parameters of RFC 8693 section 2.1; gives the text of the subject token.
fn check_form(form: &Form) -> Result<&str, TokenError> {
    if form.audience {
        return Err(TokenError::AudienceParameter);
    }
    // Whoever else is named as actor: the certificate or the assertion says who acts.
    if form.actor {
        return Err(TokenError::ActorToken);
    }
    let (Some(token), Some(kind)) = (form.subject_token.as_deref(), form.subject_token_type.as_deref()) else {
        return Err(TokenError::SubjectTokenMissing);
    };
    let requested = form.requested_token_type.as_deref().unwrap_or(ACCESS_TOKEN);
    if kind == ACCESS_TOKEN && requested == ACCESS_TOKEN { Ok(token) } else { Err(TokenError::TokenType) }
}
