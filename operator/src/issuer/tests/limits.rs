//! How much a client may send.

use super::revoke::about;
use super::*;
use crate::issuer::RATE;

/// Sends requests over one connection until one is refused: how many were not, and the refusal.
async fn flood(mesh: &Mesh, member: &Member) -> (u32, http::Response<hyper::body::Incoming>) {
    let stream = mesh.connect(mesh.issuer, Some(&member.identity), &[b"h2"]).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let driver = tokio::spawn(connection);
    for sent in 0..2 * RATE.burst {
        let request = http::Request::post(format!("https://{}/token", mesh.issuer))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(http_body_util::Full::<bytes::Bytes>::from(form(&good(member, PAYMENTS))))
            .unwrap();
        let answer = tokio::time::timeout(SOON, sender.send_request(request)).await.unwrap().unwrap();
        if answer.status() != 200 {
            driver.abort();
            return (sent, answer);
        }
    }
    panic!("nothing was refused");
}

#[tokio::test]
async fn a_client_that_sends_too_much_waits_and_no_other_does() {
    let (log, _guard) = capture_log();
    let mesh = Mesh::start().await;
    let (shop, ledger) = (mesh.member("shop-1"), mesh.member("ledger-1"));
    let (sent, refusal) = flood(&mesh, &shop).await;
    assert_eq!((sent, refusal.status().as_u16()), (RATE.burst, 429));
    assert_eq!(refusal.headers()["retry-after"], "1");
    assert_eq!(refusal.headers()["cache-control"], "no-store");
    let reply = ask(&mesh, &shop, &good(&shop, PAYMENTS)).await;
    assert_eq!(error(&reply), (429, "temporarily_unavailable".into()), "also over another connection");
    for path in ["/revoke", "/introspect"] {
        let body = form(&about(&shop, "x"));
        assert_eq!(mesh.http(Some(&shop), &post_to(path, "", &body)).await.status, 429, "{path}");
    }
    assert_eq!(ask(&mesh, &ledger, &good(&ledger, PAYMENTS)).await.status, 200);
    mesh.clock.advance(Duration::from_secs(1));
    assert_eq!(flood(&mesh, &shop).await.0, RATE.per_second);
    mesh.end().await;
    let limited = log.of("token").iter().filter(|line| line["reason"] == "rate_limited").count();
    assert_eq!(limited, 3);
}

/// An assertion beside a certificate costs its pod a request before it costs us a signature.
#[tokio::test]
async fn a_pod_that_brings_bad_assertions_uses_up_what_it_may_send() {
    // A line that is first said where nobody listens is said nowhere afterwards.
    let _log = capture_log();
    let mesh = Mesh::start().await;
    let [shop] = assertion::Signer::register(&mesh, ["shop"]);
    let member = mesh.member("shop-1");
    let fine = shop.assertion(&mesh, "a");
    let (signed, _) = fine.rsplit_once('.').unwrap();
    let bad = format!("{signed}.{}", "A".repeat(86));
    let send = async |member: Option<&Member>, assertion: &str| {
        let reply = mesh.http(member, &post("", &form(&assertion::asserted(assertion)))).await;
        reply.status
    };
    for _ in 0..RATE.burst {
        let status = send(Some(&member), &bad).await;
        assert_eq!(status, 400);
    }
    assert_eq!(send(Some(&member), &bad).await, 429);
    assert_eq!(send(Some(&member), &fine).await, 429, "and nobody has looked at it");
    let other = mesh.member("ledger-1");
    assert_eq!(ask(&mesh, &other, &good(&other, PAYMENTS)).await.status, 200);
    assert_eq!(send(None, &bad).await, 400, "the client itself has sent nothing");
    mesh.end().await;
}
