//! From one sidecar's app to another's, through both sidecars.

use std::sync::Arc;

use bytes::Bytes;
use control::tls::TrustBundle;
use fapi::{
    Mode,
    SenderConstraint::{Dpop, Mtls},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use hyper::body::Frame;

use crate::{
    outbound::Between,
    testing::{
        app::{get, read, request, streamed},
        local,
        mesh::Mesh,
        side::{Side, Speaks},
        until,
    },
};

const BOTH: [Between; 2] = [Between::H1, Between::H2];
const ID: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";
const SHOP: &str = "spiffe://bank.example/ns/bank/sa/shop";

#[tokio::test]
async fn the_app_is_told_who_calls_and_sees_no_credentials() {
    for (between, constraint) in BOTH.into_iter().flat_map(|between| [(between, Mtls), (between, Dpop)]) {
        local(async {
            let mesh = Mesh::start(between).await;
            let payments = Side::start(&mesh, "payments", constraint, Speaks::Http1).await;
            let mut asked = request("POST", "http://payments.bank/transfers?from=1", "money");
            asked.headers_mut().insert("x-fapi-interaction-id", HeaderValue::from_static(ID));
            let answer = mesh.app.call(asked).await;
            assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, "money"));
            assert_eq!(answer.header("x-fapi-interaction-id"), Some(ID), "not the one that the app made up");
            assert_eq!(answer.header("dpop-nonce"), None, "nonces are between sidecars");
            assert_eq!(answer.header("x-fapi-context"), None, "handles are between a sidecar and its app");
            let (target, headers) = payments.app.only();
            assert_eq!(target, "/transfers?from=1");
            assert_eq!(headers[header::HOST], "payments.bank");
            assert_eq!(
                (&headers["x-fapi-caller"], &headers["x-fapi-client-id"]),
                (&SHOP.parse().unwrap(), &SHOP.parse().unwrap())
            );
            assert_eq!(headers["x-fapi-interaction-id"], ID);
            for name in ["authorization", "dpop", "x-fapi-context", "x-fapi-subject"] {
                assert!(!headers.contains_key(name), "{name}");
            }
        })
        .await;
    }
}

#[tokio::test]
async fn grpc_keeps_its_trailers_and_its_protocol() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let payments = Side::start(&mesh, "payments", Mtls, Speaks::Http2).await;
        let (frames, mut asked) = streamed("POST", "http://payments.bank/bank.Payments/Transfer");
        asked.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        asked.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
        asked.headers_mut().remove(header::HOST);
        let mut app = mesh.app.http2().await;
        let answer = tokio::task::spawn_local(async move { read(app.send_request(asked).await.unwrap()).await });
        frames.send(Ok(Frame::data(Bytes::from_static(b"message")))).await.unwrap();
        let mut trailers = HeaderMap::new();
        for (name, value) in [("x-sum", "7"), ("x_fapi_caller", "spiffe://bank.example/ns/bank/sa/boss"), ("host", "x")]
        {
            trailers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        frames.send(Ok(Frame::trailers(trailers))).await.unwrap();
        drop(frames);
        let answer = answer.await.unwrap();
        assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, "message"));
        let trailers = answer.trailers.unwrap();
        assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &HeaderValue::from_static("7")), "no forged identity");
        let (target, headers) = payments.app.only();
        assert!(target.starts_with("http://payments.bank/"), "{target}: HTTP/2 to the app");
        assert_eq!(headers[header::TE], "trailers");
    })
    .await;
}

#[tokio::test]
async fn http2_to_an_app_without_it_goes_over_http1() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let payments = Side::start(&mesh, "payments", Mtls, Speaks::Http1).await;
        for at in 1..=5 {
            assert_eq!(mesh.app.get("http://payments.bank/a").await.status, 200);
            assert_eq!(payments.app.count(), at);
        }
        assert!(payments.app.connections.get() <= 2, "one that asked for HTTP/2, one that is reused");
    })
    .await;
}

#[tokio::test]
async fn a_change_of_policy_holds_for_the_next_request_of_a_living_connection() {
    for between in BOTH {
        local(async {
            let mesh = Mesh::start(between).await;
            let payments = Side::start(&mesh, "payments", Mtls, Speaks::Http1).await;
            let mut app = mesh.app.http1().await;
            for (caller, status) in [("shop", 200), ("ledger", 403), ("shop", 200)] {
                payments.apply(caller, Mode::Enforce);
                let answer = read(app.send_request(get("http://payments.bank/a")).await.unwrap()).await;
                assert_eq!(answer.status, status);
                app.ready().await.unwrap();
            }
            assert_eq!((payments.app.count(), mesh.issuer.issued.get()), (2, 1), "and for the same token");
        })
        .await;
    }
}

#[tokio::test]
async fn in_audit_a_bad_call_passes_without_identity() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let payments = Side::start(&mesh, "payments", Mtls, Speaks::Http1).await;
        payments.apply("ledger", Mode::Audit);
        let mut asked = get("http://payments.bank/a");
        asked.headers_mut().insert("x-fapi-caller", HeaderValue::from_static("spiffe://bank.example/ns/bank/sa/boss"));
        assert_eq!(mesh.app.call(asked).await.status, 200);
        let (_, headers) = payments.app.only();
        for name in ["x-fapi-caller", "x-fapi-client-id", "authorization"] {
            assert!(!headers.contains_key(name), "{name}");
        }
        // A token that is good does not help whom no rule names.
        assert_eq!(payments.would_refuse(), ["bank/payments: caller_not_allowed by bank/shop 1"]);
        payments.apply("shop", Mode::Audit);
        assert_eq!(mesh.app.get("http://payments.bank/a").await.status, 200);
        assert!(payments.would_refuse().is_empty(), "the policy says something else, and nobody was counted since");
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_no_rule_names_and_a_server_of_another_name_are_refused() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let payments = Side::start(&mesh, "payments", Mtls, Speaks::Http1).await;
        payments.apply("ledger", Mode::Enforce);
        assert_eq!(mesh.app.get("http://payments.bank/a").await.status, 403);
        // Another pod shows a certificate that is not of the service.
        let stranger = Side::alone(&mesh.authority, &mesh.issuer, "ledger", Mtls, Speaks::Http1).await;
        let kind = crate::testing::mesh::meshed_at(
            "payments",
            &crate::testing::authority::workload("payments"),
            Mtls,
            &[stranger.address],
        );
        mesh.operator.set_destination("other.bank", kind);
        let answer = mesh.app.get("http://other.bank/a").await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (503, "peer_identity_mismatch"));
        assert_eq!((payments.app.count(), stranger.app.count()), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn the_same_roots_again_end_no_connection() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let payments = Side::start(&mesh, "payments", Mtls, Speaks::Http1).await;
        assert_eq!(mesh.app.get("http://payments.bank/a").await.status, 200);
        payments.shared.install_bundle(mesh.authority.bundle()).unwrap();
        payments.inbound.tick();
        assert_eq!(mesh.app.get("http://payments.bank/a").await.status, 200);
        assert_eq!(payments.shared.metrics.handshakes.get(), 1);
    })
    .await;
}

#[tokio::test]
async fn only_the_end_of_a_root_ends_the_connections_that_it_vouched_for() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let payments = Side::start(&mesh, "payments", Mtls, Speaks::Http1).await;
        let (shared, authority) = (&payments.shared, &mesh.authority);
        let install = |pem: &str| {
            let bundle = TrustBundle::from_pem(shared.trust_domain(), pem).unwrap();
            shared.install_bundle(Arc::new(bundle)).unwrap();
            payments.inbound.tick();
        };
        // Vouched for by one root alone, by the first of two, and by the first of two others.
        for (handshakes, pem) in [(1, authority.wider_pem()), (1, authority.wider_pem()), (1, authority.pem.clone())] {
            assert_eq!(mesh.app.get("http://payments.bank/a").await.status, 200);
            assert_eq!(shared.metrics.handshakes.get(), handshakes, "the connection stays");
            install(&pem);
        }
        let open = || shared.metrics.inbound_connections.get();
        assert_eq!(open(), 1);
        install(&crate::testing::authority::Authority::new().pem);
        until("the connection has ended", || open() == 0).await;
    })
    .await;
}
