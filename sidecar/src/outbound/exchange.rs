//! One request to a peer and the head of its response: endpoint, token, connection, proof, and the cases in which it may
//! be sent again.

use std::{rc::Rc, sync::Arc, time::Duration};

use fapi::{Rejection, UnixTime};
use http::{HeaderMap, Request, Response, StatusCode, header};
use hyper::body::{Body as _, Incoming};
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
    resend::{Tried, Unsent, spare},
    target::{Target, View},
};
use crate::{
    clock::monotonic,
    contexts::Subject,
    control_client::destination::{Meshed, TokenNeed},
    headers::{DPOP, challenges},
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
    /// The call that is handed on, exactly if the destination is called by token exchange.
    pub(super) subject: Option<Arc<Subject>>,
    pub(super) protocol: Protocol,
}

/// How one round ended.
enum Round {
    Answered(Response<Incoming>, Lease),
    Again(Request<AppBody>),
}

/// What a call carries.
enum Carried {
    /// The server decides about calls without a token.
    Nothing,
    Token(Arc<Token>),
    /// There is a token now, maybe of another certificate than the one looked at: look again.
    Unsettled,
}

impl Exchange<'_> {
    /// Sends the request, again where that is right. What is meant for us is taken out of the response; its body is
    /// still to be read, with the lease.
    pub(super) async fn send(&self, mut message: Request<AppBody>) -> Result<(Response<Incoming>, Lease), Failure> {
        let mut tried = Tried::default();
        for _ in 0..MAX_ROUNDS {
            message = match self.round(message, &mut tried).await? {
                Round::Answered(response, lease) => return Ok((response, lease)),
                Round::Again(message) => message,
            };
        }
        Err(Failure::Rejected(Rejection::TokenUnavailable))
    }

    /// One certificate, its token, a connection of it, one sending.
    async fn round(&self, mut message: Request<AppBody>, tried: &mut Tried) -> Result<Round, Failure> {
        let now = self.outbound.local.shared.clock.now();
        let own = self.own()?;
        let token = match self.carried(own.as_deref(), now).await? {
            Carried::Nothing => None,
            Carried::Token(token) => Some(token),
            Carried::Unsettled => return Ok(Round::Again(message)),
        };
        let Some(mut lease) = self.connect(own, tried, now).await? else { return Ok(Round::Again(message)) };
        if let Some(token) = &token {
            match self.authorize(&mut lease, &mut message, token).await {
                Ok(true) => {}
                Ok(false) => return Ok(Round::Again(message)),
                // Only a question for a nonce went out.
                Err(Failure::Broken | Failure::Unprocessed) if !tried.broken => {
                    tried.broken = true;
                    return Ok(Round::Again(message));
                }
                Err(failure) => return Err(failure),
            }
        }
        let spare = spare(&message, &lease, token.as_deref());
        match self.exchange(&mut lease, message).await {
            Ok(response) => Ok(self.answered(response, lease, token.as_deref(), spare, tried)),
            Err(unsent) => unsent.again(&lease, spare, tried).map(Round::Again),
        }
    }

    fn answered(
        &self,
        mut response: Response<Incoming>,
        lease: Lease,
        token: Option<&Token>,
        spare: Option<Request<AppBody>>,
        tried: &mut Tried,
    ) -> Round {
        let wants_nonce = self.take_credentials(&mut response, lease.peer(), token);
        match spare {
            Some(again) if wants_nonce && !tried.nonce => {
                tried.nonce = true;
                Round::Again(again)
            }
            _ => Round::Answered(response, lease),
        }
    }

    fn meshed(&self) -> Option<&Meshed> {
        self.view.meshed()
    }

    /// Our certificate, for peers of the mesh.
    fn own(&self) -> Result<Option<Rc<Own>>, Failure> {
        self.meshed().map(|_| self.outbound.own()).transpose()
    }

    /// What a call over a connection with this certificate carries.
    async fn carried(&self, own: Option<&Own>, now: UnixTime) -> Result<Carried, Failure> {
        let (Some(own), Some(meshed)) = (own, self.meshed()) else { return Ok(Carried::Nothing) };
        let slot = match &meshed.token {
            TokenNeed::None => return Ok(Carried::Nothing),
            TokenNeed::Unavailable(rejection) => return Err(Failure::Rejected(*rejection)),
            TokenNeed::Slot(slot) => slot,
            TokenNeed::Exchange(exchanger) => {
                let subject = self.subject.as_ref().ok_or(Failure::NotInProgress)?;
                return Ok(Carried::Token(exchanger.token(&own.certificate, subject, TOKEN_WITHIN).await?));
            }
        };
        if let Some(token) = slot.get(own.certificate.thumbprint, now) {
            return Ok(Carried::Token(token));
        }
        slot.wait(&self.outbound.local.shared, TOKEN_WITHIN).await?;
        Ok(Carried::Unsettled)
    }

    fn pick(&self, except: Option<&Rc<Peer>>) -> Result<Rc<Peer>, Failure> {
        let peers = &self.view.peers;
        let random = if peers.len() > 1 { self.outbound.random() } else { 0 };
        balance::pick(peers, random, except).cloned().ok_or(Failure::Rejected(Rejection::DestinationUnknown))
    }

    /// A connection to one of the endpoints. `None`: it takes none, but there are others.
    async fn connect(&self, own: Option<Rc<Own>>, tried: &mut Tried, now: UnixTime) -> Result<Option<Lease>, Failure> {
        let peer = self.pick(tried.unreachable.as_ref())?;
        let wanted = Wanted { protocol: self.protocol, own, fresh: tried.broken };
        match connect::checkout(&self.outbound.local.shared, &peer, &wanted, now).await {
            Ok(connection) => Ok(Some(Lease::new(peer, connection))),
            Err(Failure::Unreachable) if tried.unreachable.is_none() && self.view.peers.len() > 1 => {
                tried.unreachable = Some(peer);
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Puts the token on, and for `DPoP` a fresh proof. False: the token ended while the connection was made.
    async fn authorize(
        &self,
        lease: &mut Lease,
        message: &mut Request<AppBody>,
        token: &Token,
    ) -> Result<bool, Failure> {
        let shared = &self.outbound.local.shared;
        if !lease.is_reused() && shared.clock.now() >= token.expires {
            return Ok(false);
        }
        message.headers_mut().insert(header::AUTHORIZATION, token.authorization.clone());
        let (Some(material), Some(meshed)) = (&token.proof, self.meshed()) else { return Ok(true) };
        // A server that has just started has a new secret: the nonce of the old one would cost a request with a body
        // its only try.
        if lease.needs_nonce() || !lease.peer().nonce.is_fresh(shared.clock.now()) {
            Box::pin(self.fetch_nonce(lease)).await?;
        }
        let path = fapi::normal_path(message.uri().path())?;
        let htu = [&*meshed.origin, path].concat();
        let proof = lease.peer().nonce.proof(material, message.method(), &htu, shared.clock.now())?;
        message.headers_mut().insert(DPOP, proof);
        Ok(true)
    }

    /// Asks the peer's sidecar for a nonce, on the connection of the request.
    async fn fetch_nonce(&self, lease: &mut Lease) -> Result<(), Failure> {
        let primer = dpop::primer(self.target, self.protocol);
        let mut response = timeout(NONCE_WITHIN, self.exchange(lease, primer))
            .await
            .map_err(|_| Failure::TooSlow)?
            .map_err(|unsent| unsent.failure)?;
        self.take_credentials(&mut response, lease.peer(), None);
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
            Err(_) => Err(Unsent::from(Failure::TooSlow)),
        }
    }

    /// Takes what is meant for us out of a response. Says whether the same request is wanted again with the nonce.
    fn take_credentials(&self, response: &mut Response<Incoming>, peer: &Peer, token: Option<&Token>) -> bool {
        if peer.expect.is_none() {
            return false;
        }
        let status = response.status();
        let wants_nonce = dpop::wants_nonce(status, response.headers());
        peer.nonce.take_from(response.headers_mut(), &self.outbound.local.shared.clock);
        if !wants_nonce && is_doubted(status, response.headers()) {
            self.doubt(token);
        }
        wants_nonce
    }

    /// The peer refused the token.
    fn doubt(&self, token: Option<&Token>) {
        match (self.meshed().map(|meshed| &meshed.token), token, &self.subject) {
            (Some(TokenNeed::Slot(slot)), ..) => slot.doubt(),
            (Some(TokenNeed::Exchange(exchanger)), Some(token), Some(subject)) => {
                exchanger.doubt(token.certificate, subject);
            }
            _ => {}
        }
    }
}

/// Whether a refusal is about the token, so that a newer one might pass.
fn is_doubted(status: StatusCode, headers: &HeaderMap) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        && challenges(headers).any(|challenge| head::is_about_token(&challenge))
}
