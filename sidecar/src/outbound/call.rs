//! One call of the app, from its head to the head of the answer.

use std::{rc::Rc, sync::Arc};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;

use super::{
    Between, Outbound,
    body::{AppBody, OutBody},
    exchange::Exchange,
    failure::Failure,
    head,
    own::Protocol,
    redirected::Via,
    target::View,
    websocket,
};
use crate::{
    contexts::{Handle, Subject},
    control_client::destination::TokenNeed,
    headers::{CONTEXT, INTERACTION_ID, Wishes},
    log::{Decision, Direction, Outcome},
};

const NO_CONTEXT: &str =
    "this destination is called by token exchange: pass on x-fapi-context of the call that you make this one for";
const BAD_CONTEXT: &str = "pass on x-fapi-context once and as it came";

/// What is known of a call that did not pass.
#[derive(Default)]
pub(super) struct Told<'a> {
    pub(super) id: Option<&'a str>,
    pub(super) method: Option<&'a str>,
    pub(super) path: Option<&'a str>,
    pub(super) destination: Option<&'a str>,
}

impl Outbound {
    /// Answers one request of the app. Every failure is an answer, with a reason and the call's id.
    pub(super) async fn call(self: Rc<Self>, via: Via, request: Request<Incoming>) -> Response<OutBody> {
        let id = self.local.interaction_id(request.headers());
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let mut response = match self.forward(&via, request, &id).await {
            Ok(response) => {
                self.local.shared.metrics.decisions(Direction::Outbound).count(Outcome::Admitted, None);
                response
            }
            Err(failure) => {
                let (verb, path, id) = (Some(method.as_str()), Some(uri.path()), id.to_str().ok());
                self.record(&failure, &Told { id, method: verb, path, destination: via.destination(&uri).as_deref() });
                failure.response(&method)
            }
        };
        response.headers_mut().insert(INTERACTION_ID, id);
        response
    }

    async fn forward(
        &self,
        via: &Via,
        request: Request<Incoming>,
        id: &HeaderValue,
    ) -> Result<Response<OutBody>, Failure> {
        let target = match via {
            Via::Proxy => self.target(head::authority(&request)?)?,
            Via::Redirected(redirected) => self.target_of(redirected, &request)?,
        };
        let view = self.view(&target).await?;
        let meshed = view.meshed().is_some();
        if view.meshed().is_some_and(|meshed| meshed.opaque) {
            return Err(Failure::Misused(
                "the port is declared protocol: TCP and takes no HTTP: connect to it without proxy",
            ));
        }
        if !meshed {
            self.local.shared.metrics.unmeshed.add(1);
        }
        let subject = self.subject(&view, request.headers())?;
        let (mut head, body) = request.into_parts();
        if meshed {
            head::refuse_credentials(&head.headers)?;
        }
        let wishes = head::clean_request(&mut head, &target, meshed)?;
        head.headers.insert(INTERACTION_ID, id.clone());
        let protocol = self.protocol(head.version, meshed, wishes);
        head::address(&mut head, &target, protocol, wishes);
        let mut message = Request::from_parts(head, AppBody::from(body));
        let app_side = wishes.websocket.then(|| hyper::upgrade::on(&mut message));
        let exchange = Exchange { outbound: self, target: &target, view: &view, subject, protocol };
        let (response, lease) = exchange.send(message).await?;
        match app_side {
            Some(app_side) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                Ok(websocket::switch(response, app_side, lease, &self.local.shared, &target))
            }
            _ => {
                let (mut head, body) = response.into_parts();
                head::clean_response(&mut head.headers, meshed);
                Ok(Response::from_parts(head, OutBody::peer(body, lease, &self.local, id)))
            }
        }
    }

    /// The call that this one hands on, for a destination that is called in no other way.
    fn subject(&self, view: &View, headers: &HeaderMap) -> Result<Option<Arc<Subject>>, Failure> {
        if !matches!(view.meshed().map(|meshed| &meshed.token), Some(TokenNeed::Exchange(_))) {
            return Ok(None);
        }
        let mut given = headers.get_all(CONTEXT).iter();
        let handle = match (given.next(), given.next()) {
            (None, _) => return Err(Failure::Misused(NO_CONTEXT)),
            (Some(handle), None) => Handle::parse(handle.as_bytes()),
            (Some(_), Some(_)) => None,
        };
        let (handle, shared) = (handle.ok_or(Failure::Misused(BAD_CONTEXT))?, &self.local.shared);
        shared.contexts.find(handle, shared.clock.now()).map(Some).ok_or(Failure::NotInProgress)
    }

    /// Upgrades exist in HTTP/1.1 only, trailers surely arrive in HTTP/2 only; what is not in the mesh is called as the
    /// app calls.
    fn protocol(&self, app: Version, meshed: bool, wishes: Wishes) -> Protocol {
        match (meshed, self.between) {
            _ if wishes.websocket => Protocol::H1,
            (true, Between::H1) if wishes.trailers => Protocol::H2,
            (true, Between::H1) => Protocol::H1,
            (true, Between::H2) => Protocol::H2,
            (false, _) if app == Version::HTTP_2 => Protocol::H2,
            (false, _) => Protocol::H1,
        }
    }

    /// Tells of a call that did not pass.
    pub(super) fn record(&self, failure: &Failure, told: &Told<'_>) {
        let shared = &self.local.shared;
        let rejection = failure.rejection();
        let outcome = if rejection.is_some() { Outcome::Refused } else { Outcome::Admitted };
        shared.metrics.decisions(Direction::Outbound).count(outcome, rejection);
        let (own, applied) = (shared.identity(), shared.applied());
        self.local.log.decision(&Decision {
            direction: Direction::Outbound,
            outcome,
            reason: rejection,
            interaction_id: told.id,
            caller: own.as_ref().map(|own| own.spiffe_id.as_str()),
            client_id: None,
            subject: None,
            method: told.method,
            path: told.path,
            policy_version: applied.as_ref().map(|applied| &*applied.version),
            policy: None,
            token: None,
            status: Some(failure.status().as_u16()),
            peer: None,
            destination: told.destination,
            upstream: if rejection.is_none() { Some(failure.id()) } else { None },
        });
    }
}
