//! New certificates, tokens and roots while calls go on.

use std::{cell::Cell, rc::Rc, time::Duration};

use control::pb::operator_message::Kind;
use fapi::SenderConstraint::{self, Dpop, Mtls};
use http::header;

use crate::{
    outbound::Between,
    testing::{
        app::{App, get, read, request},
        authority::workload,
        local,
        mesh::{LONG, Mesh, meshed},
        until,
    },
};

const BOTH: [Between; 2] = [Between::H1, Between::H2];

/// Calls on many connections until told to stop. Gives the number of calls; each one must pass.
struct Load {
    running: Rc<Cell<bool>>,
    calls: Rc<Cell<u32>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    async fn start(app: &App, connections: usize) -> Self {
        let (running, calls) = (Rc::new(Cell::new(true)), Rc::<Cell<u32>>::default());
        let mut tasks = Vec::new();
        for at in 0..connections {
            let mut sender = app.http1().await;
            let (running, calls) = (running.clone(), calls.clone());
            tasks.push(tokio::task::spawn_local(async move {
                while running.get() {
                    let asked = if at % 2 == 0 {
                        request("POST", "http://payments.bank/a", "body")
                    } else {
                        get("http://payments.bank/b")
                    };
                    let answer = read(sender.send_request(asked).await.unwrap()).await;
                    assert_eq!(answer.status, 200, "{}", answer.text);
                    sender.ready().await.unwrap();
                    calls.set(calls.get() + 1);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }));
        }
        Self { running, calls, tasks }
    }

    async fn stop(self) -> u32 {
        self.running.set(false);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.calls.get()
    }
}

async fn rotate_under_load(between: Between, constraint: SenderConstraint) {
    let mesh = Mesh::start(between).await;
    let payments = mesh.serve("payments", constraint).await;
    let load = Load::start(&mesh.app, 16).await;
    until("calls", || load.calls.get() > 16).await;
    let number = || mesh.shared.identity().unwrap().number;
    for _ in 0..20 {
        let before = number();
        mesh.operator.renew();
        // The peer's own certificate changes at the same time.
        payments.rotate(&mesh.authority.bundle(), &mesh.authority.identity(&workload("payments"), LONG));
        until("another certificate is in use", || number() > before).await;
        let calls = load.calls.get();
        until("calls go on", || load.calls.get() >= calls + 32).await;
    }
    let calls = load.stop().await;
    assert!(payments.refused.borrow().is_empty(), "{:?} of {calls}", payments.refused.borrow());
    assert!(payments.connections.get() > 20, "new connections for new certificates");
    assert_eq!(mesh.issuer.issued.get(), 21, "one token for each certificate");
    // Each stream has been replaced by one over the new certificate.
    until("one stream is left", || mesh.operator.with(|state| state.open_streams) == 1).await;
    assert!(mesh.operator.with(|state| state.streams) > 10);
    assert_eq!(mesh.operator.with(|state| state.enrolments), 1);
}

#[tokio::test]
async fn no_call_fails_while_certificates_rotate_h1_mtls() {
    local(rotate_under_load(Between::H1, Mtls)).await;
}

#[tokio::test]
async fn no_call_fails_while_certificates_rotate_h2_mtls() {
    local(rotate_under_load(Between::H2, Mtls)).await;
}

#[tokio::test]
async fn no_call_fails_while_certificates_rotate_h1_dpop() {
    local(rotate_under_load(Between::H1, Dpop)).await;
}

#[tokio::test]
async fn no_call_fails_while_certificates_rotate_h2_dpop() {
    local(rotate_under_load(Between::H2, Dpop)).await;
}

#[tokio::test]
async fn n32_a_new_certificate_brings_one_new_token_and_the_old_one_is_not_seen_again() {
    for constraint in [Mtls, Dpop] {
        local(async {
            let mesh = Mesh::start(Between::H2).await;
            let payments = mesh.serve("payments", constraint).await;
            let sent = || payments.last.borrow().as_ref().unwrap().1[header::AUTHORIZATION].clone();
            assert_eq!(mesh.app.get("http://payments.bank/a").await.status, 200);
            let old = sent();
            let before = mesh.shared.identity().unwrap().number;
            mesh.operator.renew();
            until("another certificate is in use", || mesh.shared.identity().unwrap().number > before).await;
            for _ in 0..10 {
                assert_eq!(mesh.app.get("http://payments.bank/a").await.status, 200);
                assert_ne!(sent(), old);
            }
            assert_eq!(mesh.issuer.issued.get(), 2);
            assert!(payments.refused.borrow().is_empty(), "{:?}", payments.refused.borrow());
        })
        .await;
    }
}

#[tokio::test]
async fn n33_a_pooled_connection_belongs_to_one_identity_on_each_side() {
    for between in BOTH {
        local(async {
            let mesh = Mesh::start(between).await;
            let payments = mesh.serve("payments", Mtls).await;
            assert_eq!(mesh.app.get("http://payments.bank/a").await.status, 200);
            // Another service at the same address: the open connection is to somebody else.
            mesh.operator.set_destination("ledger.bank", meshed("ledger", Mtls, &[&payments]));
            let answer = mesh.app.get("http://ledger.bank/a").await;
            assert_eq!((answer.status.as_u16(), answer.error().as_str()), (503, "peer_identity_mismatch"));
            assert_eq!((payments.served.get(), payments.connections.get()), (1, 1));
            // Another certificate of our own: the open connection shows the old one.
            let before = mesh.shared.identity().unwrap().number;
            mesh.operator.renew();
            until("another certificate is in use", || mesh.shared.identity().unwrap().number > before).await;
            assert_eq!(mesh.app.get("http://payments.bank/a").await.status, 200);
            assert_eq!((payments.served.get(), payments.connections.get()), (2, 2));
            assert!(payments.refused.borrow().is_empty(), "{:?}", payments.refused.borrow());
        })
        .await;
    }
}

#[tokio::test]
async fn short_lives_renew_by_themselves() {
    local(async {
        let mesh = Mesh::start_with(Between::H1, Duration::from_secs(6)).await;
        mesh.issuer.life.set(2);
        mesh.serve("payments", Mtls).await;
        let load = Load::start(&mesh.app, 4).await;
        until("a renewal", || mesh.operator.with(|state| state.renewals) >= 1).await;
        until("refreshed tokens", || mesh.issuer.issued.get() >= 5).await;
        assert!(load.stop().await > 4);
    })
    .await;
}

#[tokio::test]
async fn calls_go_on_while_the_operator_is_away_and_a_new_destination_is_unknown() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        // Refreshed in vain while the new destination is waited for.
        mesh.issuer.life.set(10);
        mesh.serve("payments", Mtls).await;
        mesh.serve("ledger", Mtls).await;
        assert_eq!(mesh.app.get("http://payments.bank/a").await.status, 200);
        mesh.operator.set_away(true);
        *mesh.issuer.refuse.borrow_mut() = Some("");
        until("the stream is gone", || mesh.operator.with(|state| state.open_streams) == 0).await;
        let answer = mesh.app.get("http://ledger.bank/a").await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (503, "destination_unknown"));
        assert_eq!(mesh.app.get("http://payments.bank/a").await.status, 200);
        mesh.operator.set_away(false);
        *mesh.issuer.refuse.borrow_mut() = None;
        until("the stream is back", || mesh.operator.with(|state| state.open_streams) == 1).await;
        let mut status = 0;
        for _ in 0..100 {
            status = mesh.app.get("http://ledger.bank/a").await.status.as_u16();
            if status == 200 {
                break;
            }
        }
        assert_eq!(status, 200, "what was asked while it was away is asked again");
        let hello = mesh.operator.with(|state| state.hellos.last().cloned()).unwrap();
        assert_eq!(hello.applied_order, 1);
    })
    .await;
}

#[tokio::test]
async fn a_token_serves_until_its_end_and_not_after_it() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        mesh.issuer.life.set(3);
        let payments = mesh.serve("payments", Mtls).await;
        let begun = crate::clock::monotonic();
        assert_eq!(mesh.app.get("http://payments.bank/a").await.status, 200);
        *mesh.issuer.refuse.borrow_mut() = Some("");
        let mut calls = 0;
        let refused = loop {
            let answer = mesh.app.get("http://payments.bank/a").await;
            if answer.status != 200 {
                break answer;
            }
            calls += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert_eq!((refused.status.as_u16(), refused.error().as_str()), (503, "token_unavailable"));
        let lasted = begun.elapsed();
        assert!(calls > 2 && lasted > Duration::from_millis(1900), "{calls} calls in {lasted:?}");
        assert!(payments.refused.borrow().is_empty(), "{:?}", payments.refused.borrow());
    })
    .await;
}

#[tokio::test]
async fn an_issuer_that_is_away_holds_up_the_rotation_not_the_calls() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        mesh.serve("payments", Mtls).await;
        let load = Load::start(&mesh.app, 4).await;
        until("calls", || load.calls.get() > 10).await;
        let before = mesh.shared.identity().unwrap().number;
        *mesh.issuer.refuse.borrow_mut() = Some("");
        mesh.operator.renew();
        until("a renewal", || mesh.operator.with(|state| state.renewals) == 1).await;
        let calls = load.calls.get();
        until("calls go on", || load.calls.get() >= calls + 50).await;
        assert_eq!(mesh.shared.identity().unwrap().number, before, "the old certificate is still in use");
        *mesh.issuer.refuse.borrow_mut() = None;
        until("the new certificate is in use", || mesh.shared.identity().unwrap().number > before).await;
        load.stop().await;
    })
    .await;
}

#[tokio::test]
async fn new_roots_mean_new_connections_with_the_same_token() {
    for between in BOTH {
        local(async {
            let mesh = Mesh::start(between).await;
            let payments = mesh.serve("payments", Mtls).await;
            assert_eq!(mesh.app.get("http://payments.bank/a").await.status, 200);
            let before = mesh.shared.identity().unwrap().number;
            let pem = mesh.authority.wider_pem();
            mesh.operator.say(Kind::TrustBundle(control::pb::TrustBundle { digest: "b2".into(), pem }));
            until("the roots are in use", || mesh.shared.identity().unwrap().number > before).await;
            assert_eq!(mesh.app.get("http://payments.bank/a").await.status, 200);
            assert_eq!((payments.connections.get(), mesh.issuer.issued.get()), (2, 1));
        })
        .await;
    }
}
