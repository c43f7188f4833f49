//! Calls without an end of their own: WebSockets and request bodies that are long or of unknown length. They are admitted
//! for only as long as they would be admitted again.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use fapi::{Admission, Rejection, UnixTime};
use http::{HeaderMap, Method, Uri, header::AUTHORIZATION, request};
use tokio::time::sleep_until;

use super::connection::{Connection, View};

/// An admission that is asked for again whenever policy, keys or roots change, and ends with token and certificate.
pub(crate) struct Standing {
    facts: Rc<Facts>,
    generation: u64,
    void: Option<Pin<Box<dyn Future<Output = Rejection>>>>,
}

struct Facts {
    connection: Rc<Connection>,
    grounds: fapi::Grounds,
    ends: UnixTime,
    method: Method,
    uri: Uri,
    /// Only the token: the proof was for the request that began the call.
    headers: HeaderMap,
}

impl Standing {
    /// The standing of a request that has just been admitted by what `view` holds, and still has its credentials. What has
    /// changed since that view was read makes it doubtful at once.
    pub(super) fn new(
        connection: &Rc<Connection>,
        view: &View,
        admission: &Admission,
        request: &request::Parts,
    ) -> Self {
        let token = request.headers.get(AUTHORIZATION).map(|token| (AUTHORIZATION, token.clone()));
        let not_after = connection.peer.not_after;
        Self {
            generation: view.generation,
            facts: Rc::new(Facts {
                connection: Rc::clone(connection),
                grounds: admission.grounds(),
                ends: admission.expires().map_or(not_after, |expires| expires.min(not_after)),
                method: request.method.clone(),
                uri: request.uri.clone(),
                headers: token.into_iter().collect(),
            }),
            void: None,
        }
    }

    /// Whether something has changed since the admission, or it has ended. Whoever has always something to pass on asks
    /// this, as timers are asked only by those who wait.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.generation != self.facts.connection.shared().generation() || self.facts.has_ended()
    }

    /// Ready with the reason when the call must end.
    pub(crate) fn poll_void(&mut self, cx: &mut Context<'_>) -> Poll<Rejection> {
        let facts = &self.facts;
        if facts.has_ended() {
            return Poll::Ready(Rejection::TokenExpired);
        }
        let generation = self.generation;
        let void = self.void.get_or_insert_with(|| Box::pin(Rc::clone(facts).until_void(generation)));
        let outcome = void.as_mut().poll(cx);
        if outcome.is_pending() {
            self.generation = self.facts.connection.shared().generation();
        }
        outcome
    }

    /// Waits until the call must end.
    pub(crate) async fn void(self) -> Rejection {
        self.facts.until_void(self.generation).await
    }
}

impl Facts {
    async fn until_void(self: Rc<Self>, mut generation: u64) -> Rejection {
        let shared = &self.connection.inbound.local.shared;
        let mut changes = shared.changes();
        let end = sleep_until(shared.clock.deadline(self.ends));
        let mut end = std::pin::pin!(end);
        loop {
            let current = changes.borrow_and_update().to_owned().max(shared.generation());
            if current != generation {
                generation = current;
                if let Err(rejection) = self.judge_again() {
                    return rejection;
                }
            }
            tokio::select! {
                () = &mut end => return Rejection::TokenExpired,
                changed = changes.changed() => if changed.is_err() { return Rejection::PolicyMissing },
            }
        }
    }

    fn has_ended(&self) -> bool {
        self.connection.shared().clock.now() >= self.ends
    }

    fn judge_again(&self) -> Result<(), Rejection> {
        let view = self.connection.view();
        let context = self.connection.context(&view, self.connection.shared().clock.now());
        let request = fapi::Request {
            method: &self.method,
            path: self.uri.path(),
            query: self.uri.query(),
            headers: &self.headers,
        };
        fapi::decide_again(&context, &request, &self.grounds)
    }
}
