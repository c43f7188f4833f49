//! Raw bytes of a peer with a good certificate and a good token.

use std::time::Duration;

use fapi::SenderConstraint::Mtls;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::{
    outbound::Between,
    testing::{
        local,
        mesh::Mesh,
        side::{Side, Speaks, caller, raw},
    },
};

/// Sends these bytes on a connection of its own; what comes back until it ends or falls silent.
async fn said(lines: &[&str], rest: &str) -> (String, usize) {
    let mesh = Mesh::start(Between::H2).await;
    let payments = Side::alone(&mesh.authority, &mesh.issuer, "payments", Mtls, Speaks::Http1).await;
    let (identity, token) = caller(&mesh, "shop", "https://payments.bank").await;
    let authorization = format!("Authorization: Bearer {token}");
    let lines: Vec<&str> = lines.iter().map(|line| if *line == "TOKEN" { &authorization } else { *line }).collect();
    let mut stream = payments.dial(&identity, b"http/1.1").await;
    stream.write_all(&raw(&lines)).await.unwrap();
    stream.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    // Nothing tells that no further answer comes but the time.
    while let Ok(Ok(read)) = timeout(Duration::from_millis(300), stream.read(&mut buffer)).await {
        if read == 0 {
            break;
        }
        answer.extend_from_slice(&buffer[..read]);
    }
    (String::from_utf8_lossy(&answer).into_owned(), payments.app.count())
}

#[tokio::test]
async fn a_plain_request_passes() {
    local(async {
        let (answer, seen) = said(&["GET /a HTTP/1.1", "Host: payments.bank", "TOKEN"], "").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(seen, 1);
    })
    .await;
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_reaches_no_app() {
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: payments.bank\r\n\r\n";
    for (lines, rest) in [
        (
            &["POST /a HTTP/1.1", "Host: payments.bank", "TOKEN", "Content-Length: 4", "Transfer-Encoding: chunked"][..],
            smuggled,
        ),
        (&["POST /a HTTP/1.1", "Host: payments.bank", "TOKEN", "Content-Length: 4", "Content-Length: 4"], "body"),
        (&["POST /a HTTP/1.1", "Host: payments.bank", "TOKEN", "Content-Length: 4", "Content-Length: 5"], "body"),
        (&["POST /a HTTP/1.1", "Host: payments.bank", "TOKEN", "Transfer-Encoding: chunked, identity"], smuggled),
        (&["POST /a HTTP/1.1", "Host: payments.bank", "TOKEN", "Transfer-Encoding : chunked"], smuggled),
        (&["GET /a HTTP/1.1", "Host: payments.bank", "Host: payments.bank", "TOKEN"], ""),
        (&["GET /a HTTP/1.1", "TOKEN"], ""),
        (&["GET http://ledger.bank/a HTTP/1.1", "Host: payments.bank", "TOKEN"], ""),
        (&["GET /a HTTP/1.1", "Host: payments.bank@evil", "TOKEN"], ""),
        (&["GET /a/../b HTTP/1.1", "Host: payments.bank", "TOKEN"], ""),
        (&["GET /a%2fb HTTP/1.1", "Host: payments.bank", "TOKEN"], ""),
        (&["GET //a HTTP/1.1", "Host: payments.bank", "TOKEN"], ""),
        (&["CONNECT ledger.bank:80 HTTP/1.1", "Host: ledger.bank:80", "TOKEN"], ""),
        (
            &["GET /a HTTP/1.1", "Host: payments.bank", "TOKEN", "Connection: upgrade, http2-settings", "Upgrade: h2c"],
            "",
        ),
    ] {
        local(async {
            let (answer, seen) = said(lines, rest).await;
            let refused = answer.starts_with("HTTP/1.1 400 ") || answer.is_empty();
            assert!(refused && !answer.contains(" 200 "), "{lines:?}: {answer}");
            assert_eq!(seen, 0, "{lines:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_refusal_says_the_oauth_error_and_nothing_more() {
    local(async {
        let (answer, seen) = said(&["GET /a HTTP/1.1", "Host: payments.bank"], "").await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        let challenge = "www-authenticate: Bearer realm=\"fapi-mesh\", DPoP algs=\"ES256 PS256 EdDSA\"";
        assert!(answer.contains(challenge), "{answer}");
        assert!(answer.contains("cache-control: no-store") && answer.ends_with("{}"), "{answer}");
        assert!(!answer.contains("token_missing"), "the reason is for the log: {answer}");
        assert_eq!(seen, 0);
    })
    .await;
}

#[tokio::test]
async fn the_reserved_paths_never_reach_the_app() {
    local(async {
        for path in ["/.well-known/fapi-mesh/", "/.well-known/fapi-mesh/nonce", "/.well-known/fapi-mesh/x"] {
            let (answer, seen) = said(&[&format!("GET {path} HTTP/1.1"), "Host: payments.bank", "TOKEN"], "").await;
            assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
            assert_eq!(seen, 0);
        }
    })
    .await;
}
