//! One request to a peer and the head of its response: endpoint, token, connection, proof, and the cases in which it may
//! be sent again.

use std::{rc::Rc, sync::Arc, time::Duration};

use fapi::{Rejection, UnixTime};
use http::{HeaderMap, Request, Response, StatusCode, header};
use hyper::{
    body::{Body as _, Incoming},
    client::conn::TrySendError,
};
use tokio::time::timeout;

use super::{
    Outbound, balance,
    body::AppBody,
    connect::{self, Wanted},
    dpop,
    failure::Failure,
    head,
    lease::Lease,
    own::{Own, Protocol},
    peer::Peer,
    pool::Connection,
    target::{Target, View},
};
use crate::{
    clock::monotonic,
    control_client::destination::{Meshed, TokenNeed},
    headers::DPOP,
    tokens::Token,
};

/// A response must begin within this time. Long, because some answers are worked for.
const RESPONSE_WITHIN: Duration = Duration::from_secs(300);
/// The same while a body is sent, since most answers wait for its end. A body that stands still is ended by the peer.
const RESPONSE_TO_BODY_WITHIN: Duration = Duration::from_secs(12 * 3600);
const NONCE_WITHIN: Duration = Duration::from_secs(5);
const TOKEN_WITHIN: Duration = Duration::from_secs(5);
/// More rounds than any sequence of mishaps should need.
const MAX_ROUNDS: u32 = 6;

/// What one call needs, whichever endpoint takes it.
pub(super) struct Exchange<'a> {
    pub(super) outbound: &'a Outbound,
    pub(super) target: &'a Target,
    pub(super) view: &'a View,
    pub(super) protocol: Protocol,
}

/// What has gone wrong so far, so that nothing is tried for ever.
#[derive(Default)]
struct Tried {
    rounds: u32,
    /// An endpoint that took no connection.
    unreachable: Option<Rc<Peer>>,
    /// A pooled connection turned out dead.
    broken: bool,
    /// The peer asked for its nonce.
    nonce: bool,
}

/// A sending that brought no response.
struct Unsent {
    failure: Failure,
    /// The request itself, when not a byte of it was sent.
    message: Option<Request<AppBody>>,
    /// The peer said that it did not process it.
    refused: bool,
}

impl Exchange<'_> {
    /// Sends the request. The response's head is cleaned, its body still to be read with the lease.
    pub(super) async fn send(&self, mut message: Request<AppBody>) -> Result<(Response<Incoming>, Lease), Failure> {
        let mut tried = Tried::default();
        loop {
            tried.rounds += 1;
            if tried.rounds > MAX_ROUNDS {
                return Err(Failure::Rejected(Rejection::TokenUnavailable));
            }
            let now = self.outbound.local.shared.clock.now();
            let own = self.own()?;
            let Some(token) = self.token(own.as_deref(), now).await? else { continue };
            let peer = self.pick(tried.unreachable.as_ref())?;
            let mut lease = match self.connect(&peer, own, &tried, now).await {
                Ok(connection) => Lease::new(peer, connection),
                Err(Failure::Unreachable) if tried.unreachable.is_none() && self.view.peers.len() > 1 => {
                    tried.unreachable = Some(peer);
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            if let Some(token) = &token {
                if !lease.is_reused() && self.outbound.local.shared.clock.now() >= token.expires {
                    // The handshake outlasted the token.
                    continue;
                }
                self.authorize(&mut lease, &mut message, token).await?;
            }
            let spare = spare(&message, &lease, token.as_deref());
            let reused = lease.is_reused();
            match self.exchange(&mut lease, message).await {
                Ok(mut response) => {
                    let wants_nonce = self.take_credentials(&mut response, lease.peer());
                    match spare {
                        Some(again) if wants_nonce && !tried.nonce => {
                            tried.nonce = true;
                            message = again;
                        }
                        _ => return Ok((response, lease)),
                    }
                }
                Err(unsent) => {
                    let again = unsent.message.or(spare.filter(|spare| {
                        unsent.refused || (reused && spare.method().is_safe() && unsent.failure == Failure::Broken)
                    }));
                    match again {
                        Some(again) if !tried.broken => {
                            tried.broken = true;
                            message = again;
                        }
                        _ => return Err(unsent.failure),
                    }
                }
            }
        }
    }

    fn meshed(&self) -> Option<&Meshed> {
        self.view.meshed()
    }

    /// Our certificate, for peers of the mesh.
    fn own(&self) -> Result<Option<Rc<Own>>, Failure> {
        self.meshed().map(|_| self.outbound.own()).transpose()
    }

    /// The token for connections of this certificate: `Some(None)` if the call carries none, `None` to look again since
    /// the certificate may have changed while waiting.
    #[expect(clippy::option_option, reason = "one says whether to go on, the other whether there is a token")]
    async fn token(&self, own: Option<&Own>, now: UnixTime) -> Result<Option<Option<Arc<Token>>>, Failure> {
        let (Some(own), Some(meshed)) = (own, self.meshed()) else { return Ok(Some(None)) };
        let slot = match &meshed.token {
            TokenNeed::None => return Ok(Some(None)),
            TokenNeed::Unavailable => return Err(Failure::Rejected(Rejection::TokenUnavailable)),
            TokenNeed::Slot(slot) => slot,
        };
        if let Some(token) = slot.get(own.certificate.thumbprint, now) {
            return Ok(Some(Some(token)));
        }
        slot.wait(&self.outbound.local.shared, TOKEN_WITHIN).await?;
        Ok(None)
    }

    fn pick(&self, except: Option<&Rc<Peer>>) -> Result<Rc<Peer>, Failure> {
        let peers = &self.view.peers;
        let random = if peers.len() > 1 { self.outbound.random() } else { 0 };
        balance::pick(peers, random, except).cloned().ok_or(Failure::Rejected(Rejection::DestinationUnknown))
    }

    async fn connect(
        &self,
        peer: &Rc<Peer>,
        own: Option<Rc<Own>>,
        tried: &Tried,
        now: UnixTime,
    ) -> Result<Connection, Failure> {
        let wanted = Wanted { protocol: self.protocol, own, fresh: tried.broken };
        connect::checkout(&self.outbound.local.shared, peer, &wanted, now).await
    }

    /// Puts the token on, and for `DPoP` a fresh proof.
    async fn authorize(&self, lease: &mut Lease, message: &mut Request<AppBody>, token: &Token) -> Result<(), Failure> {
        message.headers_mut().insert(header::AUTHORIZATION, token.authorization.clone());
        let (Some(material), Some(meshed)) = (&token.proof, self.meshed()) else { return Ok(()) };
        let shared = &self.outbound.local.shared;
        // A server that has just started has a new secret: the nonce of the old one would cost a request with a body
        // its only try.
        if lease.needs_nonce() || !lease.peer().nonce.is_fresh(shared.clock.now()) {
            self.fetch_nonce(lease).await?;
        }
        let path = fapi::normal_path(message.uri().path())?;
        let htu = [&*meshed.origin, path].concat();
        let proof = lease.peer().nonce.proof(material, message.method(), &htu, shared.clock.now())?;
        message.headers_mut().insert(DPOP, proof);
        Ok(())
    }

    /// Asks the peer's sidecar for a nonce, on the connection of the request.
    async fn fetch_nonce(&self, lease: &mut Lease) -> Result<(), Failure> {
        let primer = dpop::primer(self.target, self.protocol);
        let mut response = timeout(NONCE_WITHIN, self.exchange(lease, primer))
            .await
            .map_err(|_| Failure::TooSlow)?
            .map_err(|unsent| unsent.failure)?;
        self.take_credentials(&mut response, lease.peer());
        lease.settle().await
    }

    /// Sends once.
    async fn exchange(&self, lease: &mut Lease, message: Request<AppBody>) -> Result<Response<Incoming>, Unsent> {
        // With one endpoint there is nothing to compare.
        let begun = (self.view.peers.len() > 1).then(monotonic);
        let limit = if message.body().is_end_stream() { RESPONSE_WITHIN } else { RESPONSE_TO_BODY_WITHIN };
        let sent = match lease.connection()? {
            Connection::H1(h1) => timeout(limit, h1.sender.try_send_request(message)).await,
            Connection::H2(h2) => timeout(limit, h2.sender.try_send_request(message)).await,
        };
        match sent {
            Ok(Ok(response)) => {
                if let Some(begun) = begun {
                    lease.peer().load.answered(begun);
                }
                Ok(response)
            }
            Ok(Err(error)) => Err(Unsent::broken(error)),
            Err(_) => Err(Unsent { failure: Failure::TooSlow, message: None, refused: false }),
        }
    }

    /// Takes what is meant for us out of a response. Says whether the same request is wanted again with the nonce.
    fn take_credentials(&self, response: &mut Response<Incoming>, peer: &Peer) -> bool {
        if peer.expect.is_none() {
            return false;
        }
        let status = response.status();
        let wants_nonce = dpop::wants_nonce(status, response.headers());
        peer.nonce.take_from(response.headers_mut(), self.outbound.local.shared.clock.now());
        if !wants_nonce
            && is_doubted(status, response.headers())
            && let Some(TokenNeed::Slot(slot)) = self.meshed().map(|m| &m.token)
        {
            slot.doubt();
        }
        wants_nonce
    }
}

impl Unsent {
    fn broken(mut error: TrySendError<Request<AppBody>>) -> Self {
        let message = error.take_message();
        let error = error.into_error();
        tracing::debug!(%error, unsent = message.is_some(), "a request got no response");
        Self { failure: Failure::Broken, message, refused: is_refused(&error) }
    }
}

impl From<Failure> for Unsent {
    fn from(failure: Failure) -> Self {
        Self { failure, message: None, refused: false }
    }
}

/// A second copy of a request without body, where a second sending could be right.
fn spare(message: &Request<AppBody>, lease: &Lease, token: Option<&Token>) -> Option<Request<AppBody>> {
    let proven = token.is_some_and(|token| token.proof.is_some());
    let needed = proven || lease.is_h2() || (lease.is_reused() && message.method().is_safe());
    (needed && message.body().is_end_stream()).then(|| {
        let mut copy = Request::new(AppBody::Empty);
        *copy.method_mut() = message.method().clone();
        *copy.uri_mut() = message.uri().clone();
        *copy.version_mut() = message.version();
        *copy.headers_mut() = message.headers().clone();
        copy
    })
}

/// Whether a refusal is about the token, so that a newer one might pass.
fn is_doubted(status: StatusCode, headers: &HeaderMap) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        && headers.get_all(header::WWW_AUTHENTICATE).iter().any(head::is_challenge)
}

/// Whether the peer says that it did not process the request (RFC 9113 section 8.7).
fn is_refused(error: &hyper::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(found) = cause {
        if let Some(error) = found.downcast_ref::<h2::Error>() {
            let unprocessed = error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
            return unprocessed || error.reason() == Some(h2::Reason::REFUSED_STREAM);
        }
        cause = found.source();
    }
    false
}
