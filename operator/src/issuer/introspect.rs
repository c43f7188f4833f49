//! Introspection (RFC 7662), plain or signed (RFC 9701): what a token says, told to those whom it concerns.

use std::time::Duration;

use fapi::{IssuedToken, SpiffeId};
use http::{HeaderMap, header};
use serde_json::{Map, Value, json};

use super::MeshAuthorizationServer;
use super::client::authenticate;
use super::error::TokenError;
use super::form::Form;
use super::token::Facts;
use crate::caller::Caller;
use crate::view::View;

/// The media type of a signed answer, and without `application/` its `typ` (RFC 9701 section 5).
pub(super) const SIGNED: &str = "application/token-introspection+jwt";
const TYP: &str = "token-introspection+jwt";

/// The answer to one question.
pub(super) struct Told {
    /// Who asked, and is the audience of a signed answer.
    client: SpiffeId,
    /// The token, or why nothing is told about it; the reason is for the log alone.
    token: Result<IssuedToken, &'static str>,
}

/// Judges a request. Whoever is neither the token's client nor a pod of the Service that it is for learns nothing, not even
/// whether the token exists (RFC 7662 section 2.2, FAPI 2.0 Message Signing section 6.2).
pub(super) async fn decide(
    server: &MeshAuthorizationServer,
    caller: Option<&Caller>,
    headers: &HeaderMap,
    form: &Form,
    facts: &mut Facts,
) -> Result<Told, TokenError> {
    let view = server.view.borrow().clone();
    let client = authenticate(server, &view, caller, headers, form, facts)?;
    let text = form.token.as_deref().ok_or(TokenError::TokenMissing)?;
    facts.told(text);
    client.spend(server).await?;
    let now = server.clock.now();
    let token = server.issued(text).ok_or("token_unknown").and_then(|token| {
        if !concerns(&view, &token, &client.id) {
            Err("token_of_another")
        } else if token.expires() <= now {
            Err("token_expired")
        } else if server.revocations.in_force().set.hit_token(&token, now) {
            Err("revoked")
        } else {
            Ok(token)
        }
    });
    Ok(Told { client: client.id, token })
}

fn concerns(view: &View, token: &IssuedToken, client: &SpiffeId) -> bool {
    token.client_id() == client.as_str() || token.audiences().any(|audience| view.answers_for(audience, client))
}

/// Whether the caller wants the answer signed (RFC 9701 section 4).
pub(super) fn wants_signed(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let named = parts.next().is_some_and(|media_type| media_type.eq_ignore_ascii_case(SIGNED));
        named && !parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

impl Told {
    /// The members of an answer (RFC 7662 section 2.2).
    pub(super) fn body(&self) -> Value {
        let Ok(token) = &self.token else { return json!({"active": false}) };
        let mut members = Map::from_iter([("active".to_owned(), true.into())]);
        members.extend(token.claims().clone());
        let token_type = if token.has_proof_key() { "DPoP" } else { "Bearer" };
        members.insert("token_type".to_owned(), token_type.into());
        Value::Object(members)
    }

    /// The answer as a JWT for the one who asked; without `sub` and `exp`, so that it cannot pass for a token.
    pub(super) fn signed(&self, server: &MeshAuthorizationServer) -> Result<String, TokenError> {
        let claims = json!({
            "iss": server.names.issuer,
            "aud": self.client.as_str(),
            "iat": server.clock.now().as_secs(),
            "token_introspection": self.body(),
        });
        // It is read at once, so the key need not be known any longer than for clocks that differ.
        server.kept.keys.sign_as(TYP, &claims, Duration::ZERO).map_err(|error| {
            tracing::error!(event = "keys", %error, "cannot sign an introspection answer");
            TokenError::Signing
        })
    }
}

/// Every decision is one line of the log.
pub(super) fn log(facts: &Facts, outcome: Result<&Told, &TokenError>) {
    let (client_id, token) = (facts.client_id(), facts.token());
    match outcome {
        Ok(Told { token: Ok(_), .. }) => {
            tracing::info!(event = "introspection", outcome = "active", reason = "", client_id, token);
        }
        Ok(Told { token: Err(reason), .. }) => {
            tracing::info!(event = "introspection", outcome = "inactive", reason, client_id, token);
        }
        Err(error) => {
            let (reason, code) = (error.id(), error.wire().code);
            tracing::info!(event = "introspection", outcome = "refused", reason, error = code, client_id, token);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_signed_answer_is_asked_for_by_name() {
        for (accept, signed) in [
            ("application/token-introspection+jwt", true),
            ("application/json, Application/Token-Introspection+JWT;q=0.5", true),
            ("application/token-introspection+jwt; q=0", false),
            ("application/json", false),
            ("*/*", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(wants_signed(&headers), signed, "{accept}");
        }
        assert!(!wants_signed(&HeaderMap::new()));
    }
}
