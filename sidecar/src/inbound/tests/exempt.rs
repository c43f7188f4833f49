//! Plain requests of somebody outside the mesh, by raw bytes.

use std::{rc::Rc, time::Duration};

use fapi::{Mode, SenderConstraint::Mtls, WireExemption};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    outbound::Between,
    testing::{
        local,
        mesh::Mesh,
        side::{Side, Speaks, caller, raw},
        until,
    },
};

/// The number that a [`Side`]'s port has.
const PORT: u16 = 80;
const SOON: Duration = Duration::from_secs(10);

fn metrics(port: u16, source: &str) -> Vec<WireExemption> {
    vec![WireExemption { port, paths: vec!["/metrics".to_owned()], sources: vec![source.to_owned()] }]
}

/// A pod whose metrics are exempt.
async fn payments(exempt: Vec<WireExemption>) -> (Mesh, Rc<Side>) {
    let mesh = Mesh::start(Between::H2).await;
    let side = Side::alone(&mesh.authority, &mesh.issuer, "payments", Mtls, Speaks::Http1).await;
    side.exempt.replace(exempt);
    side.apply("shop", Mode::Enforce);
    (mesh, side)
}

/// What somebody is answered who sends these bytes without TLS.
async fn said(side: &Side, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(side.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A connection that is reset has ended too.
    let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.expect("an end");
    String::from_utf8_lossy(&answer).into_owned()
}

fn request(lines: &[&str]) -> Vec<u8> {
    let mut all = lines.to_vec();
    all.push("Connection: close");
    raw(&all).to_vec()
}

async fn counted(side: &Side, outcome: &str, reason: &str, count: usize) {
    let labels = format!("direction=\"inbound\",outcome=\"{outcome}\",reason=\"{reason}\"");
    let line = format!("fapi_requests_total{{{labels}}} {count}");
    crate::testing::counted(&side.shared, &line).await;
}

#[tokio::test]
async fn a_scraper_gets_what_is_exempt_and_the_app_is_told_nothing_about_it() {
    local(async {
        let (_mesh, side) = payments(metrics(PORT, "127.0.0.0/8")).await;
        let answer = said(
            &side,
            &request(&[
                "GET /metrics HTTP/1.1",
                "Host: 10.1.2.3:8080",
                "Accept: text/plain",
                "X-Fapi-Caller: spiffe://bank.example/ns/bank/sa/shop",
                "X_Fapi_Client_Id: shop",
                "X-Fapi-Subject: boss",
                "X-Fapi-Context: AAAAAAAAAAAAAAAAAAAAAA",
                "X-Forwarded-Client-Cert: By=spiffe://bank.example/ns/bank/sa/shop",
                "Client-Cert: :AAAA:",
                "X-Original-URL: /transfers",
                "X-HTTP-Method-Override: POST",
                "Proxy-Authorization: Basic x",
            ]),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(!answer.contains("made up by the app") && !answer.contains("dpop-nonce"), "{answer}");
        let (target, headers) = side.app.only();
        assert_eq!((target.as_str(), &headers["accept"]), ("/metrics", &"text/plain".parse().unwrap()));
        let mut names: Vec<_> = headers.keys().map(|name| name.as_str().to_owned()).collect();
        names.sort();
        assert_eq!(names, ["accept", "host", "x-fapi-interaction-id"]);
        counted(&side, "exempt", "", 1).await;
    })
    .await;
}

#[tokio::test]
async fn nothing_else_passes_in_plaintext() {
    let host = "Host: payments";
    let plaintext: &[&[&str]] = &[
        &["GET /transfers HTTP/1.1", host],
        &["GET / HTTP/1.1", host],
        &["GET /metrics/ HTTP/1.1", host],
        &["GET /METRICS HTTP/1.1", host],
        &["GET /metrics/x HTTP/1.1", host],
        &["GET /metrics? HTTP/1.1", host],
        &["GET /metrics?target=ledger HTTP/1.1", host],
        &["GET /metrics?access_token=x HTTP/1.1", host],
        &["HEAD /metrics HTTP/1.1", host],
        &["POST /metrics HTTP/1.1", host, "Content-Length: 0"],
        &["OPTIONS /metrics HTTP/1.1", host],
        &["TRACE /metrics HTTP/1.1", host],
        &["GET /metrics HTTP/1.1", host, "Authorization: Bearer x"],
        &["GET /metrics HTTP/1.1", host, "Authorization: Basic x"],
        &["GET /metrics HTTP/1.1", host, "DPoP: x"],
        &["GET /metrics HTTP/1.1", host, "Upgrade: websocket", "Connection: upgrade"],
        &["GET /metrics HTTP/1.1", host, "Upgrade: TLS/1.0", "Connection: upgrade"],
        &["GET /metrics HTTP/1.1", host, "Transfer-Encoding: chunked"],
        &["GET /metrics HTTP/1.1", host, "Content-Length: 4"],
    ];
    let malformed: &[&[&str]] = &[
        &["GET /metrics/../transfers HTTP/1.1", host],
        &["GET //metrics HTTP/1.1", host],
        &["GET /%6detrics HTTP/1.1", host],
        &["GET /metrics/%2e%2e/transfers HTTP/1.1", host],
        &["GET /metrics;/transfers HTTP/1.1", host],
        &["GET http://ledger/metrics HTTP/1.1", host],
        &["GET /metrics HTTP/1.1"],
        &["GET /metrics HTTP/1.1", host, "Host: ledger"],
        &["GET /metrics HTTP/1.1", host, "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"],
        &["GET /metrics HTTP/1.1", host, "Content-Length: 0", "Content-Length: 0"],
        &["GET /metrics HTTP/1.1", host, "Content-Length: 4", "Transfer-Encoding: chunked"],
        &["CONNECT ledger:80 HTTP/1.1", "Host: ledger:80"],
    ];
    local(async {
        let (_mesh, side) = payments(metrics(PORT, "127.0.0.0/8")).await;
        for (requests, reason) in [(plaintext, "plaintext_not_allowed"), (malformed, "request_malformed")] {
            for (at, lines) in requests.iter().enumerate() {
                let answer = said(&side, &request(lines)).await;
                assert!(answer.starts_with("HTTP/1.1 40"), "{lines:?}: {answer}");
                assert!(!answer.contains(reason), "the reason is for the log: {answer}");
                counted(&side, "refused", reason, at + 1).await;
            }
        }
        let answer = said(&side, &request(&["GET /.well-known/fapi-mesh/nonce HTTP/1.1", host])).await;
        assert!(answer.starts_with("HTTP/1.1 403 ") && !answer.contains("nonce:"), "{answer}");
        assert_eq!(side.app.count(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_smuggled_request_is_never_read_as_exempt() {
    local(async {
        let (_mesh, side) = payments(metrics(PORT, "127.0.0.0/8")).await;
        let first = "POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 36\r\nTransfer-Encoding: chunked\r\n\r\n";
        let second = "0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
        let answer = said(&side, format!("{first}{second}").as_bytes()).await;
        assert!(!answer.contains(" 200 "), "{answer}");
        assert_eq!(side.app.count(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_head_that_cannot_be_read_is_told_too() {
    local(async {
        let (_mesh, side) = payments(metrics(PORT, "127.0.0.0/8")).await;
        let fields: Vec<_> = (0..120).map(|at| format!("x-{at}: 1")).collect();
        let lines: Vec<_> =
            ["GET /metrics HTTP/1.1", "Host: a"].into_iter().chain(fields.iter().map(|f| &**f)).collect();
        assert!(said(&side, &request(&lines)).await.starts_with("HTTP/1.1 431 "));
        counted(&side, "refused", "header_too_large", 1).await;
        assert!(said(&side, &request(&["GET /metrics HTTP/1.1", "no colon"])).await.starts_with("HTTP/1.1 400 "));
        counted(&side, "refused", "request_malformed", 1).await;
    })
    .await;
}

#[tokio::test]
async fn http2_without_tls_is_not_spoken() {
    local(async {
        let (_mesh, side) = payments(metrics(PORT, "127.0.0.0/8")).await;
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
        let mut stream = TcpStream::connect(side.address).await.unwrap();
        stream.write_all(preface).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.expect("an end");
        assert_ne!(answer.get(3), Some(&0x04), "a SETTINGS frame: {answer:?}");
        assert_eq!(side.app.count(), 0);
    })
    .await;
}

#[tokio::test]
async fn from_elsewhere_and_at_other_ports_nothing_is_exempt() {
    let plain = request(&["GET /metrics HTTP/1.1", "Host: payments"]);
    for exempt in [Vec::new(), metrics(PORT, "10.0.0.0/8"), metrics(PORT, "::1/128"), metrics(9090, "127.0.0.0/8")] {
        local(async {
            let (_mesh, side) = payments(exempt).await;
            let answer = said(&side, &plain).await;
            assert!(!answer.contains("HTTP"), "not even an answer: {answer}");
            assert_eq!(side.app.count(), 0);
        })
        .await;
    }
}

#[tokio::test]
async fn callers_of_the_mesh_need_a_token_for_it_all_the_same() {
    local(async {
        let (mesh, side) = payments(metrics(PORT, "127.0.0.0/8")).await;
        let (identity, token) = caller(&mesh, "shop", "https://payments.bank").await;
        let authorization = format!("Authorization: Bearer {token}");
        for (lines, status) in [
            (&["GET /metrics HTTP/1.1", "Host: payments.bank"][..], "401"),
            (&["GET /metrics HTTP/1.1", "Host: payments.bank", authorization.as_str()], "200"),
        ] {
            let mut stream = side.dial(&identity, b"http/1.1").await;
            stream.write_all(&request(lines)).await.unwrap();
            let mut answer = Vec::new();
            let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.expect("an end");
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        }
        assert_eq!(side.app.only().1["x-fapi-caller"], "spiffe://bank.example/ns/bank/sa/shop");
    })
    .await;
}

/// Sends a request on a connection that goes on, and gives the head of the answer.
async fn ask(stream: &mut TcpStream, path: &str) -> String {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: payments\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && timeout(SOON, stream.read(&mut byte)).await.unwrap().unwrap_or(0) > 0 {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

#[tokio::test]
async fn a_policy_that_exempts_no_longer_ends_it_on_living_connections() {
    local(async {
        let (_mesh, side) = payments(metrics(PORT, "127.0.0.0/8")).await;
        let mut scraper = TcpStream::connect(side.address).await.unwrap();
        let answer = ask(&mut scraper, "/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        side.exempt.take();
        side.apply("shop", Mode::Enforce);
        // What is left of the first answer, an empty body in pieces, comes first.
        let rest = ask(&mut scraper, "/metrics").await + &ask(&mut scraper, "/metrics").await;
        assert!(rest.contains("HTTP/1.1 403 ") && !rest.contains(" 200 "), "{rest}");
        assert_eq!(side.app.count(), 1);
    })
    .await;
}

#[tokio::test]
async fn scrapers_have_only_so_much_room() {
    local(async {
        let (_mesh, side) = payments(metrics(PORT, "127.0.0.0/8")).await;
        let open = |count: usize| format!("fapi_connections{{kind=\"from_peers\"}} {count}");
        let is_open = |count| crate::testing::shows(&side.shared, &open(count));
        let mut silent = Vec::new();
        for _ in 0..crate::inbound::MAX_PLAIN {
            let mut stream = TcpStream::connect(side.address).await.unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();
            silent.push(stream);
        }
        until("all of them to be taken", || is_open(crate::inbound::MAX_PLAIN)).await;
        let plain = request(&["GET /metrics HTTP/1.1", "Host: payments"]);
        assert_eq!(said(&side, &plain).await, "");
        silent.clear();
        until("all of them to be gone", || is_open(0)).await;
        assert!(said(&side, &plain).await.starts_with("HTTP/1.1 200 "));
    })
    .await;
}
