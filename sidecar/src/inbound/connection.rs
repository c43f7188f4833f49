//! One connection of a peer: who it is, and what was published when its last request came.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, sync::Arc};

use fapi::{
    Admission, Context, Introspected, IssuerKeys, Peer, PortPolicy, ProvenTokens, Request, Revocations, UnixTime,
    Verdict,
};
use http::{HeaderMap, HeaderValue, request};

use super::{Inbound, lifetime::Lifetime};
use crate::{
    audit::Book,
    contexts::{Handle, Subject},
    forward::App,
    log::Direction,
    shares::Share,
    state::{Applied, AppliedPort, Shared},
};

/// A port without policy refuses everything.
static NO_POLICY: PortPolicy = PortPolicy::Missing;

/// A connection whose peer is known.
pub(crate) struct Connection {
    pub(super) inbound: Rc<Inbound>,
    /// The port that it came in by.
    listen: SocketAddr,
    /// The other end of the TCP connection.
    pub(super) address: SocketAddr,
    pub(super) peer: Peer,
    /// The peer's name, ready for the app.
    pub(super) caller: HeaderValue,
    pub(super) lifetime: Rc<Lifetime>,
    /// The calls of the peer's SPIFFE ID, over all of its connections.
    pub(super) calls: Share,
    view: RefCell<Rc<View>>,
    proven: RefCell<ProvenTokens>,
    client_id: RefCell<Option<HeaderValue>>,
}

/// What holds for the requests of one generation.
pub(super) struct View {
    pub(super) generation: u64,
    pub(super) version: Option<Arc<str>>,
    /// Whether the app hands calls on.
    pub(super) hands_on: bool,
    port: Option<Arc<AppliedPort>>,
    keys: Arc<IssuerKeys>,
    revocations: Arc<Revocations>,
    /// Where the app is; none when the port is gone.
    pub(super) app: Option<Rc<App>>,
}

/// A call on its way through; it ends when this is dropped.
pub(crate) struct Passage {
    inbound: Rc<Inbound>,
    lifetime: Rc<Lifetime>,
    /// The handle by which the app may hand it on.
    context: Option<Handle>,
}

impl Connection {
    pub(super) fn new(
        inbound: &Rc<Inbound>,
        (listen, address): (SocketAddr, SocketAddr),
        peer: Peer,
        lifetime: Rc<Lifetime>,
    ) -> Rc<Self> {
        // A SPIFFE ID has only characters that a header may have.
        let caller = HeaderValue::from_str(peer.spiffe_id.as_str()).unwrap_or(HeaderValue::from_static(""));
        Rc::new(Self {
            inbound: Rc::clone(inbound),
            listen,
            address,
            calls: inbound.callers.of(peer.spiffe_id.clone()),
            peer,
            caller,
            lifetime,
            view: RefCell::new(Rc::new(View::read(inbound, listen))),
            proven: RefCell::new(ProvenTokens::new()),
            client_id: RefCell::default(),
        })
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.inbound.local.shared
    }

    /// What holds now.
    pub(super) fn view(&self) -> Rc<View> {
        let mut view = self.view.borrow_mut();
        if view.generation != self.shared().generation() {
            *view = Rc::new(View::read(&self.inbound, self.listen));
        }
        Rc::clone(&view)
    }

    /// Judges a request whose headers are clean. `fresh` says that keys were fetched for it; `said`, what the issuer of its
    /// token was asked.
    pub(super) fn decide(&self, view: &View, request: &request::Parts, fresh: bool, said: Introspected<'_>) -> Verdict {
        let request = Request {
            method: &request.method,
            path: request.uri.path(),
            query: request.uri.query(),
            headers: &request.headers,
        };
        let context = Context { keys_fresh: fresh, ..self.context(view, self.shared().clock.now()) };
        fapi::decide_introspected(&context, &request, &mut self.proven.borrow_mut(), said)
    }

    pub(super) fn context<'a>(&'a self, view: &'a View, now: UnixTime) -> Context<'a> {
        let shared = self.shared();
        Context {
            policy: view.port.as_ref().map_or(&NO_POLICY, |port| &port.policy),
            keys: &view.keys,
            // Only a request that begins may wait for keys.
            keys_fresh: true,
            peer: &self.peer,
            nonces: &shared.nonces,
            replay: &shared.replay,
            revocations: &view.revocations,
            generation: view.generation,
            now,
        }
    }

    /// The client's id as a header. It is nearly always the one of the last request.
    pub(super) fn client_id(&self, id: &str) -> Option<HeaderValue> {
        let mut known = self.client_id.borrow_mut();
        if known.as_ref().is_none_or(|known| known.as_bytes() != id.as_bytes()) {
            *known = HeaderValue::from_str(id).ok();
        }
        known.clone()
    }

    /// A call begins.
    pub(crate) fn enter(self: &Rc<Self>) -> Passage {
        Passage::begin(&self.inbound, &self.lifetime)
    }
}

impl View {
    fn read(inbound: &Inbound, listen: SocketAddr) -> Self {
        let shared = &inbound.local.shared;
        // First the number, then what it stands for: what is newer than its number is only read again too early.
        let generation = shared.generation();
        let applied = shared.applied();
        let port = applied.as_deref().and_then(|applied: &Applied| applied.port(listen)).map(Arc::clone);
        Self {
            generation,
            hands_on: applied.as_ref().is_some_and(|applied| applied.snapshot.token_exchange),
            version: applied.map(|applied| Arc::clone(&applied.version)),
            app: port.as_ref().map(|port| inbound.apps.app(port.app)),
            port,
            keys: shared.keys(),
            revocations: shared.revocations(),
        }
    }

    /// Where it is counted what is let pass because the policy is in `Audit`.
    pub(super) fn audit(&self) -> Option<&Book> {
        self.port.as_ref().and_then(|port| port.audit.as_deref())
    }

    /// Whether answers carry a nonce for the next proof.
    pub(super) fn takes_dpop(&self) -> bool {
        self.port.as_ref().is_some_and(|port| port.takes_dpop)
    }
}

impl Passage {
    /// A call begins on a connection with this life.
    pub(super) fn begin(inbound: &Rc<Inbound>, lifetime: &Rc<Lifetime>) -> Self {
        lifetime.enter();
        Self { inbound: Rc::clone(inbound), lifetime: Rc::clone(lifetime), context: None }
    }

    /// Gives the call a handle for its app, up to its end. `None` where nothing can be handed on.
    pub(super) fn hand_on(&mut self, admission: &Admission, headers: &HeaderMap) -> Option<HeaderValue> {
        let token = admission.exchangeable(headers)?;
        let (hash, expires) = (*admission.token_hash()?, admission.expires()?);
        let shared = &self.inbound.local.shared;
        self.context = shared.contexts.begin(Subject { token: token.into(), hash, expires });
        if self.context.is_none() {
            shared.metrics.contexts_full.add(1);
        }
        self.context.map(Handle::header)
    }

    /// The app's answer to the call with this id broke off.
    pub(crate) fn answer_broke(&self, id: &HeaderValue) {
        self.inbound.local.answer_broke(Direction::Inbound, id);
    }

    /// The body of the request is malformed, by whoever calls.
    pub(crate) fn malformed(&self) {
        self.lifetime.malformed();
    }

    /// Something of the call has moved.
    pub(crate) fn progress(&self) {
        self.lifetime.progress();
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if let Some(context) = self.context {
            self.inbound.local.shared.contexts.end(context);
        }
        self.lifetime.leave();
    }
}
