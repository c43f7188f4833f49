//! Calls with DPoP proofs.

use std::collections::HashSet;

use bytes::Bytes;
use fapi::SenderConstraint::Dpop;
use http::header;
use hyper::body::Frame;

use crate::{
    outbound::Between,
    testing::{
        app::{get, read, request, streamed},
        local,
        mesh::Mesh,
    },
};

const BOTH: [Between; 2] = [Between::H1, Between::H2];

#[tokio::test]
async fn each_request_has_a_proof_of_its_own_and_one_primer_per_connection() {
    for between in BOTH {
        local(async {
            let mesh = Mesh::start(between).await;
            let ledger = mesh.serve("ledger", Dpop).await;
            let mut app = mesh.app.http1().await;
            let mut proofs = HashSet::new();
            for at in 0..10 {
                let asked = request("POST", "http://ledger.bank/entries?page=1", "x");
                let answer = read(app.send_request(asked).await.unwrap()).await;
                assert_eq!(answer.status, 200, "{at}");
                assert!(answer.header("dpop-nonce").is_none());
                let (_, headers) = ledger.last.borrow_mut().take().unwrap();
                assert!(headers[header::AUTHORIZATION].to_str().unwrap().starts_with("DPoP "));
                assert!(proofs.insert(headers["dpop"].clone()));
                app.ready().await.unwrap();
            }
            assert!(ledger.refused.borrow().is_empty(), "{:?}", ledger.refused.borrow());
            assert_eq!((ledger.connections.get(), ledger.primers.get()), (1, 1));
        })
        .await;
    }
}

#[tokio::test]
async fn a_body_that_has_begun_is_never_sent_twice() {
    for between in BOTH {
        local(async {
            let mesh = Mesh::start(between).await;
            let ledger = mesh.serve("ledger", Dpop).await;
            let (body, asked) = streamed("POST", "http://ledger.bank/entries");
            let mut app = mesh.app.http1().await;
            body.send(Ok(Frame::data(Bytes::from_static(b"abc")))).await.unwrap();
            drop(body);
            let answer = read(app.send_request(asked).await.unwrap()).await;
            assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "abc"));
            assert!(ledger.refused.borrow().is_empty());
        })
        .await;
    }
}

#[tokio::test]
async fn a_nonce_that_the_peer_no_longer_knows_costs_a_request_without_body_nothing() {
    for between in BOTH {
        local(async {
            let mesh = Mesh::start(between).await;
            let ledger = mesh.serve("ledger", Dpop).await;
            assert_eq!(mesh.app.get("http://ledger.bank/a").await.status, 200);
            // As after a restart behind the same connection, which no real peer can do: the nonce alone is wrong.
            for peer in mesh.outbound.peers.borrow().values() {
                let mut headers = http::HeaderMap::new();
                headers.insert("dpop-nonce", http::HeaderValue::from_static("from-another-life"));
                peer.nonce.take_from(&mut headers, &mesh.shared.clock);
            }
            assert_eq!(mesh.app.call(get("http://ledger.bank/a")).await.status, 200);
            let refused = ledger.refused.borrow().values().sum::<u32>();
            assert_eq!(refused, 1, "{:?}", ledger.refused.borrow());
        })
        .await;
    }
}

#[tokio::test]
async fn n40_a_nonce_is_for_its_server_and_followed_but_not_for_ever() {
    for between in BOTH {
        local(async {
            let mesh = Mesh::start(between).await;
            let ledger = mesh.serve("ledger", Dpop).await;
            ledger.forgets_nonces.set(true);
            for _ in 0..5 {
                assert_eq!(mesh.app.get("http://ledger.bank/a").await.status, 200);
            }
            // The issuer asked for its own nonce; at the peer, those of good answers were used and no other.
            assert_eq!(mesh.issuer.forms.borrow().len(), 2);
            assert!(ledger.refused.borrow().is_empty(), "{:?}", ledger.refused.borrow());

            ledger.always_asks.set(true);
            let answer = mesh.app.get("http://ledger.bank/a").await;
            assert_eq!(answer.status, 401);
            assert!(answer.header("dpop-nonce").is_none() && answer.header("www-authenticate").is_none());
            assert_eq!(ledger.refused.borrow().values().sum::<u32>(), 2, "{:?}", ledger.refused.borrow());
            assert_eq!(mesh.issuer.issued.get(), 1, "the token is not what was wrong");
        })
        .await;
    }
}

#[tokio::test]
async fn n40_an_issuer_that_always_asks_for_a_nonce_is_asked_twice_at_a_time() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        *mesh.issuer.refuse.borrow_mut() = Some("use_dpop_nonce");
        mesh.serve("ledger", Dpop).await;
        let answer = mesh.app.get("http://ledger.bank/a").await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (503, "token_unavailable"));
        let failed = mesh.shared.metrics.tokens.failed.get();
        let asked = mesh.issuer.forms.borrow().len() as u64;
        // Another try may be on its way.
        assert!((2 * failed..=2 * failed + 2).contains(&asked) && failed > 0, "{asked} {failed}");
    })
    .await;
}

#[tokio::test]
async fn a_path_that_can_be_read_in_two_ways_gets_no_proof() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        mesh.serve("ledger", Dpop).await;
        let answer = mesh.app.get("http://ledger.bank/a//b").await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (400, "request_malformed"));
    })
    .await;
}
