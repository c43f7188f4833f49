#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod introspection;
mod pace;

use control::{identity::peer_from_leaf, tls::Identity};
use fapi::{
    ClientIdClaim, Mode, Peer, SenderConstraint::Mtls, TokenTyp, WireCaller, WireExternal, WireMapping, WireResource,
};
use http::header::AUTHORIZATION;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::*;
use crate::{
    outbound::Between,
    testing::{
        app::{AppBody, get, read},
        authority::trust_domain,
        keys::{KeyServer, Serves},
        local,
        mesh::Mesh,
        side::{Side, Speaks, caller},
        until,
    },
};

/// Fast enough for a test, and nothing happens by itself.
const PACE: Pace = Pace {
    refresh: Duration::from_secs(3600),
    cooldown: Duration::ZERO,
    stale: Duration::from_secs(3600),
    answer: Duration::from_secs(5),
    wait: Duration::from_secs(5),
};

fn shared() -> Arc<Shared> {
    Shared::new(trust_domain(), crate::interception::Interception::None).unwrap().0
}

fn keepers(shared: &Arc<Shared>, pace: Pace, server: &KeyServer) -> Keepers {
    let keepers = Keepers::new(Arc::clone(shared), "/nowhere".into(), pace);
    keepers.set(&[server.document()]);
    keepers
}

fn has_keys(shared: &Shared, server: &KeyServer) -> bool {
    shared.keys().get(&server.issuer()).is_some()
}

fn fetches(shared: &Shared) -> (u64, u64) {
    (shared.metrics.key_fetches.succeeded.get(), shared.metrics.key_fetches.failed.get())
}

#[tokio::test]
async fn keys_are_found_by_metadata_at_either_place_or_where_the_issuer_says() {
    local(async {
        let server = KeyServer::start().await;
        for (rfc8414, direct) in [(true, false), (false, false), (false, true)] {
            server.rfc8414.set(rfc8414);
            // What is asked directly needs no metadata.
            *server.names.borrow_mut() = direct.then(|| "https://other".to_owned());
            let shared = shared();
            let keepers = Keepers::new(Arc::clone(&shared), "/nowhere".into(), PACE);
            let jwks_uri = direct.then(|| format!("{}/keys", server.url()));
            keepers.set(&[ExternalIssuer { jwks_uri, ..server.document() }]);
            shared.issuers.fresh(&server.issuer()).await;
            let keys = shared.keys();
            assert_eq!(keys.get(&server.issuer()).unwrap().len(), 1, "{rfc8414} {direct}: the other one is skipped");
        }
    })
    .await;
}

#[tokio::test]
async fn metadata_of_another_issuer_gives_no_keys() {
    local(async {
        let server = KeyServer::start().await;
        for other in [format!("{}/", server.url()), server.url().to_uppercase(), "https://other".to_owned()] {
            *server.names.borrow_mut() = Some(other);
            let shared = shared();
            let _keepers = keepers(&shared, PACE, &server);
            shared.issuers.fresh(&server.issuer()).await;
            assert_eq!((has_keys(&shared, &server), server.asked.get()), (false, 0));
            assert!(fetches(&shared).1 > 0);
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_no_key_set_is_not_taken_and_the_last_good_one_stays() {
    local(async {
        let server = KeyServer::start().await;
        let shared = shared();
        let pace = Pace { answer: Duration::from_millis(300), ..PACE };
        let _keepers = keepers(&shared, pace, &server);
        until("keys", || has_keys(&shared, &server)).await;
        let before = shared.keys();
        let jwk = server.key.borrow().public_jwk();
        let huge = serde_json::json!({"keys": [jwk], "more": "x".repeat(70_000)}).to_string();
        for bad in [
            Serves::Text(200, String::new()),
            Serves::Text(200, "{\"keys\":".to_owned()),
            Serves::Text(200, "<html><body>log in</body></html>".to_owned()),
            Serves::Text(200, "{\"keys\":[]}".to_owned()),
            Serves::Text(200, "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}".to_owned()),
            Serves::Text(200, huge),
            Serves::Text(503, "{}".to_owned()),
            Serves::Text(404, String::new()),
            Serves::Redirect,
            Serves::Silence,
        ] {
            *server.serves.borrow_mut() = bad.clone();
            let failed = fetches(&shared).1;
            shared.issuers.fresh(&server.issuer()).await;
            until("a failure", || fetches(&shared).1 > failed).await;
            let now = shared.keys();
            let issuer = server.issuer();
            assert!(Arc::ptr_eq(before.get(&issuer).unwrap(), now.get(&issuer).unwrap()), "{bad:?}");
        }
        server.rotate();
        *server.serves.borrow_mut() = Serves::Keys;
        // Its own next attempt is far by now; a request is sooner.
        shared.issuers.fresh(&server.issuer()).await;
        until("new keys", || {
            let now = shared.keys();
            !Arc::ptr_eq(before.get(&server.issuer()).unwrap(), now.get(&server.issuer()).unwrap())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_not_asked() {
    local(async {
        let (server, other) = (KeyServer::start().await, KeyServer::start().await);
        let shared = shared();
        let keepers = Keepers::new(Arc::clone(&shared), "/nowhere".into(), PACE);
        let by_address = server.document().issuer.replace("localhost", "127.0.0.1");
        for document in [
            ExternalIssuer { ca_bundle: other.document().ca_bundle, ..server.document() },
            ExternalIssuer { ca_bundle: None, ..server.document() },
            ExternalIssuer { issuer: by_address, ..server.document() },
        ] {
            keepers.set(std::slice::from_ref(&document));
            let issuer = Issuer::parse(&document.issuer).unwrap();
            shared.issuers.fresh(&issuer).await;
            assert!(shared.keys().get(&issuer).is_none(), "{document:?}");
        }
        assert_eq!((server.asked.get(), fetches(&shared).0), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn requests_wait_for_one_fetch_and_cause_none_in_close_succession() {
    local(async {
        let server = KeyServer::start().await;
        let shared = shared();
        let _keepers = keepers(&shared, Pace { cooldown: Duration::from_secs(3600), ..PACE }, &server);
        let waiting: Vec<_> = (0..50)
            .map(|_| {
                let (shared, issuer) = (Arc::clone(&shared), server.issuer());
                tokio::task::spawn_local(async move { shared.issuers.fresh(&issuer).await })
            })
            .collect();
        for one in waiting {
            one.await.unwrap();
        }
        assert_eq!((has_keys(&shared, &server), server.asked.get()), (true, 1));
        for _ in 0..50 {
            shared.issuers.fresh(&server.issuer()).await;
        }
        shared.issuers.fresh(&Issuer::parse("https://unknown").unwrap()).await;
        assert_eq!((server.asked.get(), fetches(&shared)), (1, (1, 0)));
    })
    .await;
}

#[tokio::test]
async fn a_silent_server_holds_a_request_up_no_longer_than_the_bound() {
    local(async {
        let server = KeyServer::start().await;
        *server.serves.borrow_mut() = Serves::Silence;
        let shared = shared();
        let _keepers = keepers(&shared, Pace { wait: Duration::from_millis(100), ..PACE }, &server);
        let begun = monotonic();
        shared.issuers.fresh(&server.issuer()).await;
        assert!(monotonic() - begun < PACE.answer, "it did not wait for the end of the fetch");
        assert!(!has_keys(&shared, &server));
    })
    .await;
}

#[tokio::test]
async fn keys_are_fetched_again_in_the_background_and_withdrawn_when_too_old() {
    local(async {
        let server = KeyServer::start().await;
        let shared = shared();
        let pace = Pace { refresh: Duration::from_millis(20), stale: Duration::from_millis(400), ..PACE };
        let _keepers = keepers(&shared, pace, &server);
        until("three refreshes", || fetches(&shared).0 > 3).await;
        let generation = shared.generation();
        until("three more", || fetches(&shared).0 > 6).await;
        assert_eq!(shared.generation(), generation, "the same keys again void nothing");
        *server.serves.borrow_mut() = Serves::Text(500, String::new());
        let failed = fetches(&shared).1;
        until("a failure", || fetches(&shared).1 > failed).await;
        until("they are withdrawn", || !has_keys(&shared, &server)).await;
        assert!(shared.generation() > generation, "what was proven with them is void");
        *server.serves.borrow_mut() = Serves::Keys;
        until("they are back", || has_keys(&shared, &server)).await;
    })
    .await;
}

#[tokio::test]
async fn an_issuer_that_no_policy_names_any_more_is_forgotten() {
    local(async {
        let server = KeyServer::start().await;
        let shared = shared();
        let keepers = keepers(&shared, PACE, &server);
        until("keys", || has_keys(&shared, &server)).await;
        keepers.set(&[server.document()]);
        assert!(has_keys(&shared, &server), "nothing has changed");
        assert_eq!(server.asked.get(), 1);
        keepers.set(&[]);
        assert!(!has_keys(&shared, &server));
        shared.issuers.fresh(&server.issuer()).await;
        assert_eq!(server.asked.get(), 1);
    })
    .await;
}

// === Through a whole sidecar ===

const API: &str = "https://api.bank.example";

/// The server as a policy of payments names it.
fn external(server: &KeyServer) -> WireExternal {
    let shop = WireCaller { namespace: "bank".to_owned(), service_account: Some("shop".to_owned()) };
    WireExternal {
        name: "bank-as".to_owned(),
        issuer: server.url(),
        resources: vec![WireResource { audience: API.to_owned(), origins: vec!["https://payments.bank".to_owned()] }],
        typ: TokenTyp::AccessToken,
        opaque: false,
        client_id_claim: ClientIdClaim::Azp,
        max_token_age: 900,
        scopes: None,
        clients: vec![WireMapping { client_id: "shop-7".to_owned(), callers: vec![shop] }],
    }
}

/// A call with this token over a connection of its own; the status and the error.
async fn call(side: &Side, identity: &Identity, token: &str) -> (u16, String) {
    Caller::connect(side, identity).await.call(token).await
}

/// A connection to payments that goes on.
struct Caller(http1::SendRequest<AppBody>);

impl Caller {
    async fn connect(side: &Side, identity: &Identity) -> Self {
        let stream = side.dial(identity, b"http/1.1").await;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::task::spawn_local(connection);
        Self(sender)
    }

    async fn call(&mut self, token: &str) -> (u16, String) {
        let mut request = get("http://payments.bank/a");
        *request.uri_mut() = "/a".parse().unwrap();
        request.headers_mut().insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        self.0.ready().await.unwrap();
        let answer = read(self.0.send_request(request).await.unwrap()).await;
        let error = if answer.status == 200 { String::new() } else { answer.error() };
        (answer.status.as_u16(), error)
    }
}

/// A certificate of a service account, and what the other side sees of it.
async fn member(mesh: &Mesh, account: &str) -> (Arc<Identity>, Peer) {
    let (identity, _) = caller(mesh, account, API).await;
    let peer = peer_from_leaf(identity.leaf().unwrap()).unwrap();
    (identity, peer)
}

#[tokio::test]
async fn a_token_of_an_external_issuer_is_admitted_with_its_key_fetched_on_the_way() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let server = KeyServer::start().await;
        let side = Side::start(&mesh, "payments", Mtls, Speaks::Http1).await;
        side.apply_with("shop", Mode::Enforce, vec![external(&server)]);
        let (identity, peer) = member(&mesh, "shop").await;
        let token = server.mint(&peer, API);
        let unavailable = (503, "temporarily_unavailable".to_owned());
        assert_eq!(call(&side, &identity, &token).await, unavailable, "nobody fetches its keys");
        let first = keepers(&side.shared, PACE, &server);
        assert_eq!(call(&side, &identity, &token).await.0, 200);
        let (_, headers) = side.app.only();
        assert_eq!(headers["x-fapi-client-id"], "shop-7");
        assert_eq!(headers["x-fapi-caller"], "spiffe://bank.example/ns/bank/sa/shop");
        // A key that is new to us.
        server.rotate();
        let rotated = server.mint(&peer, API);
        assert_eq!(call(&side, &identity, &rotated).await.0, 200);
        let refused = (401, "invalid_token".to_owned());
        assert_eq!(call(&side, &identity, &token).await, refused, "the old key is gone");
        // Another process begins with nothing, and a server that is down closes it.
        drop(first);
        side.shared.forget_keys(&server.issuer());
        *server.serves.borrow_mut() = Serves::Text(500, String::new());
        let again = keepers(&side.shared, PACE, &server);
        assert_eq!(call(&side, &identity, &rotated).await, unavailable);
        *server.serves.borrow_mut() = Serves::Keys;
        until("keys", || has_keys(&side.shared, &server)).await;
        assert_eq!(call(&side, &identity, &rotated).await.0, 200);
        // On the connection of another workload, and of a workload that is not the client's.
        let (ledger, other) = member(&mesh, "ledger").await;
        assert_eq!(call(&side, &ledger, &rotated).await, refused);
        assert_eq!(call(&side, &ledger, &server.mint(&other, API)).await, refused);
        assert_eq!(side.app.count(), 3);
        drop(again);
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_that_takes_the_mesh_s_issuer_for_an_external_one_is_refused() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let side = Side::start(&mesh, "payments", Mtls, Speaks::Http1).await;
        let applied = side.shared.applied().unwrap();
        let issuer = applied.snapshot.mesh_issuer.issuer.clone();
        let outside = |issuer: &str, ca_bundle: Option<&str>| ExternalIssuer {
            issuer: issuer.to_owned(),
            jwks_uri: None,
            ca_bundle: ca_bundle.map(str::to_owned),
            introspect_as: None,
        };
        for (external_issuers, reason) in [
            (vec![outside(&issuer, None)], "stands for another issuer"),
            (vec![outside("https://as", None), outside("https://as", None)], "stands for another issuer"),
            (vec![outside("http://as", None)], "externalIssuers[0].issuer"),
            (vec![outside("https://as", Some("none"))], "externalIssuers[0].caBundle"),
        ] {
            let snapshot = control::Snapshot { external_issuers, ..applied.snapshot.clone() };
            let refused = side.shared.apply("v9", 9.into(), snapshot).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
    })
    .await;
}
