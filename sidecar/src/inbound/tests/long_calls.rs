//! Calls that go on: they end when they would not be admitted any more.

use std::time::Duration;

use bytes::Bytes;
use fapi::{Mode, SenderConstraint::Mtls, UnixTime};
use http::{StatusCode, header};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::LocalSet,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use crate::{
    outbound::Between,
    testing::{
        app::{get, read, streamed},
        local,
        mesh::Mesh,
        side::{Side, Speaks, caller, raw},
        until,
    },
};

/// What ends at once has ended by then, on the busiest machine.
const SOON: Duration = Duration::from_secs(60);

/// A WebSocket through both sidecars.
async fn websocket(mesh: &Mesh) -> TokioIo<hyper::upgrade::Upgraded> {
    let mut asked = get("http://payments.bank/ws");
    asked.headers_mut().insert(header::CONNECTION, "upgrade".parse().unwrap());
    asked.headers_mut().insert(header::UPGRADE, "websocket".parse().unwrap());
    let answer = mesh.app.http1().await.send_request(asked).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(answer.headers()[header::UPGRADE], "websocket");
    TokioIo::new(hyper::upgrade::on(answer).await.unwrap())
}

#[tokio::test]
async fn a_websocket_passes_and_ends_with_its_admission() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let payments = Side::start(&mesh, "payments", Mtls, Speaks::Http1).await;
        let mut socket = websocket(&mesh).await;
        let mut heard = [0; 5];
        for _ in 0..3 {
            socket.write_all(b"hello").await.unwrap();
            socket.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"hello");
        }
        // A change that leaves it admitted leaves it alone.
        payments.apply("shop", Mode::Enforce);
        socket.write_all(b"still").await.unwrap();
        socket.read_exact(&mut heard).await.unwrap();
        payments.apply("ledger", Mode::Enforce);
        let mut rest = Vec::new();
        // Broken off or ended in order: it is over.
        let _ = socket.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
        assert_eq!(payments.app.count(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_websocket_ends_with_its_token() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        mesh.issuer.life.set(3);
        Side::start(&mesh, "payments", Mtls, Speaks::Http1).await;
        let mut socket = websocket(&mesh).await;
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_open_upload_breaks_off_when_its_call_is_no_longer_admitted() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let payments = Side::start(&mesh, "payments", Mtls, Speaks::Http1).await;
        let (frames, asked) = streamed("POST", "http://payments.bank/a");
        let mut app = mesh.app.http1().await;
        let answer = tokio::task::spawn_local(async move {
            let answer = app.send_request(asked).await?;
            let status = answer.status();
            http_body_util::BodyExt::collect(answer.into_body()).await.map(|_| status)
        });
        frames.send(Ok(Frame::data(Bytes::from_static(b"begun")))).await.unwrap();
        until("the app has it", || payments.app.count() == 1).await;
        payments.apply("ledger", Mode::Enforce);
        let answer = answer.await.unwrap();
        // Broken off before the app has begun to answer, it is answered by the sidecar.
        assert!(answer.is_err() || matches!(answer, Ok(StatusCode::BAD_GATEWAY)), "{answer:?}");
    })
    .await;
}

/// A call over a connection of its own that declares a body of `length` bytes and has sent two of them.
async fn begun(mesh: &Mesh, payments: &Side, length: u64) -> TlsStream<TcpStream> {
    let (identity, token) = caller(mesh, "shop", "https://payments.bank").await;
    let mut stream = payments.dial(&identity, b"http/1.1").await;
    let length = format!("Content-Length: {length}");
    let authorization = format!("Authorization: Bearer {token}");
    let head = raw(&["POST /a HTTP/1.1", "Host: payments.bank", &length, &authorization]);
    stream.write_all(&head).await.unwrap();
    stream.write_all(b"be").await.unwrap();
    until("the app has it", || payments.app.count() == 1).await;
    stream
}

#[tokio::test]
async fn a_declared_length_does_not_keep_a_call_from_being_judged_again() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let payments = Side::start(&mesh, "payments", Mtls, Speaks::Http1).await;
        let mut stream = begun(&mesh, &payments, 9_007_199_254_740_991).await;
        payments.apply("ledger", Mode::Enforce);
        let _ = timeout(SOON, stream.read_to_end(&mut Vec::new())).await.expect("it ends with the policy");
    })
    .await;
}

#[tokio::test]
async fn an_upload_ends_with_its_token_though_there_is_always_more_of_it() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let payments = Side::start(&mesh, "payments", Mtls, Speaks::Http1).await;
        let mut stream = begun(&mesh, &payments, 1 << 40).await;
        payments.shared.clock.set(UnixTime::from_secs(payments.shared.clock.now().as_secs() + 2 * 3600));
        stream.write_all(b"more").await.unwrap();
        let _ = timeout(SOON, stream.read_to_end(&mut Vec::new())).await.expect("it ends with the token");
    })
    .await;
}

#[tokio::test]
async fn a_short_body_has_one_wait_for_all_of_it() {
    // Time is the test's own here, so it is no limit.
    let test = async {
        let mesh = Mesh::start(Between::H2).await;
        let payments = Side::start(&mesh, "payments", Mtls, Speaks::Http1).await;
        let mut stream = begun(&mesh, &payments, 100).await;
        tokio::time::pause();
        let mut minutes = 0;
        while minutes < 40 && stream.write_all(b"g").await.is_ok() && stream.flush().await.is_ok() {
            tokio::time::sleep(Duration::from_secs(60)).await;
            minutes += 1;
        }
        assert!((9..20).contains(&minutes), "10 minutes, and not 10 after each byte: {minutes}");
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_call_in_progress_ends_in_peace_when_the_sidecar_does() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let payments = Side::start(&mesh, "payments", Mtls, Speaks::Http1).await;
        let (frames, asked) = streamed("POST", "http://payments.bank/a");
        let mut app = mesh.app.http1().await;
        let answer = tokio::task::spawn_local(async move { read(app.send_request(asked).await.unwrap()).await });
        frames.send(Ok(Frame::data(Bytes::from_static(b"be")))).await.unwrap();
        until("the app has it", || payments.app.count() == 1).await;
        payments.inbound.close();
        assert!(!payments.inbound.is_empty());
        frames.send(Ok(Frame::data(Bytes::from_static(b"gun")))).await.unwrap();
        drop(frames);
        assert_eq!(answer.await.unwrap().text, "begun");
        until("the connection has ended", || payments.inbound.is_empty()).await;
    })
    .await;
}
