//! Who asks: client authentication by certificate or by assertion, the same at every endpoint.

use fapi::{CLIENT_ASSERTION_TYPE, ClientAssertion, Peer, SpiffeId, VerifiedAssertion};
use http::{HeaderMap, header};

use super::MeshAuthorizationServer;
use super::error::TokenError;
use super::form::Form;
use super::token::Facts;
use crate::caller::Caller;
use crate::client_keys::Standing;
use crate::view::View;

/// A client that has proven who it is.
pub(super) struct Client<'a> {
    pub(super) id: SpiffeId,
    /// The certificate of the connection, if there is one; it is the client's own.
    pub(super) peer: Option<&'a Peer>,
    assertion: Option<VerifiedAssertion>,
}

/// Authenticates the client of a request by exactly one method (RFC 6749 section 2.3), and counts the request against what it
/// may send.
pub(super) fn authenticate<'a>(
    server: &MeshAuthorizationServer,
    view: &View,
    caller: Option<&'a Caller>,
    headers: &HeaderMap,
    form: &Form,
    facts: &mut Facts,
) -> Result<Client<'a>, TokenError> {
    if !view.synced() {
        return Err(TokenError::NotReady);
    }
    if let Some(credentials) = headers.get(header::AUTHORIZATION) {
        return Err(TokenError::OtherAuthentication { scheme: scheme(credentials.as_bytes()) });
    }
    if form.secret {
        return Err(TokenError::OtherAuthentication { scheme: None });
    }
    let client = match (form.assertion_type.as_deref(), form.assertion.as_deref()) {
        (None, None) => by_certificate(server, view, caller, form)?,
        (Some(CLIENT_ASSERTION_TYPE), Some(assertion)) => by_assertion(server, view, caller, form, assertion)?,
        _ => return Err(TokenError::AssertionType),
    };
    facts.client = Some(client.id.clone());
    check_revoked(server, &client.id)?;
    if !client.is_counted() {
        // Only now, or anyone could use up what another may send.
        server.limits.take(client.name(), server.clock.now()).map_err(TokenError::TooMany)?;
    }
    Ok(client)
}

/// `tls_client_auth` (RFC 8705 section 2.1): the certificate is current, of a pod that lives, and of the client
/// that the request names.
fn by_certificate<'a>(
    server: &MeshAuthorizationServer,
    view: &View,
    caller: Option<&'a Caller>,
    form: &Form,
) -> Result<Client<'a>, TokenError> {
    let caller = caller.ok_or(TokenError::CertificateMissing)?;
    let client_id = form.client_id.as_deref().ok_or(TokenError::ClientIdMissing)?;
    let peer = own_certificate(server, view, caller, client_id)?;
    Ok(Client { id: peer.spiffe_id.clone(), peer: Some(peer), assertion: None })
}

/// `private_key_jwt` (RFC 7523, FAPI 2.0 SP 5.3.2.1): a key has signed that a FapiClient of the service account names, or that
/// one of its sidecars has made. A certificate beside it must be the client's own (RFC 8705 section 4).
fn by_assertion<'a>(
    server: &MeshAuthorizationServer,
    view: &View,
    caller: Option<&'a Caller>,
    form: &Form,
    assertion: &str,
) -> Result<Client<'a>, TokenError> {
    let assertion = ClientAssertion::parse(assertion).map_err(TokenError::Assertion)?;
    if form.client_id.as_deref().is_some_and(|named| named != assertion.client()) {
        return Err(TokenError::ClientIdNotAsserted);
    }
    let id = SpiffeId::parse(assertion.client()).map_err(|_| TokenError::ClientUnknown)?;
    let (revocations, now) = (server.revocations.in_force(), server.clock.now());
    // The name in an assertion is the client's, so only here is it seen which of its pods has signed.
    let of_sidecars = server.client_keys.of(Standing { view, revoked: &revocations.set, now }, &id);
    let keys = [view.client_keys(&id), &of_sidecars].concat();
    if keys.is_empty() {
        return Err(TokenError::ClientUnknown);
    }
    let peer = caller.map(|caller| own_certificate(server, view, caller, id.as_str())).transpose()?;
    if let Some(peer) = peer {
        // It can use up only what its own pod may send, so it does before its signature costs anything.
        server.limits.take(name(&id, Some(peer)), now).map_err(TokenError::TooMany)?;
    }
    let verified = assertion.verify(&server.names.issuer, &keys, now).map_err(TokenError::Assertion)?;
    Ok(Client { id, peer, assertion: Some(verified) })
}

fn own_certificate<'a>(
    server: &MeshAuthorizationServer,
    view: &View,
    caller: &'a Caller,
    client_id: &str,
) -> Result<&'a Peer, TokenError> {
    let peer = &caller.peer;
    if client_id != peer.spiffe_id.as_str() {
        return Err(TokenError::ClientIdMismatch);
    }
    if peer.not_after <= server.clock.now() {
        return Err(TokenError::CertificateEnded);
    }
    caller.pod(view).ok_or(TokenError::PodUnknown)?;
    match server.revocations.in_force().shuts_out(peer, server.clock.now()) {
        Some(_) => Err(TokenError::Revoked),
        None => Ok(peer),
    }
}

/// A client that is revoked gets nothing, however it proves who it is.
fn check_revoked(server: &MeshAuthorizationServer, id: &SpiffeId) -> Result<(), TokenError> {
    let (revocations, now) = (server.revocations.in_force(), server.clock.now());
    let client = revocations.set.hit_client(&server.names.issuer, id.as_str(), now, now);
    if client || revocations.set.hit_workload(id, None, now, now) { Err(TokenError::Revoked) } else { Ok(()) }
}

impl Client<'_> {
    /// Counts the assertion, which is good once, also after a restart. Like a proof it is spent only on a request that is
    /// otherwise good.
    pub(super) async fn spend(&self, server: &MeshAuthorizationServer) -> Result<(), TokenError> {
        let Some(assertion) = &self.assertion else { return Ok(()) };
        let (id, until, now) = (assertion.id(), assertion.until(), server.clock.now());
        match server.kept.assertions.remember(self.id.as_str(), id, until, now).await? {
            true => Ok(()),
            false => Err(TokenError::AssertionReplayed),
        }
    }

    fn name(&self) -> &str {
        name(&self.id, self.peer)
    }

    /// Whether the request was counted before it was known to be the client's: its connection was.
    fn is_counted(&self) -> bool {
        self.assertion.is_some() && self.peer.is_some()
    }
}

/// Whose requests are counted together: those of a pod, or else of a client.
fn name<'a>(id: &'a SpiffeId, peer: Option<&'a Peer>) -> &'a str {
    peer.and_then(|peer| peer.pod_uid.as_deref()).unwrap_or(id.as_str())
}

/// The scheme of an Authorization header, if it is one that may be repeated to the caller.
fn scheme(credentials: &[u8]) -> Option<String> {
    let scheme = credentials.split(|byte| *byte == b' ').next().unwrap_or_default();
    let good = (1..=32).contains(&scheme.len()) && scheme.iter().all(u8::is_ascii_alphanumeric);
    let scheme = if good { scheme } else { b"Bearer" };
    String::from_utf8(scheme.to_vec()).ok()
}
