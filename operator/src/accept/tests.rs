#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use super::*;
use crate::testing::mesh::{Mesh, SOON};

/// Room for two strangers from one address.
const PLACES: Places = Places { all: 16, strangers: 4, of_a_pod: 2 };

/// A server of the mesh that greets whoever has come in, and then says nothing.
async fn server(mesh: &Mesh) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = |connection: Connection| async move {
        let (mut stream, _, ending) = connection.split();
        let _ = stream.write_all(b"hi").await;
        ending.reached().await;
    };
    let running =
        run(listener, mesh.tls(&[b"h2"]), Room::Members(PLACES), mesh.clock.clone(), mesh.shutdown.subscribe(), serve);
    tokio::spawn(async { running.await.unwrap() });
    address
}

/// A connection from another address of this machine, on which nobody speaks.
async fn silent(from: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, from], 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// What is heard next; nothing if the connection has ended.
async fn hear(mut stream: impl AsyncRead + Unpin) -> String {
    let mut heard = [0; 2];
    let read = timeout(SOON, stream.read_exact(&mut heard)).await.unwrap();
    read.map_or_else(|_| String::new(), |_| String::from_utf8(heard.into()).unwrap())
}

/// Whether a connection is open, on which nothing is said.
async fn is_open(mut stream: impl AsyncRead + Unpin) -> bool {
    timeout(Duration::ZERO, stream.read(&mut [0])).await.is_err()
}

#[tokio::test]
async fn members_come_in_however_many_connections_strangers_hold() {
    let mesh = Mesh::start().await;
    let address = server(&mesh).await;
    let mut strangers = Vec::new();
    for from in 2..6 {
        strangers.push(silent(from, address).await);
    }
    let mut members = Vec::new();
    for name in ["shop-1", "payments-1", "ledger-1", "web-1"] {
        let member = mesh.member(name);
        let mut stream = mesh.connect(address, Some(&member.identity), &[b"h2"]).await.unwrap();
        assert_eq!(hear(&mut stream).await, "hi", "{name}");
        members.push(stream);
    }
    assert_eq!(hear(&mut strangers[0]).await, "", "the oldest made room for a handshake");
    assert!(is_open(&mut strangers[1]).await, "one that has shown its certificate takes no room of strangers");
    strangers.push(silent(6, address).await);
    strangers.push(silent(7, address).await);
    assert_eq!(hear(&mut strangers[1]).await, "");
    for stream in members {
        assert!(is_open(stream).await, "they are no strangers");
    }
    mesh.end().await;
}

#[tokio::test]
async fn strangers_from_one_address_make_room_for_each_other() {
    let mesh = Mesh::start().await;
    let address = server(&mesh).await;
    let mut elsewhere = silent(2, address).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut stream = mesh.connect(address, None, &[b"h2"]).await.unwrap();
        assert_eq!(hear(&mut stream).await, "hi", "the newest is served");
        open.push(stream);
    }
    assert_eq!(hear(&mut open[0]).await, "");
    assert!(is_open(&mut open[1]).await && is_open(&mut open[2]).await && is_open(&mut elsewhere).await);
    mesh.end().await;
}

#[tokio::test]
async fn one_pod_does_not_take_all_connections() {
    let mesh = Mesh::start().await;
    let address = server(&mesh).await;
    let mut open = Vec::new();
    for name in ["payments-1", "shop-1", "shop-1", "shop-1"] {
        let member = mesh.member(name);
        let mut stream = mesh.connect(address, Some(&member.identity), &[b"h2"]).await.unwrap();
        assert_eq!(hear(&mut stream).await, "hi");
        open.push(stream);
    }
    assert_eq!(hear(&mut open[1]).await, "", "the oldest of the pod");
    assert!(is_open(&mut open[0]).await && is_open(&mut open[2]).await && is_open(&mut open[3]).await);
    mesh.end().await;
}
