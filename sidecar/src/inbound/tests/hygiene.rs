//! Raw bytes of a peer with a good certificate and a good token.

use std::time::Duration;

use control::tls::Identity;
use fapi::{ProofClaims, ProofSigner, SenderConstraint::Mtls, TokenHash};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::{
    outbound::Between,
    random,
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

/// The head of an answer, in small letters.
async fn head(side: &Side, identity: &Identity, lines: &[&str]) -> String {
    let mut stream = side.dial(identity, b"http/1.1").await;
    stream.write_all(&raw(lines)).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase()
}

#[tokio::test]
async fn a_token_that_is_bound_twice_gets_the_nonce_that_it_is_told_to_use() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let payments = Side::alone(&mesh.authority, &mesh.issuer, "payments", Mtls, Speaks::Http1).await;
        let signer = ProofSigner::generate().unwrap();
        mesh.issuer.also_to.set(Some(signer.thumbprint()));
        let (identity, token) = caller(&mesh, "shop", "https://payments.bank").await;
        let call = async |nonce: Option<&str>| {
            let ath = TokenHash::of(&token);
            let (htm, htu, jti) = ("GET", "https://payments.bank/a", random::bytes::<16>().unwrap());
            let jti = format!("{jti:?}");
            let now = payments.shared.clock.now();
            let proof = signer.proof(&ProofClaims { htm, htu, ath: Some(&ath), nonce, jti: &jti, now }).unwrap();
            let (token, proof) = (format!("Authorization: DPoP {token}"), format!("DPoP: {proof}"));
            head(&payments, &identity, &["GET /a HTTP/1.1", "Host: payments.bank", "Connection: close", &token, &proof])
                .await
        };
        let refused = call(None).await;
        assert!(refused.starts_with("http/1.1 401 ") && refused.contains("use_dpop_nonce"), "{refused}");
        assert!(refused.contains("\r\ndpop-nonce: "), "{refused}");
        let primer = ["HEAD /.well-known/fapi-mesh/nonce HTTP/1.1", "Host: payments.bank", "Connection: close"];
        assert!(head(&payments, &identity, &primer).await.contains("\r\ndpop-nonce: "));
        let nonce = payments.shared.nonces.mint(payments.shared.clock.now());
        let passed = call(Some(&nonce)).await;
        assert!(passed.starts_with("http/1.1 200 ") && !passed.contains("dpop-nonce"), "{passed}");
    })
    .await;
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
