//! Handles of calls in progress: who gets one, and what becomes of it.

use std::{rc::Rc, sync::Arc};

use control::tls::Identity;
use fapi::{
    Mode,
    SenderConstraint::{Dpop, Mtls},
    TokenHash, UnixTime,
};
use http::{HeaderMap, HeaderValue};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::{
    contexts::Subject,
    outbound::Between,
    testing::{
        app::{Answer, get},
        local,
        mesh::{Mesh, by_exchange, meshed_at},
        side::{Side, Speaks, caller, raw},
        until,
    },
};

const WEB: &str = "spiffe://bank.example/ns/bank/sa/web";
const SHOP: &str = "spiffe://bank.example/ns/bank/sa/shop";

/// The inbound side of shop, whose outbound side is the mesh's. It takes calls of web and hands them on.
async fn shop(mesh: &Mesh) -> (Rc<Side>, Arc<Identity>, String) {
    let shared = mesh.shared.clone();
    let side = Side::around(shared, &mesh.authority, &mesh.issuer, "shop", Mtls, Speaks::Http1).await;
    side.hands_on.set(true);
    side.apply("web", Mode::Enforce);
    let (identity, token) = caller(mesh, "web", "https://shop.bank").await;
    (side, identity, token)
}

/// A call of web that has begun: its app waits for the second half of the body.
async fn begin(side: &Side, identity: &Identity, token: &str, extra: &[&str]) -> (TlsStream<TcpStream>, HeaderMap) {
    let before = side.app.count();
    let mut stream = side.dial(identity, b"http/1.1").await;
    let authorization = format!("Authorization: Bearer {token}");
    let mut head =
        vec!["POST /a HTTP/1.1", "Host: shop.bank", "Content-Length: 4", "Connection: close", &authorization];
    head.extend(extra);
    stream.write_all(&raw(&head)).await.unwrap();
    stream.write_all(b"bo").await.unwrap();
    until("the app has the call", || side.app.count() > before).await;
    let headers = side.app.requests.borrow().last().unwrap().1.clone();
    (stream, headers)
}

/// Ends it.
async fn finish(mut stream: TlsStream<TcpStream>) -> String {
    stream.write_all(b"dy").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn hand_on(mesh: &Mesh, context: &HeaderValue) -> Answer {
    let mut request = get("http://ledger.bank/a");
    request.headers_mut().insert("x-fapi-context", context.clone());
    mesh.app.call(request).await
}

#[tokio::test]
async fn a_call_is_handed_on_for_as_long_as_it_lasts() {
    for (between, constraint) in [(Between::H1, Mtls), (Between::H2, Dpop)] {
        local(async {
            let mesh = Mesh::start(between).await;
            let (shop, identity, token) = shop(&mesh).await;
            let ledger = Side::start(&mesh, "ledger", constraint, Speaks::Http1).await;
            let workload = crate::testing::authority::workload("ledger");
            let kind = by_exchange(meshed_at("ledger", &workload, constraint, &[ledger.address]));
            mesh.operator.set_destination("ledger.bank", kind);

            let (stream, headers) = begin(&shop, &identity, &token, &[]).await;
            let context = headers["x-fapi-context"].clone();
            assert_eq!(hand_on(&mesh, &context).await.status, 200);
            let (_, seen) = ledger.app.only();
            assert_eq!(
                (&seen["x-fapi-caller"], &seen["x-fapi-client-id"]),
                (&SHOP.parse().unwrap(), &SHOP.parse().unwrap())
            );
            assert_eq!(seen["x-fapi-subject"], WEB, "for whom");
            assert!(!seen.contains_key("x-fapi-context"), "it never leaves the pod");

            let answer = finish(stream).await;
            assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("x-fapi-context"), "{answer}");
            until("the call has ended", || shop.shared.contexts.len() == 0).await;
            let late = hand_on(&mesh, &context).await;
            assert_eq!((late.status.as_u16(), late.error()), (503, "token_unavailable".to_owned()));
            assert_eq!(ledger.app.count(), 1);
        })
        .await;
    }
}

#[tokio::test]
async fn no_handle_comes_from_the_network() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let (shop, identity, token) = shop(&mesh).await;
        let (first, headers) = begin(&shop, &identity, &token, &[]).await;
        let living = headers["x-fapi-context"].to_str().unwrap().to_owned();
        let forged = [format!("X-Fapi-Context: {living}"), format!("x_fapi_context: {living}")];
        let (second, headers) = begin(&shop, &identity, &token, &forged.each_ref().map(String::as_str)).await;
        let given: Vec<_> = headers.get_all("x-fapi-context").iter().collect();
        assert_eq!(given.len(), 1);
        assert_ne!(given[0], living.as_str(), "each call has its own");
        assert!(!headers.contains_key("x_fapi_context"));
        assert_eq!(shop.shared.contexts.len(), 2);
        finish(second).await;
        drop(first);
        until("a caller that leaves ends its call", || shop.shared.contexts.len() == 0).await;
    })
    .await;
}

#[tokio::test]
async fn only_proven_calls_of_an_app_that_hands_on_have_one() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let (shop, identity, token) = shop(&mesh).await;
        shop.apply("ledger", Mode::Audit);
        let (stream, headers) = begin(&shop, &identity, &token, &[]).await;
        assert!(!headers.contains_key("x-fapi-context"), "what is only observed proves nothing");
        finish(stream).await;
        shop.hands_on.set(false);
        shop.apply("web", Mode::Enforce);
        let (stream, headers) = begin(&shop, &identity, &token, &[]).await;
        assert!(headers.contains_key("x-fapi-caller") && !headers.contains_key("x-fapi-context"));
        finish(stream).await;
    })
    .await;
}

#[tokio::test]
async fn without_room_a_call_passes_and_cannot_be_handed_on() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let (shop, identity, token) = shop(&mesh).await;
        let subject =
            || Subject { token: "t".into(), hash: TokenHash::of("t"), expires: UnixTime::from_secs(u64::MAX) };
        let contexts = &shop.shared.contexts;
        // Handles fall into the shards by chance: by now each of them is full.
        let failed = (0..100_000).filter(|_| contexts.begin(subject()).is_none()).count();
        assert_eq!(failed + contexts.len(), 100_000);
        let (stream, headers) = begin(&shop, &identity, &token, &[]).await;
        assert!(headers.contains_key("x-fapi-caller") && !headers.contains_key("x-fapi-context"));
        assert!(finish(stream).await.starts_with("HTTP/1.1 200 "));
        let metrics = shop.shared.render_metrics();
        assert!(metrics.contains("fapi_call_contexts_full_total 1\n") && metrics.contains("fapi_call_contexts 4096\n"));
    })
    .await;
}
