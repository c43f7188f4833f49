//! Connections that were redirected: the address that the app dialled decides.

use std::{net::SocketAddr, time::Duration};

use control::{DestinationKind, destination::Meshed};
use fapi::SenderConstraint::{Dpop, Mtls};
use http::{HeaderValue, Method, StatusCode, Version, header::HOST};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    outbound::Between,
    stop::StopSource,
    testing::{
        app::{App, TestRequest, get, read, request},
        authority::workload,
        local,
        mesh::{Mesh, meshed, meshed_at},
        shows,
        side::{Side, Speaks},
        until,
    },
};

const BOTH: [Between; 2] = [Between::H1, Between::H2];
/// The address of a Service; nobody is there.
const SERVICE: &str = "10.96.0.7:80";

/// The app, all of whose connections are meant to go to `address`.
async fn dialling(mesh: &Mesh, address: &str) -> App {
    let address: SocketAddr = address.parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let app = App::new(listener.local_addr().unwrap());
    let outbound = mesh.outbound.clone();
    tokio::task::spawn_local(async move {
        let (_source, stop) = StopSource::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(outbound.clone().serve_redirected(stream, address, stop.clone()));
        }
    });
    app
}

/// A request as a client without proxy sends it.
fn plain(method: &str, host: &'static str, path: &str, body: &str) -> TestRequest {
    let mut plain = request(method, path, body);
    plain.headers_mut().insert(HOST, HeaderValue::from_static(host));
    plain
}

#[tokio::test]
async fn a_call_goes_to_the_service_whose_address_was_dialled() {
    for between in BOTH {
        local(async {
            let mesh = Mesh::start(between).await;
            let payments = mesh.peer("payments", Dpop).await;
            mesh.operator.set_destination(SERVICE, meshed("payments", Dpop, &[&payments]));
            let app = dialling(&mesh, SERVICE).await;
            let mut http1 = app.http1().await;
            for body in ["money", "more"] {
                let sent = http1.send_request(plain("POST", "payments.bank", "/transfers?from=1", body)).await;
                let answer = read(sent.unwrap()).await;
                assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, body));
                http1.ready().await.unwrap();
            }
            let mut http2 = request("POST", "http://any-name/transfers", "h2");
            *http2.version_mut() = Version::HTTP_2;
            let answer = read(app.http2().await.send_request(http2).await.unwrap()).await;
            assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, "h2"));
            assert_eq!((payments.served.get(), mesh.issuer.issued.get()), (3, 1));
            assert!(mesh.issuer.forms.borrow()[0].ends_with("&resource=https%3A%2F%2Fpayments.bank"));
            assert_eq!(mesh.operator.with(|state| state.lookups.clone()), [SERVICE]);
        })
        .await;
    }
}

#[tokio::test]
async fn where_the_address_does_not_tell_the_name_does() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let (payments, ledger) = (mesh.peer("payments", Mtls).await, mesh.peer("ledger", Mtls).await);
        let another = mesh.peer("payments", Mtls).await;
        mesh.operator.set_destination("payments.bank", meshed("payments", Mtls, &[&another, &payments]));
        mesh.operator.set_destination("ledger.bank", meshed("ledger", Mtls, &[&ledger]));
        mesh.operator.set_destination("outside", DestinationKind::Unmeshed { addresses: vec![payments.address] });
        let app = dialling(&mesh, &payments.address.to_string()).await;
        for _ in 0..4 {
            assert_eq!(app.call(plain("GET", "payments.bank", "/a", "")).await.status, 200);
        }
        assert_eq!((payments.served.get(), another.served.get()), (4, 0), "the pod that was dialled");
        for host in ["ledger.bank", "nobody.bank", "outside"] {
            let answer = app.call(plain("GET", host, "/a", "")).await;
            assert_eq!((answer.status.as_u16(), answer.error().as_str()), (503, "destination_unknown"), "{host}");
        }
        // Once the address tells, it alone counts.
        let at = mesh.authority.identity(&workload("payments"), Duration::from_secs(60));
        let id = control::identity::peer_from_leaf(at.leaf().unwrap()).unwrap().spiffe_id;
        let kind = meshed_at("payments", &id, Mtls, &[payments.address]);
        mesh.operator.set_destination(&payments.address.to_string(), kind);
        let mut http1 = app.http1().await;
        loop {
            let sent = http1.send_request(plain("GET", "nobody.bank", "/a", "")).await;
            if read(sent.unwrap()).await.status == 200 {
                break;
            }
            http1.ready().await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn where_neither_address_nor_name_tell_the_app_learns_what_to_do() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let payments = mesh.peer("payments", Mtls).await;
        let address = payments.address.to_string();
        let services = vec!["payments.bank".to_owned(), "queue.bank".to_owned()];
        mesh.operator.set_destination(&address, DestinationKind::Ambiguous { services });
        mesh.operator.set_destination("payments.bank", meshed("payments", Mtls, &[&payments]));
        mesh.operator.set_destination("queue.bank", meshed("queue", Mtls, &[]));
        let app = dialling(&mesh, &address).await;
        for host in ["queue.bank", "192.0.2.1", "nobody.bank"] {
            let answer = app.call(plain("GET", host, "/a", "")).await;
            assert_eq!((answer.status.as_u16(), answer.error().as_str()), (503, "destination_ambiguous"), "{host}");
            assert!(answer.text.contains("name one of them in a FapiClient"), "{}", answer.text);
        }
        assert_eq!(app.call(plain("GET", "payments.bank", "/a", "")).await.status, 200);
        assert_eq!(said(app, b"SSH-2.0-OpenSSH_9.2\r\n").await, b"", "not a byte");
    })
    .await;
}

#[tokio::test]
async fn a_pod_may_be_dialled_by_any_of_its_addresses() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let (payments, another) = (mesh.peer("payments", Mtls).await, mesh.peer("payments", Mtls).await);
        let mut kind = meshed("payments", Mtls, &[&another, &payments]);
        let DestinationKind::Meshed(meshed) = &mut kind else { panic!("{kind:?}") };
        for (endpoint, address) in meshed.endpoints.iter_mut().zip(["[fd00::8]:8080", "[fd00::7]:8080"]) {
            endpoint.others.push(address.parse().unwrap());
        }
        mesh.operator.set_destination("payments.bank", kind);
        let app = dialling(&mesh, "[fd00::7]:8080").await;
        for _ in 0..4 {
            assert_eq!(app.call(plain("GET", "payments.bank", "/a", "")).await.status, 200);
        }
        assert_eq!((payments.served.get(), another.served.get()), (4, 0), "the pod that was dialled");
        let elsewhere = dialling(&mesh, "[fd00::9]:8080").await;
        let answer = elsewhere.call(plain("GET", "payments.bank", "/a", "")).await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (503, "destination_unknown"));
    })
    .await;
}

#[tokio::test]
async fn what_is_not_in_the_mesh_passes_as_it_is_until_it_may_not() {
    for not_any_more in [DestinationKind::Unknown, DestinationKind::Refused] {
        local(async {
            let mesh = Mesh::start(Between::H2).await;
            let database = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = database.local_addr().unwrap();
            mesh.operator.set_destination(&address.to_string(), DestinationKind::Unmeshed { addresses: vec![] });
            let mut app = dialling(&mesh, &address.to_string()).await.connect().await;
            // This server speaks first, and no HTTP.
            let (mut server, _) = database.accept().await.unwrap();
            server.write_all(b"220 ready\r\n").await.unwrap();
            let mut greeting = [0; 11];
            app.read_exact(&mut greeting).await.unwrap();
            assert_eq!(&greeting, b"220 ready\r\n");
            app.write_all(b"\x16\x03\x01").await.unwrap();
            let mut hello = [0; 3];
            server.read_exact(&mut hello).await.unwrap();
            assert_eq!(&hello, b"\x16\x03\x01");
            assert!(shows(&mesh.shared, "fapi_unmeshed_calls_total 1"));
            mesh.operator.set_destination(&address.to_string(), not_any_more);
            assert_eq!(app.read(&mut greeting).await.unwrap_or(0), 0, "it is closed");
        })
        .await;
    }
}

#[tokio::test]
async fn where_the_mesh_refuses_what_is_outside_nothing_goes_there() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let outside = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = outside.local_addr().unwrap().to_string();
        mesh.operator.set_destination(&address, DestinationKind::Refused);
        let app = dialling(&mesh, &address).await;
        let answer = app.call(plain("GET", "payments.bank", "/", "")).await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (503, "destination_unmeshed"));
        assert_eq!(said(app, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await, b"", "nor TLS");
        let line = "fapi_requests_total{direction=\"outbound\",outcome=\"refused\",reason=\"destination_unmeshed\"} 2";
        until("both refusals to be counted", || shows(&mesh.shared, line)).await;
        assert!(shows(&mesh.shared, "fapi_unmeshed_calls_total 0"));
        // The first connection that comes is this one.
        let own = TcpStream::connect(&address).await.unwrap();
        assert_eq!(outside.accept().await.unwrap().1, own.local_addr().unwrap());
    })
    .await;
}

/// Writes something and gives what comes back, to the end.
async fn said(app: App, bytes: &[u8]) -> Vec<u8> {
    let mut stream: TcpStream = app.connect().await;
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // Closed or reset: both are an end.
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

#[tokio::test]
async fn nothing_but_http_goes_to_the_mesh_or_to_the_unknown() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let payments = mesh.peer("payments", Mtls).await;
        mesh.operator.set_destination(SERVICE, meshed("payments", Mtls, &[&payments]));
        let (app, nowhere) = (dialling(&mesh, SERVICE).await, dialling(&mesh, "192.0.2.1:443").await);
        let mut count = 0;
        for app in [app, nowhere] {
            for bytes in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"SSH-2.0-OpenSSH_9.2\r\n", b"*1\r\n"] {
                assert_eq!(said(app, bytes).await, b"", "not a byte");
                count += 1;
                let line = format!(
                    "fapi_requests_total{{direction=\"outbound\",outcome=\"refused\",reason=\"opaque_not_allowed\"}} \
                     {count}"
                );
                until("the refusal to be counted", || shows(&mesh.shared, &line)).await;
            }
        }
        let answer = nowhere.call(plain("GET", "example.com", "/", "")).await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (503, "destination_unknown"));
        // One that waits for its server to speak first is not let through after a while.
        let mut silent = app.connect().await;
        silent.write_all(b"GE").await.unwrap();
        tokio::time::pause();
        assert_eq!(silent.read(&mut [0; 8]).await.unwrap_or(0), 0);
        tokio::time::resume();
        assert_eq!((payments.served.get(), payments.connections.get()), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn a_port_that_takes_no_http_is_reached_over_mutual_tls() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let database = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let side = Side::alone(&mesh.authority, &mesh.issuer, "db", Mtls, Speaks::Http1).await;
        side.apply_tcp("shop", database.local_addr().unwrap());
        let kind = |opaque| match meshed_at("db", &workload("db"), Mtls, &[side.address]) {
            DestinationKind::Meshed(db) => DestinationKind::Meshed(Box::new(Meshed { token: None, opaque, ..*db })),
            other => other,
        };
        mesh.operator.set_destination("10.96.0.9:5432", kind(true));
        mesh.operator.set_destination("db.bank", kind(true));
        let mut app = dialling(&mesh, "10.96.0.9:5432").await.connect().await;
        let (mut server, _) = database.accept().await.unwrap();
        server.write_all(b"who?").await.unwrap();
        let mut heard = [0; 4];
        app.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"who?");
        app.write_all(b"shop").await.unwrap();
        server.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"shop");
        let answer = mesh.app.get("http://db.bank/").await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (400, "request_malformed"), "no HTTP by proxy");
        mesh.operator.set_destination("10.96.0.9:5432", kind(false));
        assert_eq!(app.read(&mut heard).await.unwrap_or(0), 0, "it takes HTTP now");
    })
    .await;
}

#[tokio::test]
async fn a_request_names_its_server_once() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let payments = mesh.peer("payments", Mtls).await;
        mesh.operator.set_destination(SERVICE, meshed("payments", Mtls, &[&payments]));
        let app = dialling(&mesh, SERVICE).await;
        let mut two = plain("GET", "payments.bank", "/", "");
        two.headers_mut().append(HOST, HeaderValue::from_static("ledger.bank"));
        let mut none = plain("GET", "payments.bank", "/", "");
        none.headers_mut().remove(HOST);
        let mut other = get("http://payments.bank/");
        other.headers_mut().insert(HOST, HeaderValue::from_static("ledger.bank"));
        let mut connect = get("http://payments.bank/");
        *connect.method_mut() = Method::CONNECT;
        *connect.uri_mut() = "payments.bank:443".parse().unwrap();
        let user = plain("GET", "me:secret@payments.bank", "/", "");
        for asked in [two, none, other, connect, user, get("https://payments.bank/")] {
            let answer = app.call(asked).await;
            assert_eq!((answer.status.as_u16(), answer.error().as_str()), (400, "request_malformed"));
        }
        assert_eq!(app.call(get("http://payments.bank/a")).await.status, 200, "the whole URL is as good");
        assert_eq!(payments.served.get(), 1);
    })
    .await;
}
