//! Connections to ports that take no HTTP.

use std::rc::Rc;

use fapi::{Mode, Revocation, Revoked, SenderConstraint::Mtls, UnixTime};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    outbound::Between,
    testing::{
        authority::workload,
        local,
        mesh::{LONG, Mesh},
        side::{Side, Speaks},
    },
};

/// A pod whose port is a database that `shop` may connect to.
async fn database(mesh: &Mesh) -> (Rc<Side>, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let side = Side::alone(&mesh.authority, &mesh.issuer, "db", Mtls, Speaks::Http1).await;
    side.apply_tcp("shop", listener.local_addr().unwrap());
    (side, listener)
}

async fn counted(side: &Side, outcome: &str, reason: &str, count: u32) {
    let labels = format!("direction=\"inbound\",outcome=\"{outcome}\",reason=\"{reason}\"");
    let line = format!("fapi_requests_total{{{labels}}} {count}");
    crate::testing::counted(&side.shared, &line).await;
}

#[tokio::test]
async fn a_named_caller_is_joined_with_the_app_whatever_it_speaks() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let (side, listener) = database(&mesh).await;
        let shop = mesh.authority.identity(&workload("shop"), LONG);
        // The port decides, not what the handshake offers.
        let mut caller = side.dial(&shop, b"h2").await;
        let (mut server, _) = listener.accept().await.unwrap();
        server.write_all(b"220 db\r\n").await.unwrap();
        let mut heard = [0; 8];
        caller.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"220 db\r\n");
        for piece in [&b"EH"[..], b"LO shop\r\n", b"GET / HTTP/1.1\r\n"] {
            caller.write_all(piece).await.unwrap();
        }
        let mut said = [0; 27];
        server.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"EHLO shop\r\nGET / HTTP/1.1\r\n");
        counted(&side, "admitted", "", 1).await;

        side.apply_tcp("ledger", listener.local_addr().unwrap());
        assert_eq!(caller.read(&mut heard).await.unwrap_or(0), 0, "it is named no longer");
        counted(&side, "refused", "caller_not_allowed", 1).await;
    })
    .await;
}

#[tokio::test]
async fn who_is_not_named_never_reaches_the_app() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let (side, listener) = database(&mesh).await;
        let ledger = mesh.authority.identity(&workload("ledger"), LONG);
        let mut caller = side.dial(&ledger, b"h2").await;
        assert_eq!(caller.read(&mut [0; 8]).await.unwrap_or(0), 0);
        counted(&side, "refused", "caller_not_allowed", 1).await;
        // The next that the app hears of is somebody else.
        let shop = mesh.authority.identity(&workload("shop"), LONG);
        let mut caller = side.dial(&shop, b"h2").await;
        caller.write_all(b"\x00hello").await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let mut heard = [0; 6];
        server.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"\x00hello");
    })
    .await;
}

#[tokio::test]
async fn in_audit_who_is_not_named_is_joined_and_counted() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let (side, listener) = database(&mesh).await;
        side.apply_tcp_in(Mode::Audit, "shop", listener.local_addr().unwrap());
        for account in ["ledger", "shop", "ledger"] {
            let identity = mesh.authority.identity(&workload(account), LONG);
            let mut caller = side.dial(&identity, b"h2").await;
            caller.write_all(b"\x00hello").await.unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            server.read_exact(&mut [0; 6]).await.unwrap();
        }
        counted(&side, "would_refuse", "caller_not_allowed", 2).await;
        assert_eq!(side.would_refuse(), ["bank/db: caller_not_allowed by bank/ledger 2"]);
        side.apply_tcp("shop", listener.local_addr().unwrap());
        assert!(side.would_refuse().is_empty(), "it refuses now");
    })
    .await;
}

#[tokio::test]
async fn a_revoked_caller_loses_its_connection_and_gets_no_other() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let (side, listener) = database(&mesh).await;
        let shop = mesh.authority.identity(&workload("shop"), LONG);
        let mut caller = side.dial(&shop, b"h2").await;
        caller.write_all(b"\x00hello").await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let mut heard = [0; 8];
        server.read_exact(&mut heard[..6]).await.unwrap();
        let revoked = Revoked::SpiffeId(workload("shop"));
        let entry = Revocation::new(revoked, None, UnixTime::from_secs(u64::MAX)).unwrap();
        side.shared.install_revocations(1, [entry].into_iter().collect()).unwrap();
        assert_eq!(caller.read(&mut heard).await.unwrap_or(0), 0);
        assert_eq!(server.read(&mut heard).await.unwrap_or(0), 0);
        counted(&side, "refused", "revoked", 1).await;
        let mut again = side.dial(&shop, b"h2").await;
        assert_eq!(again.read(&mut heard).await.unwrap_or(0), 0);
        let line = r#"fapi_handshakes_total{outcome="refused",reason="revoked"} 1"#;
        crate::testing::counted(&side.shared, line).await;
    })
    .await;
}

#[tokio::test]
async fn http_gets_round_no_token_there() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let (side, listener) = database(&mesh).await;
        let shop = mesh.authority.identity(&workload("shop"), LONG);
        let mut count = 0;
        for bytes in [&b"POST /transfers HTTP/1.1\r\nhost: db.bank\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let mut caller = side.dial(&shop, b"http/1.1").await;
            caller.write_all(bytes).await.unwrap();
            assert_eq!(caller.read(&mut [0; 8]).await.unwrap_or(0), 0);
            count += 1;
            counted(&side, "refused", "opaque_not_allowed", count).await;
            let (mut server, _) = listener.accept().await.unwrap();
            assert_eq!(server.read(&mut [0; 8]).await.unwrap_or(0), 0, "not a byte");
        }
        // And a port that takes HTTP takes nothing else.
        side.apply("shop", Mode::Enforce);
        let mut caller = side.dial(&shop, b"http/1.1").await;
        caller.write_all(b"\x00\x01\x02\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = caller.read_to_end(&mut answer).await;
        assert!(!String::from_utf8_lossy(&answer).contains("200"));
        assert_eq!(side.app.count(), 0);
    })
    .await;
}
