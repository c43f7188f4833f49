//! How often a server is asked for its keys, whatever callers send, and for how long its keys serve.

use std::rc::Rc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use tokio::task::{JoinSet, LocalSet};

use super::*;
use crate::random;

const CONNECTIONS: usize = 20;
const CALLS: usize = 50;

/// Time has gone by, for timers.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// The same token, by a key of an id that nobody has ever seen.
fn of_unknown_key(token: &str) -> String {
    let kid = URL_SAFE_NO_PAD.encode(random::bytes::<16>().unwrap());
    let header = json!({ "alg": "ES256", "kid": kid, "typ": "at+jwt" }).to_string();
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), token.split_once('.').unwrap().1)
}

/// A thousand calls over many connections, each with a key id of its own. All are refused.
async fn flood(side: &Rc<Side>, identity: &Arc<Identity>, token: &str) {
    let mut running = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (side, identity, token) = (Rc::clone(side), Arc::clone(identity), token.to_owned());
        running.spawn_local(async move {
            let mut caller = Caller::connect(&side, &identity).await;
            for _ in 0..CALLS {
                assert_eq!(caller.call(&of_unknown_key(&token)).await, (401, "invalid_token".to_owned()));
            }
        });
    }
    while let Some(one) = running.join_next().await {
        one.unwrap();
    }
}

#[tokio::test]
async fn n26_a_thousand_key_ids_that_nobody_knows_cause_one_fetch_in_a_cooldown() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let server = KeyServer::start().await;
        let side = Side::start(&mesh, "payments", Mtls, Speaks::Http1).await;
        side.apply_with("shop", Mode::Enforce, vec![external(&server)]);
        let (identity, peer) = member(&mesh, "shop").await;
        let token = server.mint(&peer, API);
        // Longer than a thousand calls take, and shorter than the test may last.
        let pace = Pace { cooldown: Duration::from_secs(100), ..PACE };
        let _keepers = keepers(&side.shared, pace, &server);
        until("keys", || has_keys(&side.shared, &server)).await;
        // The first fetch was at the start, the second is by the first of many calls after the cooldown.
        for (later, asked) in [(Duration::ZERO, 1), (pace.cooldown, 2)] {
            pass(later).await;
            flood(&side, &identity, &token).await;
            assert_eq!(server.asked.get(), asked);
            assert_eq!(call(&side, &identity, &token).await.0, 200, "nobody else pays for it");
            let refused = asked as usize * CONNECTIONS * CALLS;
            let metrics = side.shared.render_metrics();
            assert!(metrics.contains(&format!(r#"reason="key_not_found"}} {refused}"#)), "{metrics}");
        }
    })
    .await;
}

#[tokio::test]
async fn by_default_a_key_id_is_looked_for_every_ten_seconds_and_keys_serve_for_an_hour() {
    // Time goes by faster here than a test may last.
    let hours = async {
        let server = KeyServer::start().await;
        let shared = shared();
        let _keepers = keepers(&shared, Pace::default(), &server);
        until("keys", || has_keys(&shared, &server)).await;
        let unknown = async || shared.issuers.fresh(&server.issuer()).await;
        for (more, asked) in [(0, 1), (5, 1), (5, 2), (5, 2), (5, 3)] {
            pass(Duration::from_secs(more)).await;
            unknown().await;
            assert_eq!(server.asked.get(), asked, "a key id that is not known");
        }
        pass(Duration::from_secs(200)).await;
        assert_eq!(server.asked.get(), 3, "nobody has asked for any");
        *server.serves.borrow_mut() = Serves::Text(500, String::new());
        pass(Duration::from_secs(100)).await;
        until("keys are fetched again", || fetches(&shared).1 > 0).await;
        // A minute less than the hour since they came.
        pass(Duration::from_secs(3600 - 300 - 60)).await;
        let failed = fetches(&shared).1;
        until("another failure", || fetches(&shared).1 > failed).await;
        assert!(has_keys(&shared, &server), "they serve");
        pass(Duration::from_secs(60)).await;
        until("they are withdrawn", || !has_keys(&shared, &server)).await;
    };
    LocalSet::new().run_until(hours).await;
}
