//! Revocation under living connections.

use fapi::{
    Issuer, Revocation, Revocations, Revoked,
    SenderConstraint::{Dpop, Mtls},
    UnixTime,
};
use http::{HeaderValue, Request, StatusCode, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    outbound::Between,
    testing::{
        app::{get, read},
        authority::workload,
        local,
        mesh::Mesh,
        peer::TestBody,
        side::{Side, Speaks, caller, raw},
        until,
    },
};

const BOTH: [Between; 2] = [Between::H1, Between::H2];

fn of(revoked: Revoked) -> Revocations {
    let entry = Revocation::new(revoked, None, UnixTime::from_secs(u64::MAX)).unwrap();
    [entry].into_iter().collect()
}

#[tokio::test]
async fn the_next_request_of_a_living_connection_is_refused_though_its_token_is_proven() {
    for (between, constraint) in BOTH.into_iter().flat_map(|between| [(between, Mtls), (between, Dpop)]) {
        local(async {
            let mesh = Mesh::start(between).await;
            let payments = Side::start(&mesh, "payments", constraint, Speaks::Http1).await;
            let mut app = mesh.app.http1().await;
            let mut call = async || {
                let answer = read(app.send_request(get("http://payments.bank/a")).await.unwrap()).await;
                app.ready().await.unwrap();
                answer.status
            };
            assert_eq!(call().await, 200);
            assert_eq!(call().await, 200);
            let client = Revoked::Client {
                issuer: Issuer::parse(&mesh.issuer.url()).unwrap(),
                id: workload("shop").as_str().into(),
            };
            payments.shared.install_revocations(1, of(client)).unwrap();
            let handshakes = payments.shared.metrics.handshakes.get();
            assert_eq!(call().await, 401);
            assert_eq!(payments.app.count(), 2);
            let metrics = payments.shared.render_metrics();
            assert!(metrics.contains(r#"outcome="refused",reason="revoked"} 1"#), "{metrics}");
            assert_eq!(payments.shared.metrics.handshakes.get(), handshakes, "on the same connection");
            payments.shared.install_revocations(2, Revocations::none()).unwrap();
            assert_eq!(call().await, 200);
        })
        .await;
    }
}

#[tokio::test]
async fn a_revoked_peer_is_refused_on_its_connection_and_then_loses_it() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let payments = Side::start(&mesh, "payments", Mtls, Speaks::Http1).await;
        let (identity, token) = caller(&mesh, "shop", "https://payments.bank").await;
        let stream = TokioIo::new(payments.dial(&identity, b"http/1.1").await);
        let (mut sender, connection) = http1::handshake::<_, TestBody>(stream).await.unwrap();
        let connection = tokio::task::spawn_local(connection);
        let mut status = async || {
            let mut asked =
                Request::get("/a").header(header::HOST, "payments.bank").body(TestBody::Text(None)).unwrap();
            let authorization = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
            asked.headers_mut().insert(header::AUTHORIZATION, authorization);
            let answer = sender.send_request(asked).await.unwrap();
            let status = answer.status();
            http_body_util::BodyExt::collect(answer.into_body()).await.unwrap();
            sender.ready().await.unwrap();
            status
        };
        assert_eq!(status().await, 200);
        payments.shared.install_revocations(1, of(Revoked::SpiffeId(workload("shop")))).unwrap();
        assert_eq!(status().await, 401);
        payments.inbound.tick();
        connection.await.unwrap().unwrap();
        until("the connection has ended", || payments.shared.metrics.inbound_connections.get() == 0).await;
        // A new one is not even begun, and others come as before.
        let mut refused = payments.dial(&identity, b"http/1.1").await;
        let _ = refused.write_all(&raw(&["GET /a HTTP/1.1", "host: payments.bank"])).await;
        let mut nothing = Vec::new();
        let _ = refused.read_to_end(&mut nothing).await;
        assert!(nothing.is_empty());
        let metrics = payments.shared.render_metrics();
        assert!(metrics.contains(r#"fapi_handshakes_total{outcome="refused",reason="revoked"} 1"#), "{metrics}");
        let (other, _) = caller(&mesh, "ledger", "https://payments.bank").await;
        let accepted = payments.shared.metrics.handshakes.get();
        let _open = payments.dial(&other, b"http/1.1").await;
        until("others come as before", || payments.shared.metrics.handshakes.get() > accepted).await;
    })
    .await;
}

#[tokio::test]
async fn a_websocket_ends_with_the_revocation_of_its_token() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let payments = Side::start(&mesh, "payments", Mtls, Speaks::Http1).await;
        let mut asked = get("http://payments.bank/ws");
        asked.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        asked.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        let answer = mesh.app.http1().await.send_request(asked).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        let mut socket = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
        let mut heard = [0; 5];
        let token = |id: &str| Revoked::Token { issuer: Issuer::parse(&mesh.issuer.url()).unwrap(), id: id.into() };
        // Another token is another's business.
        payments.shared.install_revocations(1, of(token("another"))).unwrap();
        socket.write_all(b"still").await.unwrap();
        socket.read_exact(&mut heard).await.unwrap();
        // The issuer of the test counts its tokens from 0.
        payments.shared.install_revocations(2, of(token("0"))).unwrap();
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_revoked_server_is_not_spoken_to_any_more() {
    for between in BOTH {
        local(async {
            let mesh = Mesh::start(between).await;
            let payments = Side::start(&mesh, "payments", Mtls, Speaks::Http1).await;
            assert_eq!(mesh.app.get("http://payments.bank/a").await.status, 200);
            let leaf = payments.shared.identity().unwrap().identity.leaf().unwrap().clone();
            let certificate = Revoked::Certificate(fapi::CertThumbprint::of_der(&leaf));
            mesh.shared.install_revocations(1, of(certificate)).unwrap();
            until("the open connection has ended", || mesh.shared.metrics.peer_connections.get() == 0).await;
            let answer = mesh.app.get("http://payments.bank/a").await;
            assert_eq!((answer.status.as_u16(), answer.error().as_str()), (503, "peer_identity_mismatch"));
            assert_eq!(payments.app.count(), 1);
        })
        .await;
    }
}
