//! Calls that do not pass, each with its reason.

use std::time::Duration;

use control::DestinationKind;
use fapi::SenderConstraint::{Dpop, Mtls};
use http::{HeaderValue, Method, Version, header};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    outbound::Between,
    testing::{
        app::{get, read},
        authority::workload,
        local,
        mesh::{Mesh, meshed_as},
        peer::policy,
        until,
    },
};

const BOTH: [Between; 2] = [Between::H1, Between::H2];

#[tokio::test]
async fn the_proxy_says_how_it_wants_to_be_used() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let mut connect = get("http://payments.bank/");
        *connect.method_mut() = Method::CONNECT;
        *connect.uri_mut() = "payments.bank:443".parse().unwrap();
        for asked in [connect, get("/transfers"), get("https://payments.bank/"), get("http://me:secret@payments.bank/")]
        {
            let answer = mesh.app.call(asked).await;
            assert_eq!((answer.status.as_u16(), answer.error().as_str()), (400, "request_malformed"));
            assert!(answer.header("x-fapi-interaction-id").is_some());
        }
    })
    .await;
}

#[tokio::test]
async fn the_app_brings_no_credentials_of_its_own() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let payments = mesh.serve("payments", Mtls).await;
        for name in [header::AUTHORIZATION, http::HeaderName::from_static("dpop")] {
            let mut asked = get("http://payments.bank/a");
            asked.headers_mut().insert(name, HeaderValue::from_static("Bearer x"));
            let answer = mesh.app.call(asked).await;
            assert_eq!((answer.status.as_u16(), answer.error().as_str()), (400, "app_authorization_present"));
        }
        assert_eq!(payments.served.get(), 0);
    })
    .await;
}

#[tokio::test]
async fn nobody_knows_the_destination() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        mesh.operator.set_destination("nobody.bank", DestinationKind::Unmeshed { addresses: vec![] });
        for url in ["http://unknown.bank/", "http://nobody.bank/"] {
            let answer = mesh.app.get(url).await;
            assert_eq!((answer.status.as_u16(), answer.error().as_str()), (503, "destination_unknown"));
        }
        mesh.operator.with(|state| state.mute = true);
        let answer = mesh.app.get("http://silent.bank/").await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (503, "destination_unknown"));
    })
    .await;
}

#[tokio::test]
async fn what_is_outside_is_not_called_where_the_mesh_refuses_it() {
    for between in BOTH {
        local(async {
            let mesh = Mesh::start(between).await;
            mesh.operator.set_destination("old.example", DestinationKind::Refused);
            let mut http2 = get("http://old.example/a");
            *http2.version_mut() = Version::HTTP_2;
            let answer = read(mesh.app.http2().await.send_request(http2).await.unwrap()).await;
            for answer in [mesh.app.get("http://old.example/a").await, answer] {
                assert_eq!((answer.status.as_u16(), answer.error().as_str()), (503, "destination_unmeshed"));
            }
            assert_eq!(mesh.shared.metrics.unmeshed.get(), 0);
        })
        .await;
    }
}

#[tokio::test]
async fn another_workload_at_the_address_is_not_called() {
    for between in BOTH {
        local(async {
            let mesh = Mesh::start(between).await;
            let thief = mesh.peer("thief", Mtls).await;
            let destination = meshed_as("payments", &workload("payments"), Mtls, &[&thief]);
            mesh.operator.set_destination("payments.bank", destination);
            let answer = mesh.app.get("http://payments.bank/a").await;
            assert_eq!((answer.status.as_u16(), answer.error().as_str()), (503, "peer_identity_mismatch"));
            assert_eq!(thief.served.get(), 0);
        })
        .await;
    }
}

#[tokio::test]
async fn a_meshed_destination_is_never_called_in_plaintext() {
    for between in BOTH {
        local(async {
            let mesh = Mesh::start(between).await;
            let payments = mesh.serve("payments", Mtls).await;
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let DestinationKind::Meshed(mut service) = meshed_as("payments", &workload("payments"), Mtls, &[&payments])
            else {
                panic!()
            };
            service.endpoints[0].address = listener.local_addr().unwrap();
            mesh.operator.set_destination("payments.bank", DestinationKind::Meshed(service));
            let server = tokio::task::spawn_local(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut first = [0; 1];
                stream.read_exact(&mut first).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                first[0]
            });
            let answer = mesh.app.get("http://payments.bank/a").await;
            assert_eq!((answer.status.as_u16(), answer.error().as_str()), (503, "connect_failed"));
            assert_eq!(server.await.unwrap(), 22, "a TLS handshake record");
        })
        .await;
    }
}

#[tokio::test]
async fn what_the_issuer_does_not_grant_is_told_apart_from_what_it_cannot_do_now() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        mesh.serve("payments", Mtls).await;
        for (error, status, reason) in [
            ("invalid_target", 403, "not_granted"),
            ("invalid_scope", 403, "not_granted"),
            ("access_denied", 403, "not_granted"),
            ("invalid_client", 503, "token_unavailable"),
            ("", 503, "token_unavailable"),
        ] {
            *mesh.issuer.refuse.borrow_mut() = Some(error);
            // Until the answer before is forgotten.
            let mut answer = mesh.app.get("http://payments.bank/a").await;
            for _ in 0..100 {
                if answer.error() == reason {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                answer = mesh.app.get("http://payments.bank/a").await;
            }
            assert_eq!((answer.status.as_u16(), answer.error().as_str()), (status, reason), "{error}");
        }
        *mesh.issuer.refuse.borrow_mut() = None;
        let mut status = 0;
        for _ in 0..100 {
            status = mesh.app.get("http://payments.bank/a").await.status.as_u16();
            if status == 200 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(status, 200);
    })
    .await;
}

#[tokio::test]
async fn a_token_that_is_not_bound_to_us_is_never_sent() {
    for constraint in [Mtls, Dpop] {
        local(async {
            let mesh = Mesh::start(Between::H1).await;
            mesh.issuer.unbound.set(true);
            let payments = mesh.serve("payments", constraint).await;
            let answer = mesh.app.get("http://payments.bank/a").await;
            assert_eq!((answer.status.as_u16(), answer.error().as_str()), (503, "token_unavailable"));
            assert_eq!(payments.served.get() + payments.connections.get(), 0);
        })
        .await;
    }
}

#[tokio::test]
async fn a_refusal_of_the_peer_comes_without_its_challenge_and_brings_a_new_token() {
    for between in BOTH {
        local(async {
            let mesh = Mesh::start(between).await;
            let payments = mesh.serve("payments", Mtls).await;
            assert_eq!(mesh.app.get("http://payments.bank/a").await.status, 200);
            let own = payments.set_policy(policy("payments", "https://other.example", &[&workload("shop")], &[Mtls]));
            let answer = mesh.app.get("http://payments.bank/a").await;
            assert_eq!(answer.status, 401);
            assert!(answer.header("www-authenticate").is_none());
            assert_eq!(answer.text, "{\"error\":\"refused\"}");
            until("another token is fetched", || mesh.issuer.issued.get() == 2).await;
            payments.set_policy(own);
            assert_eq!(mesh.app.get("http://payments.bank/a").await.status, 200);
        })
        .await;
    }
}

#[tokio::test]
async fn without_a_token_the_server_decides() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let payments = mesh.serve("payments", Mtls).await;
        let DestinationKind::Meshed(mut service) = meshed_as("payments", &workload("payments"), Mtls, &[&payments])
        else {
            panic!()
        };
        service.token = None;
        mesh.operator.set_destination("payments.bank", DestinationKind::Meshed(service));
        assert_eq!(mesh.app.get("http://payments.bank/a").await.status, 401);
        assert_eq!(payments.refused.borrow()["token_missing"], 1);
        assert_eq!(mesh.issuer.issued.get(), 0);
    })
    .await;
}
