//! Tokens that only their issuer can read, through a whole sidecar.

use std::rc::Rc;

use super::*;
use crate::testing::desk::Says;

/// payments, which takes opaque tokens of a server outside.
struct World {
    mesh: Mesh,
    server: Rc<KeyServer>,
    side: Rc<Side>,
    identity: Arc<Identity>,
    peer: Peer,
    keepers: Keepers,
}

impl World {
    async fn start() -> Self {
        let mesh = Mesh::start(Between::H1).await;
        let server = KeyServer::start_for(Some(&mesh.authority)).await;
        let side = Side::start(&mesh, "payments", Mtls, Speaks::Http1).await;
        side.apply_with("shop", Mode::Enforce, vec![WireExternal { opaque: true, ..external(&server) }]);
        let keepers = Keepers::new(Arc::clone(&side.shared), "/nowhere".into(), PACE);
        keepers.set(&[ExternalIssuer { introspect_as: Some("payments".to_owned()), ..server.document() }]);
        let (identity, peer) = member(&mesh, "shop").await;
        Self { mesh, server, side, identity, peer, keepers }
    }

    async fn call(&self, token: &str) -> (u16, String) {
        call(&self.side, &self.identity, token).await
    }

    /// A token that the server knows, bound to shop's certificate.
    fn token(&self) -> String {
        self.server.desk.opaque(&self.server.url(), &self.peer, API)
    }
}

const UNAVAILABLE: (u16, &str) = (503, "temporarily_unavailable");

fn is(answer: &(u16, String), expected: (u16, &str)) -> bool {
    (answer.0, answer.1.as_str()) == expected
}

#[tokio::test]
async fn an_opaque_token_is_asked_about_once_by_our_certificate() {
    // Signed answers are for the client that asks, or for the resource as tokens call it.
    for signed in [None, Some("payments"), Some(API)] {
        local(async {
            let world = World::start().await;
            *world.server.desk.signs_for.borrow_mut() = signed;
            let token = world.token();
            for _ in 0..3 {
                // Each on a connection of its own.
                assert_eq!(world.call(&token).await, (200, String::new()), "signed for: {signed:?}");
            }
            let brought = world.server.desk.last();
            assert_eq!((world.server.desk.count(), brought.fields["token"].as_str()), (1, token.as_str()));
            assert_eq!(brought.fields["client_id"], "payments");
            assert_eq!(brought.peer.unwrap().spiffe_id, crate::testing::authority::workload("payments"));
            let requests = world.side.app.requests.borrow();
            assert_eq!(requests[0].1["x-fapi-client-id"], "shop-7");
            assert_eq!(world.side.shared.metrics.introspections.succeeded.get(), 1);
        })
        .await;
    }
}

#[tokio::test]
async fn a_signed_answer_for_another_resource_server_says_nothing() {
    local(async {
        let world = World::start().await;
        for other in ["ledger", "https://other.example", "shop-7", ""] {
            *world.server.desk.signs_for.borrow_mut() = Some(other);
            assert!(is(&world.call(&world.token()).await, UNAVAILABLE), "{other}");
        }
        assert_eq!(world.side.app.count(), 0);
    })
    .await;
}

#[tokio::test]
async fn many_calls_wait_for_one_question() {
    local(async {
        let world = Rc::new(World::start().await);
        let token = world.token();
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (world, token) = (Rc::clone(&world), token.clone());
            running.spawn_local(async move { world.call(&token).await.0 });
        }
        while let Some(status) = running.join_next().await {
            assert_eq!(status.unwrap(), 200);
        }
        assert_eq!(world.server.desk.count(), 1);
    })
    .await;
}

#[tokio::test]
async fn what_the_issuer_does_not_know_or_binds_to_others_is_refused() {
    local(async {
        let world = World::start().await;
        let refused = (401, "invalid_token");
        assert!(is(&world.call("unknown-token").await, refused), "it is not active");
        assert!(is(&world.call("unknown-token").await, refused));
        assert_eq!(world.server.desk.count(), 1, "nor is it asked about again");
        let (_, other) = member(&world.mesh, "ledger").await;
        let stolen = world.server.desk.opaque(&world.server.url(), &other, API);
        assert!(is(&world.call(&stolen).await, refused));
        let elsewhere = world.server.desk.opaque(&world.server.url(), &world.peer, "https://other.example");
        assert!(is(&world.call(&elsewhere).await, refused));
        // A workload that is no client of the issuer cannot even have it asked.
        let asked = world.server.desk.count();
        let (ledger, _) = member(&world.mesh, "ledger").await;
        assert!(is(&call(&world.side, &ledger, "another-token").await, refused));
        assert_eq!((world.server.desk.count(), world.side.app.count()), (asked, 0));
    })
    .await;
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_in_order_closes_the_port_and_may_come_back() {
    let text = |status: u16, body: &str| Says::Text(status, None, body.to_owned());
    let signed =
        |body: &str| Says::Text(200, Some(("content-type", "application/token-introspection+jwt")), body.to_owned());
    local(async {
        let world = World::start().await;
        for says in [
            text(500, "{}"),
            text(401, "{\"error\":\"invalid_client\"}"),
            text(200, ""),
            text(200, "<html>"),
            text(200, "{}"),
            text(200, "{\"active\":\"true\"}"),
            Says::Text(302, Some(("location", "/elsewhere")), String::new()),
            signed("a.b.c"),
            signed(&world.server.mint(&world.peer, API)),
            Says::Silence,
        ] {
            *world.server.desk.says.borrow_mut() = says.clone();
            let token = world.token();
            assert!(is(&world.call(&token).await, UNAVAILABLE), "{says:?}");
            *world.server.desk.says.borrow_mut() = Says::Good;
            let mut status = 0;
            for _ in 0..200 {
                status = world.call(&token).await.0;
                if status == 200 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert_eq!(status, 200, "after {says:?}");
        }
    })
    .await;
}

/// Introspection has no push: what the server takes back counts for as long as its last answer does.
#[tokio::test]
async fn an_answer_counts_for_thirty_seconds_and_never_beyond_the_token() {
    local(async {
        let world = World::start().await;
        let (server, clock) = (&world.server.desk, &world.side.shared.clock);
        let begun = clock.now();
        let at = |seconds: u64| {
            clock.set(begun.plus(seconds));
            assert_eq!(clock.now(), begun.plus(seconds));
        };
        server.clock.set(begun);
        at(0);
        let token = world.token();
        let mut living = Caller::connect(&world.side, &world.identity).await;
        // Its token ends after 300 seconds, and with it the answer that is then 10 seconds old.
        for (seconds, asked) in [(0, 1), (29, 1), (30, 2), (59, 2), (60, 3), (290, 4), (299, 4)] {
            at(seconds);
            for answer in [world.call(&token).await, living.call(&token).await] {
                assert_eq!(answer, (200, String::new()), "after {seconds} s");
            }
            assert_eq!(server.count(), asked, "after {seconds} s");
        }
        *server.says.borrow_mut() = Says::Text(200, None, "{\"active\":false}".to_owned());
        assert_eq!(living.call(&token).await.0, 200, "it was not asked");
        at(300);
        for answer in [living.call(&token).await, world.call(&token).await] {
            assert!(is(&answer, (401, "invalid_token")), "{answer:?}");
        }
        assert_eq!(server.count(), 5);
    })
    .await;
}

#[tokio::test]
async fn without_a_client_of_its_own_a_sidecar_asks_nobody() {
    local(async {
        let world = World::start().await;
        world.keepers.set(&[world.server.document()]);
        assert!(is(&world.call(&world.token()).await, UNAVAILABLE));
        assert_eq!(world.server.desk.count(), 0);
    })
    .await;
}
