//! What an admission is worth later.

use std::{
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use fapi::{Admission, Introspected, Mode, Rejection, SenderConstraint::Mtls, Verdict};
use http::{Request, header::AUTHORIZATION, request::Parts};

use crate::{
    inbound::{Connection, Standing, connection::View, lifetime::Lifetime},
    outbound::Between,
    testing::{
        local,
        mesh::Mesh,
        side::{Side, Speaks, caller},
    },
};

/// A request of shop that payments has just admitted, and by what.
async fn admitted(mesh: &Mesh, side: &Side) -> (Rc<Connection>, Rc<View>, Admission, Parts) {
    let (identity, token) = caller(mesh, "shop", "https://payments.bank").await;
    let peer = control::identity::peer_from_leaf(identity.leaf().unwrap()).unwrap();
    let ends = (([127, 0, 0, 1], 0).into(), side.address);
    let connection = Connection::new(&side.inbound, ends, peer, Rc::new(Lifetime::plain(Arc::default())));
    let request = Request::post("/a").header(AUTHORIZATION, format!("Bearer {token}")).body(()).unwrap();
    let (parts, ()) = request.into_parts();
    let view = connection.view();
    let Verdict::Admit(admission) = connection.decide(&view, &parts, true, Introspected::NotAsked) else {
        panic!("a good token");
    };
    (connection, view, admission, parts)
}

#[tokio::test]
async fn a_change_between_the_decision_and_the_call_is_not_lost() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let payments = Side::start(&mesh, "payments", Mtls, Speaks::Http1).await;
        let (connection, view, admission, parts) = admitted(&mesh, &payments).await;
        payments.apply("ledger", Mode::Enforce);
        let standing = Standing::new(&connection, &view, &admission, &parts);
        assert!(standing.is_doubtful());
        assert_eq!(standing.void().await, Rejection::CallerNotAllowed);
    })
    .await;
}

#[tokio::test]
async fn an_end_is_seen_by_who_never_waits() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let payments = Side::start(&mesh, "payments", Mtls, Speaks::Http1).await;
        let (connection, view, admission, parts) = admitted(&mesh, &payments).await;
        let mut standing = Standing::new(&connection, &view, &admission, &parts);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(!standing.is_doubtful() && standing.poll_void(&mut cx).is_pending());
        payments.shared.clock.set(admission.expires().unwrap());
        assert!(standing.is_doubtful());
        assert_eq!(standing.poll_void(&mut cx), Poll::Ready(Rejection::TokenExpired));
    })
    .await;
}
