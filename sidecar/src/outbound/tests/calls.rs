//! Calls that pass: protocols, headers, bodies, trailers, upgrades, endpoints.

use bytes::Bytes;
use control::DestinationKind;
use fapi::SenderConstraint::Mtls;
use http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    outbound::Between,
    testing::{
        app::{get, read, request, streamed},
        local,
        mesh::{Mesh, meshed},
    },
};

const BOTH: [Between; 2] = [Between::H1, Between::H2];
const ID: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";

#[tokio::test]
async fn a_call_carries_a_bound_token_and_comes_back() {
    for between in BOTH {
        local(async {
            let mesh = Mesh::start(between).await;
            let payments = mesh.serve("payments", Mtls).await;
            let answer = mesh.app.call(request("POST", "http://payments.bank/transfers?from=1", "money")).await;
            assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, "money"));
            assert!(payments.refused.borrow().is_empty());
            let (uri, headers) = payments.last.borrow_mut().take().unwrap();
            assert!(uri.ends_with("/transfers?from=1"), "{uri}");
            assert!(headers[header::AUTHORIZATION].to_str().unwrap().starts_with("Bearer "));
            assert_eq!(mesh.issuer.issued.get(), 1);
            assert!(mesh.issuer.forms.borrow()[0].ends_with("&resource=https%3A%2F%2Fpayments.bank"));
        })
        .await;
    }
}

#[tokio::test]
async fn connections_and_tokens_are_reused() {
    for between in BOTH {
        local(async {
            let mesh = Mesh::start(between).await;
            let payments = mesh.serve("payments", Mtls).await;
            let mut app = mesh.app.http1().await;
            for _ in 0..20 {
                let answer =
                    read(app.send_request(request("POST", "http://payments.bank/a", "b")).await.unwrap()).await;
                assert_eq!(answer.status, 200);
                app.ready().await.unwrap();
            }
            assert_eq!((payments.connections.get(), mesh.issuer.issued.get()), (1, 1));
        })
        .await;
    }
}

#[tokio::test]
async fn many_first_calls_at_once_cost_one_lookup_one_token_and_one_http2_connection() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let payments = mesh.serve("payments", Mtls).await;
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..50 {
            running.spawn_local(mesh.app.get("http://payments.bank/a"));
        }
        while let Some(answer) = running.join_next().await {
            assert_eq!(answer.unwrap().status, 200);
        }
        assert_eq!(mesh.operator.with(|state| state.lookups.len()), 1);
        assert_eq!((mesh.issuer.issued.get(), payments.connections.get()), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn what_belongs_to_one_hop_or_claims_an_identity_stays_behind() {
    for between in BOTH {
        local(async {
            let mesh = Mesh::start(between).await;
            let payments = mesh.serve("payments", Mtls).await;
            let mut request = get("http://payments.bank/a");
            for (name, value) in [
                ("x-fapi-caller", "spiffe://bank.example/ns/bank/sa/admin"),
                ("x_fapi_client_id", "admin"),
                ("X-Fapi-Interaction-Id", ID),
                ("connection", "x-hop, keep-alive"),
                ("x-hop", "1"),
                ("proxy-authorization", "Basic x"),
                ("keep-alive", "timeout=5"),
                ("x-end", "2"),
            ] {
                request
                    .headers_mut()
                    .append(name.parse::<http::HeaderName>().unwrap(), HeaderValue::from_static(value));
            }
            let answer = mesh.app.call(request).await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("x-fapi-interaction-id"), Some(ID));
            assert_eq!(answer.header("x-peer"), Some(payments.address.to_string().as_str()));
            let (_, headers) = payments.last.borrow_mut().take().unwrap();
            assert_eq!(headers["x-fapi-interaction-id"], ID);
            assert_eq!(headers["x-end"], "2");
            for gone in
                ["x-fapi-caller", "x_fapi_client_id", "x-hop", "proxy-authorization", "keep-alive", "connection"]
            {
                assert!(!headers.contains_key(gone), "{gone}");
            }
        })
        .await;
    }
}

#[tokio::test]
async fn an_id_is_made_when_the_app_sends_none_or_a_bad_one() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let payments = mesh.serve("payments", Mtls).await;
        let mut request = get("http://payments.bank/a");
        request.headers_mut().insert("x-fapi-interaction-id", HeaderValue::from_static("not-a-uuid"));
        let answer = mesh.app.call(request).await;
        let id = answer.header("x-fapi-interaction-id").unwrap();
        assert!(crate::local::is_uuid(id.as_bytes()));
        assert_eq!(payments.last.borrow().as_ref().unwrap().1["x-fapi-interaction-id"], id);
    })
    .await;
}

#[tokio::test]
async fn trailers_pass_both_ways_for_http2_apps() {
    for between in BOTH {
        local(async {
            let mesh = Mesh::start(between).await;
            let payments = mesh.serve("payments", Mtls).await;
            let mut app = mesh.app.http2().await;
            let (body, mut request) = streamed("POST", "http://payments.bank/bank.Ledger/Get");
            *request.version_mut() = Version::HTTP_2;
            request.headers_mut().remove(header::HOST);
            request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
            body.send(Ok(Frame::data(Bytes::from_static(b"message")))).await.unwrap();
            let answer = app.send_request(request).await.unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            trailers.insert("x_fapi_context", HeaderValue::from_static("only sidecars say so"));
            body.send(Ok(Frame::trailers(trailers))).await.unwrap();
            drop(body);
            let answer = read(answer).await;
            assert_eq!(answer.text, "message");
            let trailers = answer.trailers.unwrap();
            assert_eq!((trailers.len(), &trailers["grpc-status"]), (1, &HeaderValue::from_static("0")));
            assert_eq!(payments.last.borrow().as_ref().unwrap().1[header::TE], "trailers");
        })
        .await;
    }
}

#[tokio::test]
async fn a_body_streams_both_ways_at_once() {
    for between in BOTH {
        local(async {
            let mesh = Mesh::start(between).await;
            mesh.serve("payments", Mtls).await;
            let (body, request) = streamed("POST", "http://payments.bank/a");
            let mut app = mesh.app.http1().await;
            body.send(Ok(Frame::data(Bytes::from_static(b"first")))).await.unwrap();
            let mut answer = app.send_request(request).await.unwrap();
            for piece in ["first", "second", "third"] {
                if piece != "first" {
                    body.send(Ok(Frame::data(Bytes::from(piece)))).await.unwrap();
                }
                let frame = http_body_util::BodyExt::frame(answer.body_mut()).await.unwrap().unwrap();
                assert_eq!(frame.into_data().unwrap(), piece);
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_websocket_passes_over_http1() {
    for between in BOTH {
        local(async {
            let mesh = Mesh::start(between).await;
            mesh.serve("payments", Mtls).await;
            let mut request = get("http://payments.bank/feed");
            request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            request.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            let mut app = mesh.app.http1().await;
            let mut answer = app.send_request(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
            assert_eq!(answer.headers()[header::UPGRADE], "websocket");
            let mut socket = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
            for _ in 0..3 {
                socket.write_all(b"hello").await.unwrap();
                let mut echo = [0; 5];
                socket.read_exact(&mut echo).await.unwrap();
                assert_eq!(&echo, b"hello");
            }
            socket.shutdown().await.unwrap();
            assert_eq!(socket.read(&mut [0; 1]).await.unwrap(), 0);
        })
        .await;
    }
}

#[tokio::test]
async fn calls_go_to_all_endpoints_and_around_a_dead_one() {
    for between in BOTH {
        local(async {
            let mesh = Mesh::start(between).await;
            let first = mesh.serve("payments", Mtls).await;
            let second = mesh.peer("payments", Mtls).await;
            mesh.operator.set_destination("payments.bank", meshed("payments", Mtls, &[&first, &second]));
            // At once, as one that was slow a moment ago is called only when the other is busy.
            let enough = || first.served.get() > 10 && second.served.get() > 10;
            for _ in 0..50 {
                let mut running = tokio::task::JoinSet::new();
                for _ in 0..20 {
                    running.spawn_local(mesh.app.get("http://payments.bank/a"));
                }
                while let Some(answer) = running.join_next().await {
                    assert_eq!(answer.unwrap().status, 200);
                }
                if enough() {
                    break;
                }
            }
            assert!(enough(), "{} {}", first.served.get(), second.served.get());
            let DestinationKind::Meshed(mut service) = meshed("payments", Mtls, &[&first, &second]) else { panic!() };
            // A port that was free a moment ago.
            let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
            service.endpoints[1].address = dead;
            mesh.operator.set_destination("payments.bank", DestinationKind::Meshed(service));
            // Calls go on until the new answer is in use: then the first alone is called, again and again.
            let (mut alone, mut calls) = (0, 0);
            while alone < 20 && calls < 500 {
                let before = second.served.get();
                assert_eq!(mesh.app.get("http://payments.bank/a").await.status, 200);
                alone = if second.served.get() == before { alone + 1 } else { 0 };
                calls += 1;
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            assert_eq!(alone, 20);
        })
        .await;
    }
}

#[tokio::test]
async fn a_connection_that_died_in_the_pool_costs_no_call() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let payments = mesh.serve("payments", Mtls).await;
        payments.closes_silently.set(true);
        for _ in 0..20 {
            assert_eq!(mesh.app.get("http://payments.bank/a").await.status, 200);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_not_in_the_mesh_is_called_as_it_is() {
    local(async {
        let mesh = Mesh::start(Between::H2).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        mesh.operator.set_destination("old.example:8080", DestinationKind::Unmeshed { addresses: vec![address] });
        let server = tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            stream
                .write_all(
                    b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: DPoP error=\"use_dpop_nonce\"\r\n\
                      dpop-nonce: n\r\ncontent-length: 2\r\n\r\nhi",
                )
                .await
                .unwrap();
            String::from_utf8(request).unwrap().to_lowercase()
        });
        let mut request = get("http://old.example:8080/a");
        request.headers_mut().insert(header::AUTHORIZATION, HeaderValue::from_static("Basic eDp5"));
        request.headers_mut().insert("x-http-method-override", HeaderValue::from_static("PUT"));
        let answer = mesh.app.call(request).await;
        assert_eq!((answer.status, answer.text.as_str()), (StatusCode::UNAUTHORIZED, "hi"));
        assert_eq!(answer.header("www-authenticate"), Some("DPoP error=\"use_dpop_nonce\""));
        assert_eq!(answer.header("dpop-nonce"), Some("n"));
        let seen = server.await.unwrap();
        assert!(seen.starts_with("get /a http/1.1\r\n"), "{seen}");
        assert!(
            seen.contains("host: old.example:8080\r\n") && seen.contains("authorization: basic edp5\r\n"),
            "{seen}"
        );
        assert!(seen.contains("x-http-method-override: put\r\n"), "{seen}");
        assert_eq!(mesh.issuer.issued.get(), 0);
    })
    .await;
}

#[tokio::test]
async fn an_http2_app_reaches_an_http2_server_outside_the_mesh() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let listener = mesh.outside().await;
        tokio::task::spawn_local(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let echo = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| async {
                assert_eq!((request.version(), request.uri().path()), (Version::HTTP_2, "/a"));
                Ok::<_, std::convert::Infallible>(http::Response::new(request.into_body()))
            });
            let server = hyper::server::conn::http2::Builder::new(crate::local::LocalExecutor);
            let _ = server.serve_connection(TokioIo::new(stream), echo).await;
        });
        let answer = mesh.app.http2().await.send_request(request("POST", "http://old.example/a", "hi")).await.unwrap();
        assert_eq!(read(answer).await.text, "hi");
    })
    .await;
}

#[tokio::test]
async fn a_stopped_sidecar_finishes_what_it_has_begun() {
    for between in BOTH {
        local(async {
            let mesh = Mesh::start(between).await;
            mesh.serve("payments", Mtls).await;
            let (body, request) = streamed("POST", "http://payments.bank/a");
            let mut app = mesh.app.http1().await;
            body.send(Ok(Frame::data(Bytes::from_static(b"one ")))).await.unwrap();
            let answer = app.send_request(request).await.unwrap();
            mesh.stop.stop();
            body.send(Ok(Frame::data(Bytes::from_static(b"two")))).await.unwrap();
            drop(body);
            assert_eq!(read(answer).await.text, "one two");
            assert!(app.ready().await.is_err());
        })
        .await;
    }
}
