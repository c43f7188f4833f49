//! How long connections live. No connection has a timer: once a second a worker looks at all of its own.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Poll, Waker},
};

use control::tls::{Root, TrustBundle};
use fapi::{Peer, Rejection, Revocations, UnixTime};

use super::watched::Findings;

/// Ticks are this long; all figures below count them.
pub(crate) const TICK: std::time::Duration = std::time::Duration::from_secs(1);
/// A connection that has carried no call is closed.
const UNUSED: u32 = 30;
/// A connection without calls is closed.
const IDLE: u32 = 300;
/// A head that has begun must end.
const HEAD: u32 = 10;
/// A call in which nothing moves in either direction is given up. Longer than any one body may be silent.
const STALLED: u32 = 900;
/// Calls in progress have this long to end on a connection that is to close.
const CLOSING: u32 = 30;

/// What a connection must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Serve,
    /// Take no more calls, end with the last.
    Close,
    /// End now.
    Abort,
}

/// The life of one connection.
#[derive(Debug)]
pub(super) struct Lifetime {
    /// Who the peer is, and the root that vouched for it; `None` if it proved nothing.
    proven: Option<(Peer, Root)>,
    /// HTTP/1.1 only.
    findings: Option<Arc<Findings>>,
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
    in_flight: Cell<u32>,
    served: Cell<u64>,
    moved: Cell<u64>,
    seen: Cell<u64>,
    quiet: Cell<u32>,
    in_head: Cell<u32>,
    closing: Cell<u32>,
    /// It carries no HTTP any more; whoever carries it minds its silence.
    upgraded: Cell<bool>,
    /// The body of a request could not be read.
    malformed: Cell<bool>,
}

impl Lifetime {
    /// A life that ends with the certificate of `peer` at the latest, or with the `root` that vouched for it.
    pub(super) fn new(peer: Peer, root: Root, findings: Option<Arc<Findings>>) -> Self {
        Self::of(Some((peer, root)), findings)
    }

    /// The life of a plain connection, whose peer proves nothing that could end.
    pub(super) fn plain(findings: Arc<Findings>) -> Self {
        Self::of(None, Some(findings))
    }

    fn of(proven: Option<(Peer, Root)>, findings: Option<Arc<Findings>>) -> Self {
        Self {
            proven,
            findings,
            order: Cell::new(Order::Serve),
            waker: RefCell::default(),
            in_flight: Cell::default(),
            served: Cell::default(),
            moved: Cell::default(),
            seen: Cell::default(),
            quiet: Cell::default(),
            in_head: Cell::default(),
            closing: Cell::default(),
            upgraded: Cell::default(),
            malformed: Cell::default(),
        }
    }

    /// A call begins.
    pub(super) fn enter(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
        self.served.set(self.served.get() + 1);
        self.progress();
    }

    /// A call has ended.
    pub(super) fn leave(&self) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        self.progress();
    }

    /// Something of a call has moved.
    pub(super) fn progress(&self) {
        self.moved.set(self.moved.get().wrapping_add(1));
    }

    /// Why nothing is taken of what comes over it.
    pub(super) fn flaw(&self) -> Option<Rejection> {
        self.findings.as_ref().and_then(|findings| findings.rejection())
    }

    /// The body of a request on it cannot be read. Of HTTP/1.1, where that ends the connection.
    pub(super) fn malformed(&self) {
        self.malformed.set(true);
    }

    /// Whether the body of its last request could not be read.
    pub(super) fn is_malformed(&self) -> bool {
        self.malformed.get()
    }

    /// Lets the calls in progress end and takes no more.
    pub(super) fn close(&self) {
        self.give(Order::Close);
    }

    /// From now on only the end of the certificate and of the process count; wait for them with [`Lifetime::over`].
    pub(super) fn upgrade(&self) {
        self.upgraded.set(true);
        if let Some(findings) = &self.findings {
            findings.end();
        }
    }

    /// Ready when an upgraded connection must end.
    pub(super) async fn over(&self) {
        poll_fn(|cx| {
            if self.order.get() > Order::Serve {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Whether the certificate of its peer has ended.
    fn is_past(&self, now: UnixTime) -> bool {
        self.proven.as_ref().is_some_and(|(peer, _)| now >= peer.not_after)
    }

    fn give(&self, order: Order) {
        if order > self.order.get() {
            self.order.set(order);
            if let Some(waker) = self.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    /// One second has passed.
    fn tick(&self, now: UnixTime) {
        if self.upgraded.get() {
            if self.is_past(now) {
                self.give(Order::Close);
            }
            return;
        }
        let moved = self.moved.get();
        let quiet = if self.seen.replace(moved) == moved { self.quiet.get() + 1 } else { 0 };
        self.quiet.set(quiet);
        let is_in_head = self.findings.as_ref().is_some_and(|findings| findings.is_in_head());
        self.in_head.set(if is_in_head { self.in_head.get() + 1 } else { 0 });
        if self.order.get() == Order::Close {
            self.closing.set(self.closing.get() + 1);
        }
        let longest = match (self.in_flight.get(), self.served.get()) {
            (0, 0) => UNUSED,
            (0, _) => IDLE,
            _ => STALLED,
        };
        if self.in_head.get() > HEAD || self.closing.get() > CLOSING || quiet > STALLED {
            self.give(Order::Abort);
        } else if self.is_past(now) || quiet > longest {
            self.give(Order::Close);
        }
    }
}

/// A hyper connection, of either protocol.
pub(super) trait Graceful: Future<Output = hyper::Result<()>> {
    /// Takes no more calls and ends with the last.
    fn close(self: Pin<&mut Self>);
}

/// Serves a connection until it ends or its life does.
pub(super) async fn live<C: Graceful>(lifetime: &Lifetime, mut connection: Pin<&mut C>) -> hyper::Result<()> {
    let mut closing = false;
    poll_fn(|cx| {
        let order = lifetime.order.get();
        match order {
            Order::Serve => {}
            Order::Close if closing => {}
            Order::Close => {
                closing = true;
                connection.as_mut().close();
            }
            Order::Abort => return Poll::Ready(Ok(())),
        }
        let outcome = connection.as_mut().poll(cx);
        if outcome.is_pending() {
            let mut waker = lifetime.waker.borrow_mut();
            match &mut *waker {
                Some(known) => known.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
            if order != lifetime.order.get() {
                // It was given by what was polled here, maybe before there was a waker.
                cx.waker().wake_by_ref();
            }
        }
        outcome
    })
    .await
}

/// The lives of all connections of a worker.
#[derive(Debug, Default)]
pub(super) struct Lifetimes {
    all: RefCell<Vec<Weak<Lifetime>>>,
    closed: Cell<bool>,
}

impl Lifetimes {
    /// Watches over one more.
    pub(super) fn watch(&self, lifetime: &Rc<Lifetime>) {
        if self.closed.get() {
            lifetime.close();
        }
        self.all.borrow_mut().push(Rc::downgrade(lifetime));
    }

    /// One second has passed, and peers are verified by `bundle` now.
    pub(super) fn tick(&self, now: UnixTime, bundle: Option<&Arc<TrustBundle>>) {
        self.all.borrow_mut().retain(|lifetime| {
            let Some(lifetime) = lifetime.upgrade() else { return false };
            lifetime.tick(now);
            let root = lifetime.proven.as_ref().map(|(_, root)| root);
            if root.is_some_and(|root| bundle.is_none_or(|bundle| !bundle.holds(root))) {
                // A peer whose root is gone must not stay: it comes again and is verified again.
                lifetime.close();
            }
            true
        });
    }

    /// Closes all, now and from now on.
    pub(super) fn close(&self) {
        self.closed.set(true);
        for lifetime in self.all.borrow().iter().filter_map(Weak::upgrade) {
            lifetime.close();
        }
    }

    /// Closes those whose peer was revoked.
    pub(super) fn close_revoked(&self, revocations: &Revocations, now: UnixTime) {
        let all = self.all.borrow();
        let is_hit = |(peer, _): &(Peer, Root)| revocations.hit_peer(peer, now);
        let revoked = |lifetime: &Rc<Lifetime>| lifetime.proven.as_ref().is_some_and(is_hit);
        all.iter().filter_map(Weak::upgrade).filter(revoked).for_each(|lifetime| lifetime.close());
    }

    /// Whether no connection is left.
    pub(super) fn is_empty(&self) -> bool {
        self.all.borrow().iter().all(|lifetime| lifetime.strong_count() == 0)
    }
}

#[cfg(test)]
mod tests {
    use fapi::{CertThumbprint, SpiffeId};

    use super::*;
    use crate::testing::authority::{Authority, trust_domain};

    fn now(secs: u64) -> UnixTime {
        UnixTime::from_secs(secs)
    }

    fn until(ends: u64) -> Lifetime {
        let peer = Peer {
            spiffe_id: SpiffeId::parse("spiffe://bank.example/ns/bank/sa/shop").expect("one"),
            thumbprint: CertThumbprint::of_der(b""),
            pod_uid: None,
            issued: now(0),
            not_after: now(ends),
        };
        Lifetime::new(peer, root_of(&Authority::new().bundle()), None)
    }

    fn root_of(bundle: &TrustBundle) -> Root {
        bundle.root_of(&[], now(0)).expect("the only one")
    }

    fn ticks(lifetime: &Lifetime, count: u32) {
        for _ in 0..count {
            lifetime.tick(now(0));
        }
    }

    #[test]
    fn a_connection_ends_with_its_certificate() {
        let lifetime = until(100);
        lifetime.enter();
        lifetime.tick(now(99));
        assert_eq!(lifetime.order.get(), Order::Serve);
        lifetime.tick(now(100));
        assert_eq!(lifetime.order.get(), Order::Close);
        for _ in 0..=CLOSING {
            lifetime.tick(now(101));
        }
        assert_eq!(lifetime.order.get(), Order::Abort);
    }

    #[test]
    fn a_connection_ends_when_the_root_of_its_peer_is_gone_and_not_when_another_comes_or_goes() {
        let authority = Authority::new();
        let bundle = |pem: &str| Arc::new(TrustBundle::from_pem(&trust_domain(), pem).expect("roots"));
        let mut lifetime = until(100);
        lifetime.proven = lifetime.proven.map(|(peer, _)| (peer, root_of(&authority.bundle())));
        let lifetime = Rc::new(lifetime);
        let all = Lifetimes::default();
        all.watch(&lifetime);
        for pem in [&authority.pem, &authority.wider_pem(), &authority.pem] {
            all.tick(now(1), Some(&bundle(pem)));
            assert_eq!(lifetime.order.get(), Order::Serve);
        }
        all.tick(now(1), Some(&Authority::new().bundle()));
        assert_eq!(lifetime.order.get(), Order::Close);
    }

    #[test]
    fn a_plain_connection_ends_for_its_silence_alone() {
        let plain = Rc::new(Lifetime::plain(Arc::default()));
        let all = Lifetimes::default();
        all.watch(&plain);
        all.tick(now(u64::MAX), None);
        all.close_revoked(&Revocations::none(), now(u64::MAX));
        assert_eq!(plain.order.get(), Order::Serve, "no certificate ends and no root goes");
        ticks(&plain, UNUSED);
        assert_eq!(plain.order.get(), Order::Close);
        all.close();
        assert!(!all.is_empty());
    }

    #[test]
    fn a_connection_without_calls_is_closed() {
        let unused = until(u64::MAX);
        ticks(&unused, UNUSED);
        assert_eq!(unused.order.get(), Order::Serve);
        ticks(&unused, 1);
        assert_eq!(unused.order.get(), Order::Close);
        let idle = until(u64::MAX);
        idle.enter();
        ticks(&idle, IDLE + 1);
        idle.leave();
        ticks(&idle, IDLE);
        assert_eq!(idle.order.get(), Order::Serve);
        ticks(&idle, 2);
        assert_eq!(idle.order.get(), Order::Close);
    }

    #[test]
    fn a_call_in_which_nothing_moves_is_given_up() {
        let lifetime = until(u64::MAX);
        lifetime.enter();
        ticks(&lifetime, STALLED);
        lifetime.progress();
        ticks(&lifetime, STALLED);
        assert_eq!(lifetime.order.get(), Order::Serve);
        ticks(&lifetime, 2);
        assert_eq!(lifetime.order.get(), Order::Abort);
    }
}
