//! Messages that are not what they should be, from the app and from its callers.

use std::rc::Rc;

use fapi::{Mode, SenderConstraint::Mtls};
use http::header;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    outbound::Between,
    testing::{
        app::get,
        bytes::answers,
        counted, local,
        mesh::Mesh,
        side::{Side, Speaks, caller, raw},
    },
};

const BOTH: [Between; 2] = [Between::H1, Between::H2];

/// A mesh with a service whose app says this.
async fn with_app(between: Between, said: &'static [u8]) -> (Mesh, Rc<Side>) {
    let mesh = Mesh::start(between).await;
    let side = Side::start(&mesh, "payments", Mtls, Speaks::Http1).await;
    side.app_address.set(answers(said).await);
    side.apply("shop", Mode::Enforce);
    (mesh, side)
}

fn refused(reason: &str, count: usize) -> String {
    format!("fapi_requests_total{{direction=\"inbound\",outcome=\"refused\",reason=\"{reason}\"}} {count}")
}

/// What a caller with a good certificate and a good token is answered who sends this after its token.
async fn said(mesh: &Mesh, side: &Side, first: &str, rest: &str) -> String {
    let (identity, token) = caller(mesh, "shop", "https://payments.bank").await;
    let mut stream = side.dial(&identity, b"http/1.1").await;
    let token = format!("Authorization: Bearer {token}");
    let mut bytes = raw(&[first, "Host: payments.bank", &token]).to_vec();
    bytes.truncate(bytes.len() - 2);
    bytes.extend_from_slice(rest.as_bytes());
    stream.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    // A connection that is closed without ceremony has ended too.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn an_answer_with_two_lengths_arrives_whole_without_the_false_one() {
    for between in BOTH {
        local(async {
            let both =
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nmoney\r\n0\r\n\r\n";
            let (mesh, _side) = with_app(between, both).await;
            let answer = mesh.app.get("http://payments.bank/a").await;
            assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "money"));
            assert!(!answer.headers.contains_key(header::CONTENT_LENGTH));
        })
        .await;
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_told_on_both_sides() {
    for between in BOTH {
        local(async {
            let (mesh, side) = with_app(between, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nmon").await;
            let mut app = mesh.app.http1().await;
            if let Ok(answer) = app.send_request(get("http://payments.bank/a")).await {
                assert!(answer.into_body().collect().await.is_err());
            }
            counted(&side.shared, "fapi_broken_answers_total{direction=\"inbound\"} 1").await;
            let line = "fapi_broken_answers_total{direction=\"outbound\"} 1";
            counted(&mesh.shared, line).await;
        })
        .await;
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_its_senders_fault() {
    local(async {
        let (mesh, side) = with_app(Between::H1, b"").await;
        for (at, body) in [
            "0\r\nA: b\r\n c\r\n\r\n",
            "0\r\nno colon\r\n\r\n",
            "3;a\rb\r\nabc\r\n0\r\n\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "zz\r\n",
        ]
        .into_iter()
        .enumerate()
        {
            let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{body}");
            let answer = said(&mesh, &side, "POST /a HTTP/1.1", &chunked).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{body:?}: {answer}");
            counted(&side.shared, &refused("request_malformed", at + 1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_head_that_cannot_be_read_is_told_as_any_other_refusal() {
    let fields = |count: usize| (0..count).map(|at| format!("x-{at}: 1\r\n")).collect::<String>();
    let long = "a".repeat(66_000);
    let too_large = [
        ("GET /a HTTP/1.1", fields(120) + "\r\n", 431),
        ("GET /a HTTP/1.1", format!("X-A: {long}\r\n\r\n"), 431),
        (&*format!("GET /{long} HTTP/1.1"), "\r\n".to_owned(), 414),
    ];
    let malformed = [
        ("P@ST /a HTTP/1.1", "\r\n".to_owned(), 400),
        ("GET /a HTTP/1.1", "X: a\r\n b\r\n\r\n".to_owned(), 400),
        ("GET /a HTTP/1.1", "no colon\r\n\r\n".to_owned(), 400),
        ("POST /a HTTP/1.1", "Transfer-Encoding: gzip\r\n\r\n".to_owned(), 400),
    ];
    local(async {
        let (mesh, side) = with_app(Between::H1, b"HTTP/1.1 200 OK\r\n\r\n").await;
        for (reason, heads) in [("header_too_large", &too_large[..]), ("request_malformed", &malformed)] {
            for (at, (first, rest, status)) in heads.iter().enumerate() {
                let answer = said(&mesh, &side, first, rest).await;
                assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{reason} {at}: {answer}");
                counted(&side.shared, &refused(reason, at + 1)).await;
            }
        }
    })
    .await;
}
