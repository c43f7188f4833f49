//! WebSockets end when their connection would have had to.

use std::time::Duration;

use control::DestinationKind;
use fapi::{Revocation, Revoked, SenderConstraint::Mtls, UnixTime};
use http::{HeaderValue, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::{
    outbound::Between,
    testing::{app::get, authority::workload, local, mesh::Mesh},
};

/// Asks for a WebSocket and gives the app's end of it.
async fn websocket(mesh: &Mesh, url: &str) -> TokioIo<Upgraded> {
    let mut request = get(url);
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    request.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let mut answer = mesh.app.http1().await.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap())
}

/// Whether the other side ends it.
async fn is_ended(socket: &mut TokioIo<Upgraded>) -> bool {
    let mut more = [0; 1];
    // Closed or reset: both are an end.
    timeout(Duration::from_secs(10), socket.read(&mut more)).await.is_ok_and(|read| read.unwrap_or(0) == 0)
}

#[tokio::test]
async fn a_websocket_ends_when_its_server_is_revoked() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        mesh.serve("payments", Mtls).await;
        let mut socket = websocket(&mesh, "http://payments.bank/feed").await;
        socket.write_all(b"hello").await.unwrap();
        socket.read_exact(&mut [0; 5]).await.unwrap();
        let server = Revoked::SpiffeId(workload("payments"));
        let entry = Revocation::new(server, None, UnixTime::from_secs(u64::MAX)).unwrap();
        mesh.shared.install_revocations(1, [entry].into_iter().collect()).unwrap();
        assert!(is_ended(&mut socket).await);
    })
    .await;
}

#[tokio::test]
async fn a_websocket_ends_with_the_certificate_of_its_server() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let payments = mesh.serve("payments", Mtls).await;
        let short = mesh.authority.identity(&workload("payments"), Duration::from_secs(4));
        payments.rotate(&mesh.authority.bundle(), &short);
        let mut socket = websocket(&mesh, "http://payments.bank/feed").await;
        socket.write_all(b"hello").await.unwrap();
        socket.read_exact(&mut [0; 5]).await.unwrap();
        assert!(is_ended(&mut socket).await);
    })
    .await;
}

#[tokio::test]
async fn a_websocket_in_plaintext_ends_when_its_server_comes_into_the_mesh() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let listener = mesh.outside().await;
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let agreed = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello";
            stream.write_all(agreed).await.unwrap();
            // It never ends the connection itself.
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            std::future::pending::<()>().await;
        });
        let mut socket = websocket(&mesh, "http://old.example/feed").await;
        socket.read_exact(&mut [0; 5]).await.unwrap();
        mesh.operator.set_destination("old.example", DestinationKind::Unknown);
        assert!(is_ended(&mut socket).await);
    })
    .await;
}
